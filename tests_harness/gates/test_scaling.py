"""The gate on the shape of scaling: every doubling against one limit, with the error rates that it states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.gates.scaling import Step, judge_scaling, scaling_undecided
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.verdict import Status

POLICY = SpeedPolicy(alpha=0.01, beta=0.05, looks=(6, 10, 16))


def steps(*gains: float, noise: float = 0.02, blocks: int = 16, seed: int = 0) -> list[Step]:
    """Doublings that gain so much, with noise of each block."""
    generator = np.random.default_rng(seed)
    order = [1, -1] * (blocks // 2)
    return [
        Step(f"b{2**number} to b{2 ** (number + 1)}", list(math.log(gain) + generator.normal(0, noise, blocks)), order)
        for number, gain in enumerate(gains)
    ]


def judged(found, limit: float = 1.2, **more):
    return judge_scaling(found, limit, POLICY, metric="throughput_scaling", subject="int8 i64", **more)


def test_every_doubling_must_gain() -> None:
    verdict = judged(steps(1.8, 1.6, 1.4))
    assert verdict.status is Status.PASS
    assert verdict.explanation.startswith("int8 i64: 1.8")
    assert verdict.estimate == pytest.approx(1.4, rel=0.02), "the doubling that gains least"
    assert verdict.alpha == POLICY.alpha


def test_a_batch_that_does_not_batch_is_found_at_the_doubling_where_it_stops() -> None:
    """Each size by itself may be no slower than before."""
    verdict = judged(steps(1.8, 1.0, 1.5))
    assert verdict.status is Status.FAIL
    assert "b2 to b4 [" in verdict.explanation
    assert verdict.explanation.endswith("below 1.2x")
    assert "b1 to b2 [" not in verdict.explanation


def test_what_is_not_told_from_the_limit_is_not_decided() -> None:
    verdict = judged(steps(1.8, 1.2, noise=0.1))
    assert verdict.status is Status.INCONCLUSIVE
    assert "b2 to b4 [" in verdict.explanation
    assert "not told from 1.2x" in verdict.explanation


def test_latency_is_shown_as_what_it_grows_by() -> None:
    verdict = judged(steps(1 / 1.5), 1.3, inverse=True)
    assert verdict.status is Status.FAIL
    assert verdict.estimate == pytest.approx(1.5, rel=0.02)
    assert verdict.interval[0] < 1.5 < verdict.interval[1]
    assert "above 1.3x" in verdict.explanation
    assert judged(steps(1 / 1.05), 1.3, inverse=True).status is Status.PASS


def test_disturbed_blocks_decide_nothing() -> None:
    verdict = judged(steps(1.0), invalid="other work disturbed 100% of the blocks")
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.explanation.endswith("undecided: other work disturbed 100% of the blocks")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_time_that_is_none_fails_closed(bad: float) -> None:
    found = steps(1.8, 1.8)
    found[1] = Step(found[1].name, [bad, *found[1].log_ratios[1:]], found[1].order)
    verdict = judged(found)
    assert verdict.status is Status.FAIL
    assert "samples unusable" in verdict.explanation


def test_blocks_are_taken_until_one_doubling_failed_or_all_decided() -> None:
    few = steps(1.8, 1.8, blocks=4)
    assert scaling_undecided(few, 1.2, POLICY)
    assert not scaling_undecided(steps(1.8, 1.8, blocks=6, noise=0.005), 1.2, POLICY)
    assert not scaling_undecided(steps(0.9, 1.2, blocks=6, noise=0.005), 1.2, POLICY), "it can only stay a FAIL"
    assert scaling_undecided(steps(1.8, 1.2, blocks=6, noise=0.05), 1.2, POLICY)


@pytest.mark.heavy
def test_error_rates_of_all_doublings_together() -> None:
    """At the limit itself: no more false FAIL than alpha over all doublings, no more false PASS than beta."""
    verdicts = [judged(steps(1.2, 1.2, 1.2, noise=0.05, seed=seed)).status for seed in range(400)]
    failed, passed = (verdicts.count(status) / len(verdicts) for status in (Status.FAIL, Status.PASS))
    assert failed <= 0.025, "alpha 0.01, and three standard errors of 400 trials"
    assert passed <= 0.05
    one_bad = [judged(steps(1.8, 1.19, 1.8, noise=0.05, seed=seed)).status for seed in range(200)]
    assert one_bad.count(Status.PASS) / len(one_bad) <= 0.1
