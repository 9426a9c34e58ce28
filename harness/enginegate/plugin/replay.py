"""Samples that the arena took, shown to pytest-benchmark as if it had timed them itself.

pytest-benchmark takes its clock from the public ``timer`` option of its marker. Here that clock is ``replay_clock``:
loaded with durations, it returns the start and the end of each in turn, so the tables, histograms and JSON
files of pytest-benchmark hold the interleaved samples and nothing is timed twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

#: Ids of the tests whose samples are replayed.
REPLAYED = pytest.StashKey[set[str]]()

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


def shown_groups(config: pytest.Config, groups: Iterable[tuple[str | None, list[Any]]]) -> list[tuple[Any, list[Any]]]:
    """pytest-benchmark's tables without the replayed samples, which the suite's own table shows, unless asked for.

    Asked for: with ``-v``, or by any option of pytest-benchmark's. Its files hold them in any case.
    """
    given = (*map(str, config.invocation_params.args), *config.getini("addopts"), os.environ.get("PYTEST_ADDOPTS", ""))
    if config.option.verbose > 0 or any("--benchmark" in argument for argument in given):
        return list(groups)
    replayed = config.stash.get(REPLAYED, set())
    others = [(name, [each for each in found if each["fullname"] not in replayed]) for name, found in groups]
    return [(name, found) for name, found in others if found]
