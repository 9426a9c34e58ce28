"""How busy the machine is with work that is not ours, and keeping our own process quiet while a round is timed."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds used by the whole machine (``machine``, stolen time included) and by us (``own``), at ``wall``.

    Ours are this process, its children that have ended, and the living ones that were named.
    """

    wall: float
    machine: float
    own: float


def read_cpu_clock(stat: Path = STAT, children: Iterable[int] = ()) -> CpuClock | None:
    """The clocks now, or None where the system does not tell (no /proc/stat).

    Args:
        stat: the system's file of that name.
        children: process ids of living children whose work is ours, such as engines in a process of their own.
    """
    try:
        fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in fields[:8])
    ticks = user + nice + system + irq + softirq + steal
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    own += sum(_process_ticks(child) for child in children) / os.sysconf("SC_CLK_TCK")
    return CpuClock(time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own)


def _process_ticks(pid: int) -> int:
    """User and system time of a process; 0 where it is gone. Its name, in brackets, may hold blanks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


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
    """Keep the garbage collector out of a timed round, and begin it without the garbage of the last one.

    Only what is new is looked at: with Transformers imported a full collection takes 0.3 s, longer than many a round.
    """
    was_enabled = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
