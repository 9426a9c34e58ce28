from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from enginegate.core.errors import MeasurementError
from enginegate.gates.audit import audit, one_line, power_warning, restore, sees
from enginegate.gates.sequential import FAILED, SpeedPolicy, decide_many
from enginegate.gates.sessions import Anchor
from scipy import stats

POLICY = SpeedPolicy(margin=0.02, tolerated=0.06)


def aa(noise: float, count: int = 120, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(0.0, noise, count))


def test_a_quiet_machine_is_certified() -> None:
    result = audit(aa(0.008), POLICY, resamples=800)
    assert result.false_alarms.value == 0.0
    assert result.unchanged_passes.value > 0.99
    assert [power.slowdown for power in result.powers] == [0.02, 0.03, 0.05, 0.08, 0.10, 0.15]
    assert sees(result, 0.08)
    assert sees(result, 0.15)
    assert not sees(result, 0.02)
    assert result.mean_blocks < 10
    assert one_line(result).startswith("this gate on this machine: 0.0 % false alarms, sees ")


def test_an_audit_survives_json() -> None:
    result = audit(aa(0.02), POLICY, resamples=200)
    assert restore(json.loads(json.dumps(asdict(result)))) == result


def test_a_gate_that_cannot_see_what_it_must_not_pass_says_so() -> None:
    assert power_warning(audit(aa(0.008), POLICY, resamples=200), POLICY) is None
    warning = power_warning(audit(aa(0.3), POLICY, resamples=200), POLICY)
    assert warning is not None
    assert "6 %" in warning


def test_a_loud_machine_is_told_so() -> None:
    result = audit(aa(0.3), POLICY, resamples=400)
    assert not sees(result, 0.10)
    assert "does not see even 15 %" in one_line(result)


def test_the_audit_tells_the_power_that_fresh_samples_have() -> None:
    """The bootstrap of one long A/A session against new sessions from the same law."""
    measured = aa(0.03, count=2000)
    result = audit(measured, POLICY, slowdowns=(0.05,), resamples=2000, block_length=2)
    fresh = np.random.default_rng(5).normal(0.0, np.std(measured), (4000, 40)) - np.log1p(0.05)
    power = float(np.mean(decide_many(fresh, Anchor(0.0), POLICY).status == FAILED))
    assert result.powers[0].fails.value == pytest.approx(power, abs=0.06)


def test_rates_come_with_their_interval() -> None:
    result = audit(aa(0.03), POLICY, resamples=400)
    for power in result.powers:
        hits = round(power.fails.value * 400)
        oracle = stats.binomtest(hits, 400).proportion_ci(0.95, "wilson")
        assert power.fails.interval == pytest.approx((oracle.low, oracle.high))


def test_power_grows_with_the_slowdown() -> None:
    result = audit(aa(0.03), POLICY, resamples=600)
    values = [power.fails.value for power in result.powers]
    assert all(later >= earlier - 0.05 for earlier, later in pairwise(values))
    assert values[-1] > values[0]


def test_the_audit_is_seeded() -> None:
    assert audit(aa(0.03), POLICY, resamples=200) == audit(aa(0.03), POLICY, resamples=200)
    assert audit(aa(0.03), POLICY, resamples=200, seed=1) != audit(aa(0.03), POLICY, resamples=200)


def test_sessions_that_shift_cost_power_against_stored_baselines() -> None:
    sessions = [[value + shift for value in aa(0.01, 80, seed)] for seed, shift in enumerate((-0.02, 0.0, 0.02))]
    live = audit(sessions[1], POLICY, resamples=400)
    stored = audit(sessions, POLICY, resamples=400, baseline_sessions=3)
    assert stored.powers[3].fails.value < live.powers[3].fails.value - 0.2
    assert stored.false_alarms.value <= 0.02
    assert stored.baseline_sessions == 3


def test_an_unfair_arena_is_said() -> None:
    result = audit([value + 0.03 for value in aa(0.01)], POLICY, resamples=200)
    assert any("the arena is not fair" in warning for warning in result.warnings)
    assert not any("not fair" in warning for warning in audit(aa(0.01), POLICY, resamples=200).warnings)
    assert result.offset[0] == pytest.approx(0.03, abs=0.005)


def test_correlated_blocks_are_resampled_in_longer_runs_and_reported() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 400)
    for index in range(1, 400):
        noise[index] += 0.7 * noise[index - 1]
    result = audit(noise, POLICY, resamples=300)
    independent = audit(aa(0.02, 400), POLICY, resamples=300)
    assert result.autocorrelation > 0.5
    assert result.block_length > independent.block_length
    assert result.block_length % 2 == 0
    told = audit(noise, replace(POLICY, correlation=result.autocorrelation), resamples=300)
    assert told.mean_blocks > result.mean_blocks


def test_each_resampled_ratio_keeps_the_order_in_which_it_was_taken() -> None:
    """By parity an order effect of 5 % was noise of 5 %, and the gate looked blind on a quiet machine."""
    order = [1, -1, -1, 1] * 30
    uneven = [value + 0.05 * turn for value, turn in zip(aa(0.01), order, strict=True)]
    quiet = audit(aa(0.01), POLICY, orders=[order], resamples=300, block_length=2)
    told = audit(uneven, POLICY, orders=[order], resamples=300, block_length=2)
    guessed = audit(uneven, POLICY, resamples=300, block_length=2)
    for name in ("autocorrelation", "mean_blocks"):
        assert getattr(told, name) == pytest.approx(getattr(quiet, name))
    assert [power.fails for power in told.powers] == [power.fails for power in quiet.powers]
    assert sees(told, 0.05)
    assert not sees(guessed, 0.05)
    stored = audit([uneven, uneven], POLICY, orders=[order, order], resamples=300, baseline_sessions=2)
    assert sees(stored, 0.08)


def test_an_order_for_another_number_of_sessions_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        audit([aa(0.01), aa(0.01)], POLICY, orders=[[1, -1] * 60])


@pytest.mark.parametrize("bad", [[0.1] * 7, [float("nan")] * 40, [0.0, 0.1, float("inf")] * 10])
def test_too_few_or_broken_blocks_are_refused(bad: list[float]) -> None:
    with pytest.raises(MeasurementError, match="at least 8 finite"):
        audit(bad, POLICY)


@pytest.mark.parametrize("length", [1, 3, 500])
def test_a_block_length_that_would_break_the_order_is_refused(length: int) -> None:
    with pytest.raises(MeasurementError, match="block length"):
        audit(aa(0.01), POLICY, block_length=length)
