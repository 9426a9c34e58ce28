"""Time to first token and inter-token latency, each as a ratio over the live reference."""

import pytest

pytestmark = pytest.mark.eg_perf


@pytest.mark.eg_timed("ttft")
def test_ttft(timed_engine, gate, replay_rounds):
    replay_rounds("ttft")
    assert gate.speed(timed_engine, "ttft")


@pytest.mark.eg_timed("itl")
def test_itl(timed_engine, gate, replay_rounds):
    replay_rounds("itl_p50")
    assert gate.speed(timed_engine, "itl")
