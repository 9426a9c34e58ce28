"""Time to first token and inter-token latency, each as a ratio over the live reference."""

import pytest

pytestmark = pytest.mark.perf


@pytest.mark.timed("ttft")
def test_ttft(contest, gate, replay_rounds):
    replay_rounds("ttft")
    assert gate.speed(contest, "ttft")


@pytest.mark.timed("itl")
def test_itl(contest, gate, replay_rounds):
    replay_rounds("itl_p50")
    assert gate.speed(contest, "itl")
