"""Signs of life: who is told of them, and how far the work is."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from enginegate.core.progress import Step
from enginegate.engines.process import heartbeat
from enginegate.engines.process.heartbeat import beat, beating, part, told
from enginegate.engines.requests import score_rows


def test_without_anybody_to_tell_a_beat_does_nothing():
    beat()
    beat(0.5)
    shares: list[float | None] = []
    with beating(shares.append, 0.0):
        pass
    beat(0.7)
    assert shares == []


def test_a_beat_that_says_no_share_tells_the_last_one():
    """Steps of an answer beat, too; they must not take the turn of those that say how far all answers are."""
    shares: list[float | None] = []
    with beating(shares.append, 0.0):
        for share in (None, 0.25, None, 0.5, None):
            beat(share)
    with beating(shares.append, 0.0):
        beat()
    assert shares == [None, 0.25, 0.25, 0.5, 0.5, None]


def test_parts_lie_within_parts():
    shares: list[float | None] = []
    with beating(shares.append, 0.0), part(0.5, 1.0):
        beat(0.5)
        with suppress(KeyError), part(0.5, 1.0):
            beat(0.5)
            raise KeyError
        beat(1.0)
    with beating(shares.append, 0.0):
        beat(1.0)
    assert shares == [0.75, 0.875, 1.0, 1.0]


def test_progress_is_told_the_share_and_the_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    steps: list[str] = []
    with told(steps.append, "cloze of x"):
        for second in range(1, 5):
            now[0] += 1.0
            beat(second / 4)
            beat(second / 4)
    assert steps == [
        "cloze of x",
        "cloze of x: 25 %, 3 s left",
        "cloze of x: 50 %, 2 s left",
        "cloze of x: 75 %, 1 s left",
        "cloze of x: 100 %, 0 s left",
    ]
    assert [step.share for step in steps if isinstance(step, Step)] == [None, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("prefill", [None, 2])
def test_scored_rows_say_how_far_they_are(prefill):
    """Whatever the engine's own loop says of a batch is that part of all."""

    def score(inputs, targets):
        beat(0.5)
        return np.zeros(targets.shape, np.float32)

    shares: list[float | None] = []
    sequences = [list(range(number, number + 9)) for number in range(4)]
    with beating(shares.append, 0.0):
        score_rows(sequences, 16, prefill, 1 << 27, score)
    batches = len(shares) // 2
    assert batches > 1
    assert shares == pytest.approx([(step + 1) / (2 * batches) for step in range(2 * batches)])
