"""The stated error rates, by simulation. A rate that should be at most p fails the test only where a binomial test at
1e-4 rejects it, so a sound gate fails about one run in ten thousand whatever the seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from enginegate.gates.robust import locate
from enginegate.gates.sequential import FAILED, PASSED, SpeedPolicy, decide_many
from enginegate.gates.sessions import Anchor, combine
from enginegate.measure.order import block_order
from numpy.typing import NDArray
from scipy import stats

LIVE = SpeedPolicy(margin=0.02, tolerated=0.06)
STORED = SpeedPolicy()
COUNT = 4000
NOISES = ("1 %", "3 %", "10 %", "outliers", "order", "arena")
#: Two of four engines, in an arena's blocks.
ROWS = [block_order([("reference",), ("candidate",), ("third",), ("fourth",)], block) for block in range(40)]
ORDER = np.array([1.0 if row.index("reference") < row.index("candidate") else -1.0 for row in ROWS])


def draw(noise: str, count: int, seed: int, *, shift: float = 0.0) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    spread = {"1 %": 0.01, "10 %": 0.10}.get(noise, 0.03)
    rounds = spread * generator.standard_normal((2, count, 40))
    if noise == "outliers":
        rounds += (generator.random(rounds.shape) < 0.05) * np.log1p(generator.uniform(0.2, 1.0, rounds.shape))
    ratios = rounds[0] - rounds[1] + shift * generator.standard_normal((count, 1))
    if noise == "order":
        ratios += np.where(np.arange(40) % 2 == 0, 0.04, -0.04)
    if noise == "arena":  # running first costs 4 %, and so does running right after the third engine
        ratios += 0.04 * ORDER + 0.04 * (_after("reference", "third") - _after("candidate", "third"))
    return np.asarray(ratios)


def _after(name: str, before: str) -> NDArray[np.float64]:
    return np.array([float((before, name) in pairwise(row)) for row in ROWS])


def order_of(noise: str) -> NDArray[np.float64] | None:
    """What the gate is told of the order of the blocks."""
    return ORDER if noise == "arena" else None


def at_most(hits: int, count: int, rate: float) -> bool:
    return bool(stats.binomtest(hits, count, rate, alternative="greater").pvalue > 1e-4)


def at_least(hits: int, count: int, rate: float) -> bool:
    return bool(stats.binomtest(hits, count, rate, alternative="less").pvalue > 1e-4)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("policy", [LIVE, STORED, replace(LIVE, alpha=0.05)])
def test_false_alarms_stay_under_alpha_even_at_the_edge_of_the_margin(noise: str, policy: SpeedPolicy) -> None:
    samples = draw(noise, COUNT, 1) - np.log1p(policy.margin)
    outcome = decide_many(samples, Anchor(0.0), policy, order=order_of(noise))
    assert at_most(int(np.sum(outcome.status == FAILED)), COUNT, policy.alpha)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("policy", [LIVE, STORED])
def test_a_slowdown_that_must_not_pass_passes_at_most_beta(noise: str, policy: SpeedPolicy) -> None:
    samples = draw(noise, COUNT, 2) - np.log1p(policy.tolerated)
    outcome = decide_many(samples, Anchor(0.0), policy, order=order_of(noise))
    assert at_most(int(np.sum(outcome.status == PASSED)), COUNT, policy.beta)


def test_the_stated_goals() -> None:
    outliers = draw("outliers", COUNT, 3)
    fails = [
        int(np.sum(decide_many(outliers - np.log1p(slower), Anchor(0.0), LIVE).status == FAILED))
        for slower in (0.0, 0.05, 0.08)
    ]
    assert at_most(fails[0], COUNT, 0.01)
    assert at_least(fails[1], COUNT, 0.60)
    assert at_least(fails[2], COUNT, 0.95)
    quiet = decide_many(draw("1 %", COUNT, 4), Anchor(0.0), LIVE)
    assert quiet.blocks.mean() < 10
    assert at_least(int(np.sum(quiet.status == PASSED)), COUNT, 0.99)


@pytest.mark.parametrize("sessions", [1, 3, 10])
@pytest.mark.parametrize("shift", [0.003, 0.01])
def test_stored_sessions_allow_for_the_shift_between_sessions(sessions: int, shift: float) -> None:
    count = 2500
    stored = locate(draw("3 %", count * sessions, 5, shift=shift))
    shape = (count, sessions)
    anchor = combine(stored.estimate.reshape(shape), stored.error.reshape(shape), float(stored.df), STORED.shift)
    fresh = draw("3 %", count, 6, shift=shift)
    same = decide_many(fresh, anchor, STORED).status
    edge = decide_many(fresh - np.log1p(STORED.margin), anchor, STORED).status
    slow = decide_many(fresh - np.log1p(STORED.tolerated), anchor, STORED).status
    assert at_most(int(np.sum(same == FAILED)), count, 0.001)
    assert at_most(int(np.sum(edge == FAILED)), count, STORED.alpha)
    assert at_most(int(np.sum(slow == PASSED)), count, STORED.beta)


def test_a_shift_beyond_the_prior_is_still_no_false_alarm_once_sessions_show_it() -> None:
    count, sessions = 2500, 10
    stored = locate(draw("1 %", count * sessions, 7, shift=0.03))
    shape = (count, sessions)
    anchor = combine(stored.estimate.reshape(shape), stored.error.reshape(shape), float(stored.df), STORED.shift)
    outcome = decide_many(draw("1 %", count, 8, shift=0.03), anchor, STORED)
    assert at_most(int(np.sum(outcome.status == FAILED)), count, 0.01)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_correlated_blocks_are_safe_where_the_audit_told_of_them(correlation: float) -> None:
    generator = np.random.default_rng(9)
    noise = generator.standard_normal((COUNT, 40))
    for index in range(1, 40):
        noise[:, index] = correlation * noise[:, index - 1] + np.sqrt(1 - correlation**2) * noise[:, index]
    policy = replace(STORED, correlation=correlation)
    same = decide_many(0.04 * noise, Anchor(0.0), policy).status
    edge = decide_many(0.04 * noise - np.log1p(policy.margin), Anchor(0.0), policy).status
    assert at_most(int(np.sum(same == FAILED)), COUNT, 0.001)
    assert at_most(int(np.sum(edge == FAILED)), COUNT, 0.01)


def test_the_reported_interval_covers_over_all_looks() -> None:
    """Repeated confidence interval: all five intervals of a session contain the truth in at least 95 % of sessions."""
    from enginegate.gates.sequential import half_width, level_at

    samples = draw("3 %", COUNT, 10)
    covered = np.ones(COUNT, dtype=bool)
    for look in LIVE.looks:
        location = locate(samples[:, :look])
        tail = level_at(look, LIVE, 0.025, final=look == 40)
        covered &= np.abs(location.estimate) <= half_width(location, Anchor(0.0), tail)
    assert at_least(int(covered.sum()), COUNT, 0.95)
