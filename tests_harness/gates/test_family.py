from __future__ import annotations

import numpy as np
import pytest
from enginegate.gates.family import split_alpha
from scipy import stats


def test_a_split_budget_adds_up() -> None:
    assert split_alpha(0.01, 1) == 0.01
    assert 60 * split_alpha(0.01, 60) == pytest.approx(0.01)


@pytest.mark.parametrize(("budget", "gates"), [(0.0, 3), (1.0, 3), (-0.1, 3), (0.01, 0), (0.01, -1)])
def test_a_budget_that_cannot_be_split_is_refused(budget: float, gates: int) -> None:
    with pytest.raises(ValueError, match="budget"):
        split_alpha(budget, gates)


@pytest.mark.parametrize("gates", [1, 5, 20])
def test_the_family_errs_at_most_as_budgeted(gates: int) -> None:
    values = np.random.default_rng(0).uniform(size=(4000, gates))
    alarms = int(np.sum(np.any(values <= split_alpha(0.05, gates), axis=1)))
    assert stats.binomtest(alarms, 4000, 0.05, alternative="greater").pvalue > 1e-4
    assert stats.binomtest(alarms, 4000, 0.035, alternative="less").pvalue > 1e-4
