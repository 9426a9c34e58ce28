"""How busy the machine is with work that is not ours, and keeping our own process quiet while a round is timed."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds used by the whole machine (``machine``, stolen time included) and by us (``own``), at ``wall``."""

    wall: float
    machine: float
    own: float


def read_cpu_clock(stat: Path = STAT) -> CpuClock | None:
    """The clocks now, or None where the system does not tell (no /proc/stat)."""
    try:
        fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in fields[:8])
    ticks = user + nice + system + irq + softirq + steal
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return CpuClock(time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own)


def foreign_load(before: CpuClock | None, after: CpuClock | None, cores: int | None = None) -> float:
    """Share of the machine's CPU capacity that others used between two readings, 0 … 1.

    /proc/stat counts in ticks of 1/100 s, so over a round of t seconds on c cores the resolution is 1 / (100 c t);
    the estimate is floored at 0. NaN where the system does not tell.
    """
    if before is None or after is None:
        return float("nan")
    wall = after.wall - before.wall
    capacity = wall * (cores or os.cpu_count() or 1)
    if capacity <= 0:
        return 0.0
    foreign = (after.machine - before.machine) - (after.own - before.own)
    return min(1.0, max(0.0, foreign / capacity))


@contextmanager
def quiet_process() -> Iterator[None]:
    """Keep the garbage collector out of a timed round."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
