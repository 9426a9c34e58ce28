from __future__ import annotations

import numpy as np
import pytest
from enginegate.gates.sequential import SpeedPolicy, decide_many, fail_level, next_look, pass_level
from enginegate.gates.sessions import Anchor, ShiftPrior, combine
from enginegate.gates.spending import nominal_levels, spent
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

LOOKS = (6, 10, 16, 24, 40)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("total", [0.05, 0.01])
def test_looking_five_times_costs_what_was_planned(total: float, early: bool) -> None:
    sums = np.random.default_rng(11).standard_normal((60_000, 40)).cumsum(axis=1)
    crossed = np.zeros(len(sums), dtype=bool)
    for index, look in enumerate(LOOKS):
        level = nominal_levels(LOOKS[: index + 1], 40, total, final=look == 40, early=early)[-1]
        crossed |= sums[:, look - 1] / np.sqrt(look) > -ndtri(level)
    low, high = stats.binomtest(int(crossed.sum()), len(sums)).proportion_ci(0.999)
    assert low <= total <= high


@settings(max_examples=15)
@given(st.floats(1e-5, 0.2), st.booleans())
def test_every_level_lies_between_its_share_and_the_total(total: float, early: bool) -> None:
    levels = nominal_levels(LOOKS, 40, total, final=True, early=early)
    assert all(0 < level <= total for level in levels)
    assert sum(levels) >= total * (1 - 1e-6)  # looks overlap, so their levels add up to more than they cost


def test_one_look_gets_everything() -> None:
    assert nominal_levels((40,), 40, 0.01, final=True, early=True) == (pytest.approx(0.01),)


def test_an_early_end_gets_what_is_left() -> None:
    policy = SpeedPolicy()
    assert pass_level(13, policy, final=True) > pass_level(13, policy, final=False)
    assert fail_level(13, policy, final=True) > 2 * fail_level(13, policy, final=False)


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_spending_grows_and_ends_at_the_total(first: float, second: float, early: bool) -> None:
    low, high = sorted((first, second))
    assert spent(low, 0.05, early=early) <= spent(high, 0.05, early=early)
    assert spent(1.0, 0.05, early=early) == pytest.approx(0.05)
    assert spent(0.0, 0.05, early=early) == 0.0


def test_fail_is_spent_later_than_pass() -> None:
    policy = SpeedPolicy(alpha=0.05, beta=0.05)
    assert fail_level(6, policy, final=False) < pass_level(6, policy, final=False)
    assert fail_level(40, policy, final=True) > pass_level(40, policy, final=True)


def test_next_look() -> None:
    policy = SpeedPolicy()
    assert [next_look(count, policy) for count in (0, 6, 7, 39, 40, 60)] == [6, 10, 10, 40, None, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": 0.1, "tolerated": 0.05},
        {"margin": -0.1},
        {"alpha": 0.0},
        {"beta": 0.6},
        {"looks": ()},
        {"looks": (3, 10)},
        {"looks": (10, 6)},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\d|looks"):
        SpeedPolicy(**wrong)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.1), st.floats(0.0, 0.1))
def test_a_slower_engine_is_never_judged_better(seed: int, first: float, second: float) -> None:
    samples = np.random.default_rng(seed).normal(0.0, 0.02, (1, 16))
    policy = SpeedPolicy(looks=(16,))
    low, high = sorted((first, second))
    order = {1: 0, 0: 1, 2: 2}
    faster, slower = (decide_many(samples - shift, Anchor(0.0), policy).status[0] for shift in (low, high))
    assert order[int(faster)] <= order[int(slower)]


def test_one_session_takes_its_shift_from_the_prior_and_more_sessions_from_themselves() -> None:
    prior = ShiftPrior(0.01, 4.0)
    one = combine(np.array([0.5]), np.array([0.002]), 10.0, prior)
    assert float(one.shift) == pytest.approx(0.01 * np.sqrt(2))
    assert one.shift_df == 4.0
    assert float(one.error) == pytest.approx(0.002)
    assert float(one.error_df) == pytest.approx(10.0)
    estimates = np.random.default_rng(0).normal(0.5, 0.03, 200)
    many = combine(estimates, np.full(200, 0.002), 10.0, prior)
    assert float(many.shift) == pytest.approx(0.03, rel=0.15)
    assert many.shift_df == 203.0
    assert float(many.error_df) == pytest.approx(2000.0)


def test_the_noise_of_the_blocks_is_not_counted_as_shift_between_sessions() -> None:
    generator = np.random.default_rng(1)
    noisy = combine(generator.normal(0.5, 0.02, (500, 10)), np.full((500, 10), 0.02), 10.0, ShiftPrior(0.0, 1.0))
    assert float(np.median(noisy.shift)) < 0.01
