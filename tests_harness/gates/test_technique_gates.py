"""The gates of techniques of serving: what they conclude, and how often they err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.gates.techniques import judge_mismatches, judge_overtaken, judge_ratio
from enginegate.gates.verdict import Status

RATES = {"metric": "m", "subject": "s", "alpha": 0.05, "beta": 0.05}


def ratio(ratios, floor=1.0, **more):
    return judge_ratio(ratios, floor, **{**RATES, **more})


def test_a_ratio_is_above_its_floor_below_it_or_neither():
    assert ratio([1.5, 1.6, 1.4, 1.5, 1.55]).status is Status.PASS
    assert ratio([0.5, 0.6, 0.4, 0.5, 0.55]).status is Status.FAIL
    undecided = ratio([0.5, 2.0, 0.9, 1.5, 1.1])
    assert undecided.status is Status.INCONCLUSIVE
    assert "pairs would decide" in undecided.explanation
    assert undecided.interval[0] < undecided.estimate < undecided.interval[1]


def test_a_run_that_gave_nothing_fails_and_few_pairs_decide_nothing():
    assert ratio([1.5, math.nan, 1.4]).status is Status.FAIL
    assert ratio([1.5, 0.0, 1.4]).status is Status.FAIL
    assert ratio([1.5, 1.5]).status is Status.INCONCLUSIVE
    assert ratio([2.0] * 3).status is Status.PASS, "pairs that agree exactly are no accident"


def test_the_error_rates_of_a_ratio_at_its_floor_are_those_that_are_stated():
    random = np.random.default_rng(0)
    found = [ratio(list(np.exp(random.normal(0, 0.2, 5)))).status for _ in range(2000)]
    for wrong in (Status.PASS, Status.FAIL):
        assert 0.03 < found.count(wrong) / len(found) < 0.07


def test_changed_tokens_are_counted_against_the_rate_that_is_tolerated():
    def status(wrong, compared, limit=0.01):
        return judge_mismatches(wrong, compared, limit, **RATES)

    assert status(0, 600).status is Status.PASS
    assert status(15, 60).status is Status.FAIL
    few = status(0, 100)
    assert few.status is Status.INCONCLUSIVE
    assert "299 tokens without a change would decide" in few.explanation
    assert status(0, 299).status is Status.PASS
    assert status(0, 298).status is Status.INCONCLUSIVE
    assert status(0, 0).status is Status.FAIL
    assert status(1, 10, limit=0.0).status is Status.FAIL
    assert "can never be shown" in status(0, 10, limit=0.0).explanation


def test_the_error_rates_of_a_rate_at_its_limit_stay_below_those_that_are_stated():
    random = np.random.default_rng(0)
    found = [judge_mismatches(int(n), 1000, 0.01, **RATES).status for n in random.binomial(1000, 0.01, 2000)]
    assert 0.01 < found.count(Status.FAIL) / len(found) <= 0.06
    assert 0.01 < found.count(Status.PASS) / len(found) <= 0.06


@pytest.mark.parametrize(
    ("most", "status"),
    [([0, 1, 0], Status.PASS), ([0, 2, 0], Status.FAIL), ([], Status.FAIL), ([0, math.nan], Status.FAIL)],
)
def test_nobody_is_overtaken_by_more_than_is_tolerated(most, status):
    assert judge_overtaken(most, 1, metric="m", subject="s", alpha=0.01).status is status
