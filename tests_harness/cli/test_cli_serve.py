"""``enginegate serve``: capacity and curves of engines, and the load generator beside a mock."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.cli import main
from enginegate.core.serving_records import SloEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival
from enginegate.gates.serving import SloPolicy, knee
from enginegate.gates.verdict import Status
from enginegate.measure.serving import certify
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, drawn
from enginegate.measure.serving.timeline import run_of
from enginegate.report.serving_curve import capacity_text, curve_rows, draw_curves
from enginegate.verdicts.capacity import find_curve
from fake_serving import VirtualPace


def served_at(capacity, requests=300, lag=0.0):
    """One server that answers so many requests a second, each in the same time; nothing is waited for."""

    def serve(rate, number):
        trace = drawn("poisson", rate, requests, LengthPairs(((8, 4),)), seed=number)
        arrivals = [Arrival((1,) * 8, SamplingParams(4), time) for time in trace.times]
        events = MockServer(1, [1 / capacity] * requests).events(arrivals, [time + lag for time in trace.times])
        return run_of(trace, events, subject="mock", warmup=0.1)

    return serve


def found(capacity, level, **options):
    asked = {"start": 1.0, "tolerance": 0.2, "most": 14, **options}
    return find_curve("mock", served_at(capacity), SloEntry(e2el=level, share=0.9), SloPolicy(0.9), **asked)


def test_the_capacity_of_a_known_server_lies_within_its_interval():
    # M/D/1 with a service of 0.1 s: 90 % are within 0.3 s up to 5.86 requests a second, by 400,000 requests through
    # Lindley's recursion; beyond 10 a second no level is kept
    curve = found(10.0, level=0.3)
    assert 3.0 <= curve.capacity.low < 5.86 < curve.capacity.high <= 8.0
    assert "between" in capacity_text(curve)
    assert [point.rate for point in curve.points] == sorted(point.rate for point in curve.points)
    beyond = found(10.0, level=0.3, rates=(20.0,)).points[0]
    assert beyond.saturated
    assert beyond.verdict.status is Status.FAIL
    assert all(point.figures.goodput <= point.figures.requests_per_second for point in curve.points)
    assert draw_curves([curve]).axes
    assert len(curve_rows(curve)) == len(curve.points) + 1


def test_a_level_that_nobody_keeps_has_no_capacity():
    curve = found(10.0, level=0.05, rates=(1.0, 2.0))
    assert curve.capacity.low == 0
    assert capacity_text(curve) == "capacity: below 1 requests/s (90 % within E2EL <= 0.05 s)"


def test_a_generator_that_lags_ends_the_search():
    curve = find_curve(
        "mock", served_at(10.0, lag=0.05), SloEntry(share=0.9), SloPolicy(0.9), start=1.0, tolerance=0.1, most=9
    )
    assert len(curve.points) == 1
    assert not curve.points[0].believed
    assert "no rate was decided" in capacity_text(curve)


def test_the_knee_is_where_latency_turns_up():
    rates = np.linspace(1, 9.9, 60)
    assert knee(rates, 1 / (10 - rates)) == pytest.approx(9.05, abs=0.1)  # of M/M/1
    assert knee([1, 2], [1, 2]) is None
    assert knee([1, 2, 3], [3, 2, 1]) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--rates", "0"], "'0' is no rate of requests a second above 0"),
        (["--rates", "2,-1"], "'-1' is no rate"),
        (["--rates", "fast"], "'fast' is no rate"),
        (["--rates", ","], "no rate is named"),
        (["--requests", "3"], "'3' is not a number of requests from 10"),
    ],
)
def test_what_cannot_be_served_is_refused(given, said, capsys):
    assert main(["serve", *given]) == 2
    assert said in capsys.readouterr().err


class Clock:
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += max(seconds, 1e-6)


class LaggingPace(VirtualPace):
    """Sends each request 5 ms after it is due."""

    def arrived(self):
        now = self.now()
        found = [each for each in self._left if each[1] + 0.005 <= now]
        self._left = self._left[len(found) :]
        return [(index, at + 0.005) for index, at in found]

    def wait(self):
        super().wait()
        self._clock.sleep(0.005)


@pytest.mark.parametrize(("pace", "code"), [(VirtualPace, 0), (LaggingPace, 1)])
def test_the_generator_is_certified_or_not(pace, code, monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(MockServer, "loop", lambda self: mock_loop(self, clock))
    certified = certify.certify
    monkeypatch.setattr(
        certify, "certify", lambda rate, count: certified(rate, count, pacing=lambda times: pace(clock, times))
    )
    assert main(["serve", "--generator", "--rates", "200", "--requests", "400"]) == code
    printed = capsys.readouterr().out
    assert "400 requests at" in printed
    assert ("the load generator lagged" in printed) == bool(code)


def mock_loop(server, clock):
    from enginegate.measure.serving.mock import MockLoop

    return MockLoop(server, clock.now, clock.sleep)


@pytest.mark.alone
@pytest.mark.heavy
def test_the_generator_keeps_200_requests_a_second_within_its_own_invariants():
    run = certify.certify(200.0, 2000)
    assert run.why_not == []
    lag = next(check.value for check in run.checks if check.name == "lag")
    assert 0 <= lag <= 0.001
    assert not math.isnan(lag)
