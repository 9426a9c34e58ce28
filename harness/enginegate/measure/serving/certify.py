"""The load generator, measured itself: beside a server of known service times that computes nothing."""

from __future__ import annotations

from enginegate.core.serving_records import ServingRun
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival
from enginegate.engines.pace import PacerProcess, Pacing
from enginegate.engines.serving import Line, serve
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, drawn
from enginegate.measure.serving.timeline import MOCK_LAG, run_of

#: Seconds that the mock takes for each request, and tokens of each answer.
_SERVICE, _TOKENS = 0.1, 8


def certify(rate: float, requests: int, *, seed: int = 0, pacing: Pacing = PacerProcess) -> ServingRun:
    """Poisson arrivals at ``rate`` through the very loop and pacer that serve real engines; in real time.

    The server has room for all of them. The run's checks say whether the schedule was kept within 1 ms.
    """
    trace = drawn("poisson", rate, requests, LengthPairs(((1, _TOKENS),)), seed=seed)
    server = MockServer(requests, [_SERVICE] * requests)
    arrivals = [Arrival((0,), SamplingParams(_TOKENS), time) for time in trace.times]
    events = serve(server.loop(), arrivals, Line(), pacing)
    return run_of(trace, events, subject="the mock server", seed=seed, warmup=0.1, cooldown=0.1, lag_limit=MOCK_LAG)
