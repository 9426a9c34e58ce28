"""Samples that the arena took, shown to pytest-benchmark as if it had timed them itself.

pytest-benchmark takes its clock from the public ``timer`` option of its marker. Here that clock is ``replay_clock``:
loaded with durations, it returns the start and the end of each in turn, so the tables, histograms and JSON
files of pytest-benchmark hold the interleaved samples and nothing is timed twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

_times: list[float] = []


def replay_clock() -> float:
    """The next replayed time in seconds; an ordinary clock when none is left."""
    return _times.pop() if _times else time.perf_counter()


def load(durations: Sequence[float]) -> None:
    """Have the clock return, in turn, the start and the end of each duration."""
    now = 0.0
    _times.clear()
    for duration in durations:
        _times[:0] = [now + duration, now]
        now += duration


def replay(
    benchmark: Any, seconds: Sequence[float], parameters: Mapping[str, object], extra: Mapping[str, object]
) -> None:
    """Hand samples to the ``benchmark`` fixture.

    Args:
        benchmark: the fixture.
        seconds: the samples.
        parameters: what the test was parametrized with, as JSON; the test's own parameters are objects.
        extra: what else is worth keeping, under ``extra_info``.
    """
    benchmark.params = dict(parameters)
    benchmark.extra_info.update(extra)
    load(seconds)
    try:
        benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1, warmup_rounds=0)
    finally:
        load([])
