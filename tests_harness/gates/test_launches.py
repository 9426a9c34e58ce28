"""The gate of a live base: launches are what is counted, and its error rates hold where they do not spread alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.gates.launches import (
    LAUNCH_LOOKS,
    LAUNCH_SPREAD,
    Launch,
    decide_launches,
    faster_half,
    judge_launches,
    locate_launches,
    replay_launches,
    resample_launches,
)
from enginegate.gates.robust import locate
from enginegate.gates.sequential import FAILED, PASSED, UNDECIDED, SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.gates.verdict import Status

#: A session of 42 gates that may raise a false alarm once in a hundred.
ALPHA = 0.01 / 42
POLICY = SpeedPolicy(margin=0.02, tolerated=0.05, alpha=ALPHA, looks=LAUNCH_LOOKS, shift=LAUNCH_SPREAD)


def launch(slower: float, pairs: int = 8, noise: float = 0.0, order_effect: float = 0.0, seed: int = 0) -> Launch:
    """A launch in which the head takes ``slower`` more time; ``order_effect``: on the first of each pair."""
    rng = np.random.default_rng(seed)
    times = math.log(0.2) + noise * rng.standard_normal((2, pairs))
    times[0, ::2] += order_effect
    times[1, 1::2] += order_effect
    return Launch(tuple(times[0]), tuple(times[1] + math.log1p(slower)))


def test_the_faster_half_does_not_mind_what_slows_the_other():
    """A third of the rounds take up to 20 % longer, as on a host with neighbours; the engines are equal."""
    rng = np.random.default_rng(4)

    def numbers(take) -> float:
        found = []
        for _ in range(300):
            quiet = 0.002 * rng.standard_normal((2, 24))
            slowed = np.where(rng.random((2, 24)) < 0.33, 0.2 * rng.random((2, 24)), 0.0)
            found.append(take(*(quiet + slowed)))
        return float(np.std(found))

    halves = numbers(lambda base, head: Launch(tuple(base), tuple(head)).number)
    trimmed = numbers(lambda base, head: float(locate(base - head).estimate))
    assert halves < 0.002 < 5 * halves < trimmed


def test_the_error_of_a_faster_half_is_what_it_scatters_by():
    rng = np.random.default_rng(5)
    halves = [faster_half(times) for times in 0.05 * rng.standard_normal((4000, 24))]
    assert np.std([half.estimate for half in halves]) == pytest.approx(
        np.mean([half.error for half in halves]), rel=0.1
    )


def simulate(
    slower: float, spread: float, series: int, policy: SpeedPolicy = POLICY, seed: int = 1
) -> dict[int, float]:
    """Share of simulated races that end in each status; ``spread``: of a launch's number."""
    rng = np.random.default_rng(seed)
    numbers = -np.log1p(slower) + spread * rng.standard_normal((series, policy.looks[-1]))
    status = decide_launches(numbers, policy).status
    return {outcome: float(np.mean(status == outcome)) for outcome in (PASSED, FAILED, UNDECIDED)}


def judged(launches: list[Launch], **options: object) -> object:
    return replay_launches(launches, POLICY, metric="speedup", subject="int8 b1", base="base", **options)  # type: ignore[arg-type]


def test_the_variance_is_moderated_and_the_prior_counts_less_where_the_launches_deny_it():
    numbers = np.array([0.0, 0.01, -0.01, 0.02])
    own, prior = numbers.var(ddof=1), ShiftPrior(0.015, 4.0)
    calm = locate_launches(numbers, prior)
    assert float(calm.error) ** 2 * 4 == pytest.approx((4 * 0.015**2 + 3 * own) / 7)
    assert float(calm.df) == 7
    wild = locate_launches(10 * numbers, prior)
    weight = 4 * 0.015**2 / (100 * own)
    assert float(wild.df) == pytest.approx(weight + 3)
    assert float(wild.error) ** 2 * 4 == pytest.approx((weight * 0.015**2 + 300 * own) / (weight + 3))
    assert np.isfinite(float(locate_launches(np.zeros(4), prior).error))


@pytest.mark.parametrize("spread", [0.007, 0.014])
def test_a_false_alarm_is_rarer_than_stated_up_to_the_spread_that_is_believed(spread):
    """At the margin itself, where it is likeliest."""
    policy = SpeedPolicy(margin=0.02, tolerated=0.05, alpha=0.01, looks=LAUNCH_LOOKS, shift=LAUNCH_SPREAD)
    assert simulate(0.02, spread, 40_000, policy)[FAILED] < 0.01
    assert simulate(0.05, spread, 40_000, policy)[PASSED] < 0.05


def test_a_spread_of_twice_what_is_believed_costs_less_than_twice_the_alpha():
    policy = SpeedPolicy(margin=0.02, tolerated=0.05, alpha=0.01, looks=LAUNCH_LOOKS, shift=LAUNCH_SPREAD)
    outcome = simulate(0.02, 2 * LAUNCH_SPREAD.scale, 40_000, policy)
    assert 0.005 < outcome[FAILED] < 0.02
    assert simulate(0.05, 2 * LAUNCH_SPREAD.scale, 40_000, policy)[PASSED] < 0.10


def test_unchanged_engines_pass_and_five_percent_fails_with_launches_that_spread_by_a_percent():
    both = 0.01 * math.sqrt(2)
    assert simulate(0.0, both, 4_000)[PASSED] > 0.99
    assert simulate(0.05, both, 4_000)[FAILED] > 0.9
    assert simulate(0.10, both, 4_000)[FAILED] > 0.999


def test_resampled_launches_have_the_power_of_those_that_they_were_drawn_from():
    spread = 0.014
    numbers = spread * np.random.default_rng(5).standard_normal(200)
    drawn = {each.slowdown: each for each in resample_launches(numbers, POLICY, (0.0, 0.02, 0.05, 0.1))}
    assert drawn[0.0].fails == 0
    assert drawn[0.0].passes > 0.99
    assert drawn[0.02].fails <= 0.002
    assert drawn[0.05].fails == pytest.approx(simulate(0.05, spread, 4_000)[FAILED], abs=0.05)
    assert drawn[0.1].fails > 0.999
    assert drawn[0.0].mean_launches < drawn[0.05].mean_launches


def test_launches_count_and_not_their_rounds():
    """A thousand rounds of two launches that differ are two numbers, and decide nothing."""
    few = [launch(0.06, 500, 0.01, seed=1), launch(0.03, 500, 0.01, seed=2)]
    verdict = judged(few)
    assert verdict.status is Status.INCONCLUSIVE
    assert "only 2 launches, fewer than the 4" in verdict.explanation


def test_the_order_of_a_pair_is_taken_out():
    verdict = judged([launch(0.0, order_effect=0.05) for _ in range(4)])
    assert verdict.status is Status.PASS
    assert verdict.estimate == pytest.approx(1.0, abs=1e-9)


def test_ten_percent_fails_and_says_over_what():
    verdict = judged([launch(0.10, noise=0.01, seed=seed) for seed in range(4)])
    assert verdict.status is Status.FAIL
    assert "over base: slower by" in verdict.explanation
    assert "more than the 2 % margin" in verdict.explanation
    assert verdict.samples == 4


def test_what_lies_between_the_margins_is_left_open_and_says_what_it_could_have_seen():
    verdict = judged([launch(0.045, noise=0.06, seed=seed) for seed in range(6)])
    assert verdict.status is Status.INCONCLUSIVE
    assert "after 6 launches the slowdown lies between" in verdict.explanation
    assert verdict.smallest_visible is not None


def test_between_looks_nothing_is_said():
    launches = [launch(0.2) for _ in range(5)]
    assert judge_launches(launches, POLICY, metric="itl", subject="", base="base", final=False) is None


def test_what_cannot_be_measured_does_not_pass():
    assert judged([]).status is Status.FAIL
    assert judged([*[launch(0.0)] * 3, Launch((math.nan,) * 4, (0.0,) * 4)]).status is Status.FAIL
    assert judged([launch(0.0)] * 4, invalid="the card throttled").status is Status.INCONCLUSIVE


def test_what_slows_fewer_than_half_of_the_rounds_is_not_passed():
    """45 % of the head's rounds take a fifth longer: the faster half does not show it, all rounds do."""
    rng = np.random.default_rng(11)

    def partly_slow() -> Launch:
        base, head = 0.005 * rng.standard_normal((2, 20))
        head[:9] += math.log(1.2)
        return Launch(tuple(base), tuple(head))

    launches = [partly_slow() for _ in range(16)]
    assert judge_launches(launches[:4], POLICY, metric="itl", subject="", base="base", final=False) is None
    verdict = judged(launches)
    assert verdict.status is Status.INCONCLUSIVE
    assert "by all of them it is slower by" in verdict.explanation


def test_noise_in_the_slower_half_of_both_does_not_keep_from_passing():
    rng = np.random.default_rng(12)

    def noisy() -> Launch:
        times = 0.005 * rng.standard_normal((2, 20)) + np.where(rng.random((2, 20)) < 0.4, 0.2, 0.0)
        return Launch(tuple(times[0]), tuple(times[1]))

    assert judged([noisy() for _ in range(8)]).status is Status.PASS


@pytest.mark.parametrize("slower", [0.0, 0.025, 0.039, 0.06])
def test_a_race_that_was_decided_is_replayed_as_it_was_decided(slower: float):
    launches = [launch(slower, noise=0.004, seed=seed) for seed in range(4)]
    live = judge_launches(launches, POLICY, metric="itl", subject="", base="base", final=False)
    if live is not None:
        assert replay_launches(launches, POLICY, metric="itl", subject="", base="base").status is live.status
    else:
        assert replay_launches(launches, POLICY, metric="itl", subject="", base="base").samples == 4
