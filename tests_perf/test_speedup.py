"""Speed-up over the live reference: end-to-end time of a batch, reference over candidate, block by block."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_timed("speedup")]


def test_speedup(timed_engine, gate, replay_rounds):
    replay_rounds("seconds")
    assert gate.speed(timed_engine, "speedup")
