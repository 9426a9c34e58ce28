"""Service levels, capacities, queues that grow, and pairs of runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.serving import (
    Capacity,
    RateTrial,
    SloPolicy,
    capacity,
    decide_share,
    effective_requests,
    judge_pairs,
    judge_slo,
    late_bounds,
    next_rate,
    requests_to_decide,
    saturation,
)
from enginegate.gates.sessions import ShiftPrior
from enginegate.gates.verdict import Status
from scipy.stats import binom

#: As MLPerf's loadgen stops early.
P99 = SloPolicy(share=0.99, alpha=0.01, beta=0.01)


def scores(requests, late):
    """So many requests, of which some are late, spread evenly."""
    found = np.full(requests, 0.5)
    found[np.linspace(0, requests - 1, late, dtype=int)] = 2.0
    return found.tolist()


def test_459_requests_with_none_late_show_99_percent():
    assert requests_to_decide(0.0, P99) == 459
    assert judge_slo(scores(459, 0), P99).status is Status.PASS
    verdict = judge_slo(scores(458, 0), P99, level="TTFT <= 2 s")
    assert verdict.status is Status.INCONCLUSIVE
    assert "459 requests with none late would decide" in verdict.explanation
    assert "458 of 458 requests keep TTFT <= 2 s" in verdict.explanation


@pytest.mark.parametrize(("late", "needed"), [(1, 662), (2, 838), (10, 2010)])
def test_with_some_late_it_takes_as_many_as_the_binomial_says(late, needed):
    # the smallest n with P(Binomial(n, 0.01) <= late) <= 0.01
    assert binom.cdf(late, needed, 0.01) <= 0.01 < binom.cdf(late, needed - 1, 0.01)
    assert decide_share(late, needed, P99) is Status.PASS
    assert decide_share(late, needed - 1, P99) is Status.INCONCLUSIVE


def test_bounds_are_those_of_the_exact_test():
    low, high = late_bounds(7, 100, 0.01, 0.02)
    assert binom.sf(6, 100, low) == pytest.approx(0.01)
    assert binom.cdf(7, 100, high) == pytest.approx(0.02)


def test_a_level_that_nobody_meets_fails_and_says_so():
    verdict = judge_slo([math.inf] * 40, P99, subject="int8_wo")
    assert verdict.status is Status.FAIL
    assert "0 of 40 requests" in verdict.explanation
    assert verdict.estimate == 0.0


def test_as_many_late_as_allowed_are_never_decided():
    assert requests_to_decide(0.01, P99) is None
    verdict = judge_slo(scores(1000, 10), P99)
    assert verdict.status is Status.INCONCLUSIVE
    assert "hardly any number of requests would decide" in verdict.explanation
    more = judge_slo(scores(1000, 5), P99).explanation
    assert "where as many of them are late as now" in more


def test_what_cannot_be_believed_decides_nothing():
    for found in (scores(2000, 0), scores(2000, 500)):
        verdict = judge_slo(found, P99, invalid="the load generator lagged")
        assert verdict.status is Status.INCONCLUSIVE
        assert "the load generator lagged" in verdict.explanation
    assert judge_slo([], P99).status is Status.FAIL


def test_errors_of_the_verdict_are_those_it_states():
    generator = np.random.default_rng(5)
    policy = SloPolicy(share=0.9, alpha=0.05, beta=0.05)
    wrong = [0, 0]
    for _ in range(200):
        at_limit = np.where(generator.random(300) < 0.1, 2.0, 0.5)
        status = judge_slo(at_limit.tolist(), policy).status
        wrong[0] += status is Status.FAIL
        wrong[1] += status is Status.PASS
    assert max(wrong) <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05)


def test_requests_that_are_late_together_count_for_fewer():
    alone, together = scores(2000, 100), [*[0.5] * 900, *[2.0] * 100, *[0.5] * 1000]
    assert effective_requests(alone) == pytest.approx(2000, rel=0.05)
    assert effective_requests(together) < 100
    assert judge_slo(together, SloPolicy(0.9)).status is Status.INCONCLUSIVE
    assert "count as" in judge_slo(together, SloPolicy(0.9)).warnings[0]


def overloaded(count, load=1.5):
    """An overloaded server, and scores that rise with the queue: the first are in time, the others are not."""
    due = np.arange(count) / load
    done = np.asarray(queue(due, [1.0] * count))
    return ((done - due) / 20.0).tolist(), saturation(due.tolist(), done.tolist(), alpha=0.005)


def test_a_queue_that_grows_fails_the_level_however_alike_its_requests_are():
    found, backlog = overloaded(400)
    assert backlog.saturated
    half = SloPolicy(0.5)
    assert judge_slo(found, half).status is Status.INCONCLUSIVE  # one long cluster
    verdict = judge_slo(found, half, backlog=backlog)
    assert verdict.status is Status.FAIL
    assert "requests pile up" in verdict.explanation
    assert f"the last answer came {backlog.drain:.1f} s after" in verdict.explanation
    still, backlog = overloaded(400, load=20.0)
    early = judge_slo([0.5] * 400, SloPolicy(0.5), backlog=backlog)
    assert early.status is Status.INCONCLUSIVE
    assert "will not be as the queue grows" in early.explanation
    assert len(still) == 400


def queue(arrivals, service, servers=1):
    free, finished = [0.0] * servers, []
    for due, seconds in zip(arrivals, service, strict=True):
        index = free.index(min(free))
        free[index] = max(due, free[index]) + seconds
        finished.append(free[index])
    return finished


def alarms(load, count, seeds, alpha=0.05):
    found = 0
    for seed in range(seeds):
        generator = np.random.default_rng([seed, count])
        arrivals = np.cumsum(generator.exponential(1 / load, count))
        found += saturation(arrivals, queue(arrivals, generator.exponential(1, count)), alpha=alpha).saturated
    return found / seeds


@pytest.mark.parametrize("count", [200, 800])
def test_at_exactly_capacity_the_alarm_is_as_rare_as_stated(count):
    # a threshold that does not grow as the root of the arrivals would give the alarm more often the longer it looks
    assert alarms(1.0, count, 150) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
    assert alarms(0.9, count, 50) <= 0.05


def test_beyond_capacity_the_alarm_comes_with_the_length_of_the_run():
    assert alarms(1.3, 1500, 30) >= 0.9
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(0.5, 2000))
    found = saturation(arrivals, queue(arrivals, [1.0] * 2000))
    assert found.saturated
    assert found.low < 0.5 < found.high  # half of what arrives is not served
    assert found.drain == pytest.approx(1000, rel=0.1)


def test_nothing_piles_up_where_nothing_is_said():
    assert not saturation([0.0], [1.0]).saturated
    assert not saturation([0.0, 0.0], [1.0, 1.0]).saturated


def search(limit, start, tolerance=0.1, unsure=1.0, most=math.inf):
    """Trials against a server that keeps the level up to ``limit``, and decides nothing within ``unsure`` of it."""
    trials = []
    while (rate := next_rate(trials, start, tolerance, most)) is not None:
        near = max(rate / limit, limit / rate) < unsure
        status = Status.INCONCLUSIVE if near else Status.PASS if rate < limit else Status.FAIL
        trials.append(RateTrial(rate, status))
        assert len(trials) < 60
    return trials


@pytest.mark.parametrize("start", [0.5, 3.0, 100.0])
def test_the_capacity_lies_between_what_passed_and_what_failed(start):
    trials = search(7.3, start)
    found = capacity(trials)
    assert found.low < 7.3 < found.high <= found.low * 1.1
    assert len(trials) < 20


def test_rates_without_a_decision_stay_inside():
    found = capacity(search(7.3, 2.0, unsure=1.08))
    assert found.low < 7.3 / 1.08
    assert found.high > 7.3 * 1.08
    assert found.high / found.low < 1.08**2 * 1.1**2


def test_a_level_that_nobody_keeps_has_no_capacity():
    trials = [RateTrial(rate, Status.FAIL) for rate in (1.0, 0.5)]
    assert capacity(trials) == Capacity(0.0, 0.5)
    assert capacity(search(1e-9, 1.0)).low == 0.0


def test_a_rate_that_the_generator_cannot_send_is_not_tried():
    trials = search(1e6, 10.0, most=200.0)
    assert max(trial.rate for trial in trials) == 200.0
    assert capacity(trials) == Capacity(200.0, math.inf)


PAIRED = SpeedPolicy(
    margin=0.05, tolerated=0.20, alpha=0.002, beta=0.05, looks=(4,), shift=ShiftPrior(scale=0.05, df=4.0)
)


@pytest.mark.parametrize(
    ("slowdown", "scatter", "status"), [(0.0, 1, Status.PASS), (0.5, 1, Status.FAIL), (0.12, 8, Status.INCONCLUSIVE)]
)
def test_pairs_of_runs(slowdown, scatter, status):
    numbers = -np.log1p(slowdown) + scatter * np.array([0.01, -0.01, 0.02, -0.02])
    verdict = judge_pairs(numbers.tolist(), PAIRED, metric="serving_e2el", subject="int8_wo", base="base", slower=0.6)
    assert verdict.status is status, verdict
    assert verdict.unit == "x"
    assert "60 % of the requests took longer" in verdict.warnings[0]


def test_pairs_that_cannot_decide():
    assert judge_pairs([], PAIRED, metric="m", base="base").status is Status.FAIL
    assert judge_pairs([], PAIRED, metric="m").status is Status.NO_BASELINE
    assert judge_pairs([0.1, math.nan, 0.1, 0.1], PAIRED, metric="m").status is Status.FAIL
    assert judge_pairs([0.0, 0.0], PAIRED, metric="m").status is Status.INCONCLUSIVE
    assert judge_pairs([-1.0] * 4, PAIRED, metric="m", invalid="it lagged").status is Status.INCONCLUSIVE
