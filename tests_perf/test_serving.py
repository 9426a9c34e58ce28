"""Requests that arrive over time: the service level, and latencies beside a live base (``--serving``)."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.serving]


def test_slo(served, gate):
    assert gate.slo(served)


@pytest.mark.eg_against
@pytest.mark.parametrize("latency", ["ttft", "tpot", "e2el"])
def test_latency(served, gate, latency):
    assert gate.served(served, latency)


@pytest.mark.eg_against
def test_level(served, gate):
    assert gate.level(served)
