from __future__ import annotations

import numpy as np
import pytest
from enginegate.gates.family import holm, split_alpha
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_split_budget_adds_up() -> None:
    assert split_alpha(0.01, 1) == 0.01
    assert 60 * split_alpha(0.01, 60) == pytest.approx(0.01)


@pytest.mark.parametrize(("budget", "gates"), [(0.0, 3), (1.0, 3), (-0.1, 3), (0.01, 0), (0.01, -1)])
def test_a_budget_that_cannot_be_split_is_refused(budget: float, gates: int) -> None:
    with pytest.raises(ValueError, match="budget"):
        split_alpha(budget, gates)


def test_holm_by_hand() -> None:
    # ordered .005 .01 .03 .04 against .0125 .0167 .025: the first two go, .03 stops it
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]


@given(p_values)
def test_holm_rejects_what_splitting_rejects_and_more(values: list[float]) -> None:
    split = [value <= split_alpha(0.05, len(values)) for value in values]
    assert all(by_holm or not by_split for by_holm, by_split in zip(holm(values, 0.05), split, strict=True))


@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order(values: list[float], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = holm([values[index] for index in order], 0.05)
    assert [holm(values, 0.05)[index] for index in order] == shuffled


def test_the_family_errs_at_most_as_budgeted() -> None:
    values = np.random.default_rng(0).uniform(size=(4000, 20))
    alarms = sum(any(holm(list(row), 0.05)) for row in values)
    assert stats.binomtest(alarms, 4000, 0.05, alternative="greater").pvalue > 1e-4
    assert stats.binomtest(alarms, 4000, 0.035, alternative="less").pvalue > 1e-4


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_p_value_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, bad], 0.05)
