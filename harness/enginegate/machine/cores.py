"""The quietest core of the moment, for engines whose host thread decides how fast their GPU is fed.

On a shared host a virtual core is as fast as what else runs on its physical one lets it be: beside an H200, the same
loop took 1.15 or 2.1 ms, changing from second to second and from core to core, and vLLM's rounds had the same two
speeds (docs/gpu.md). The guest saw neither lower clocks nor stolen time, so the cores are tried.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager

#: Additions of one trial, about a third of a millisecond, and trials of each core, of which the slower one counts.
_ADDITIONS = 10_000
_TRIALS = 2


#: What ``quietest_core`` will give back; the thread itself is bound to one core meanwhile.
_held: frozenset[int] | None = None


def allowed_cores() -> frozenset[int]:
    """Cores that this thread may run on, outside ``quietest_core``; empty where the system does not let it choose."""
    if _held is not None:
        return _held
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def take_quietest_core(cores: Set[int]) -> None:
    """Move this thread to whichever of ``cores`` is the fastest now; takes about a millisecond for each.

    Threads that exist already, such as a library's own, stay where they are; threads and processes that this one starts
    from now on are bound to the same core.
    """
    if len(cores) > 1:
        os.sched_setaffinity(0, {min(sorted(cores), key=_trial)})


@contextmanager
def quietest_core() -> Iterator[None]:
    """Keep this thread on the core that is the fastest at the start; afterwards it may run where it could before."""
    global _held
    cores = _held = allowed_cores()
    try:
        take_quietest_core(cores)
        yield
    finally:
        _held = None
        if cores:
            os.sched_setaffinity(0, cores)


def _trial(core: int) -> float:
    os.sched_setaffinity(0, {core})
    return max(loop_seconds(_ADDITIONS) for _ in range(_TRIALS))


def loop_seconds(additions: int) -> float:
    """Seconds that a fixed piece of work takes this thread, where it is now."""
    start, total = time.perf_counter(), 0
    for number in range(additions):
        total += number
    return time.perf_counter() - start
