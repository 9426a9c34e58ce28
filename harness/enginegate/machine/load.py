"""How busy the machine is with work that is not ours."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from enginegate.machine import cgroup
from enginegate.machine.cpu import allowed_cpus
from enginegate.machine.own_processes import adopted

STAT = Path("/proc/stat")
#: Seconds by which the clock of each CPU may be off: in rounds that last a few of them, so much of the load is chance.
CLOCK_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: A process by its id and the time that it was started at, as ids are used again.
ProcessKey = tuple[int, float]


@dataclass(frozen=True)
class ProcessTime:
    """CPU seconds of one process.

    Attributes:
        parent: process id of its parent.
        used: by its own threads.
        reaped: by those of its children that have ended and been waited for, and theirs.
        ours: whether it does our work.
    """

    parent: int
    used: float
    reaped: float
    ours: bool


@dataclass(frozen=True)
class CpuClock:
    """What was used of the CPUs that we may run on, until now.

    Attributes:
        wall: seconds on the clock of ``time.perf_counter``.
        machine: CPU seconds used by everybody on those CPUs, time stolen by the hypervisor included.
        processes: CPU times of this process and of all below it. Ours are this process, and the whole trees below the
            ones that were named.
        cores: how many CPUs ``machine`` is the sum of.
        throttled: seconds for which a CPU quota held us up, summed over CPUs.
    """

    wall: float
    machine: float
    processes: Mapping[ProcessKey, ProcessTime] = field(default_factory=dict)
    cores: int = 0
    throttled: float = 0.0

    @property
    def own(self) -> float:
        """CPU seconds of the processes that are ours, and of those that they have waited for."""
        return sum(each.used + each.reaped for each in self.processes.values() if each.ours)


def read_cpu_clock(stat: Path = STAT, children: Iterable[int] = (), root: Path = cgroup.ROOT) -> CpuClock | None:
    """The clocks now, or None where the system does not tell (no /proc/stat).

    Args:
        stat: the system's file of that name.
        children: process ids of living children whose work is ours, such as engines in a process of their own.
        root: of the file system that control groups are looked for in.
    """
    processes = _descendants(frozenset(children))
    throttled = cgroup.throttled_seconds(root)
    try:
        text = stat.read_text(encoding="ascii")
    except OSError:
        return None
    machine, cores = machine_seconds(text, allowed_cpus())
    own = psutil.Process()
    wall = time.perf_counter()
    return CpuClock(wall, machine, processes | _time_of(own, ours=True), cores, throttled)


def machine_seconds(stat: str, cpus: Set[int]) -> tuple[float, int]:
    """CPU seconds in the text of /proc/stat that anything used on ``cpus``, and how many these are.

    Where the text does not name each of them, as in a container that is shown a machine of its own, all CPUs count.
    """
    rows = {name: values for name, *values in (line.split() for line in stat.splitlines()) if name.startswith("cpu")}
    picked = [rows.get(f"cpu{number}") for number in sorted(cpus)]
    if not picked or None in picked:
        picked = [rows["cpu"]]
        cpus = frozenset(range(max(1, len(rows) - 1)))
    ticks = 0
    for row in filter(None, picked):
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in row[:8])
        ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK"), len(cpus)


def _descendants(named: frozenset[int]) -> dict[ProcessKey, ProcessTime]:
    """All processes below this one, and below the named ones wherever they are, with their times."""
    below = psutil.Process().children(recursive=True)
    elsewhere = [each for each in adopted() if each not in below]
    named = named.union(each.pid for each in elsewhere)
    for pid in named.difference(process.pid for process in below):
        with suppress(psutil.Error):
            other = psutil.Process(pid)
            below += [each for each in (other, *other.children(recursive=True)) if each not in below]
    ours = set(named)
    found: dict[ProcessKey, ProcessTime] = {}
    for process in below:  # a parent comes before its children
        with suppress(psutil.Error):
            if process.ppid() in ours:
                ours.add(process.pid)
            found |= _time_of(process, ours=process.pid in ours)
    return found


def _time_of(process: psutil.Process, *, ours: bool) -> dict[ProcessKey, ProcessTime]:
    """What one process used; nothing where it is gone meanwhile."""
    with suppress(psutil.Error), process.oneshot():
        times = process.cpu_times()
        entry = ProcessTime(
            process.ppid(), times.user + times.system, times.children_user + times.children_system, ours
        )
        return {(process.pid, process.create_time()): entry}
    return {}


def own_seconds(before: CpuClock, after: CpuClock) -> float:
    """CPU seconds that our processes used between two readings, those that began or ended between them included.

    A process that ends leaves all that it ever used to the one that waits for it, so what it had used before the first
    reading is taken off again. Where nobody of ours waited for it, its last seconds are lost, and count as foreign.
    """
    gone = {pid: entry for (pid, start), entry in before.processes.items() if (pid, start) not in after.processes}
    left: defaultdict[int, float] = defaultdict(float)
    for entry in gone.values():
        heir = entry.parent
        while heir in gone:
            heir = gone[heir].parent
        left[heir] += entry.used + entry.reaped
    total = 0.0
    for key, now in after.processes.items():
        if now.ours:
            then = before.processes.get(key, ProcessTime(now.parent, 0.0, 0.0, ours=True))
            total += now.used - then.used + max(0.0, now.reaped - then.reaped - left[key[0]])
    return total


def foreign_load(before: CpuClock | None, after: CpuClock | None, cores: int | None = None) -> float:
    """Share of the CPUs that we may run on which others used between two readings, 0 … 1.

    A CPU quota does not make it larger: others cannot take of it while it lasts, and that it did not last is told by
    ``throttled_seconds``. /proc/stat counts in ticks of 1/100 s, so over a round of t seconds on c cores the resolution
    is 1 / (100 c t); the estimate is floored at 0. NaN where the system does not tell.

    Args:
        before: the first reading.
        after: the second one.
        cores: the capacity, where it is another than the readings'.
    """
    if before is None or after is None:
        return float("nan")
    capacity = (after.wall - before.wall) * (cores or after.cores or os.cpu_count() or 1)
    if capacity <= 0:
        return 0.0
    foreign = (after.machine - before.machine) - own_seconds(before, after)
    return min(1.0, max(0.0, foreign / capacity))


def throttled_seconds(before: CpuClock | None, after: CpuClock | None) -> float:
    """Seconds, summed over CPUs, for which a CPU quota held us up between two readings; 0 where nothing is known."""
    if before is None or after is None:
        return 0.0
    return max(0.0, after.throttled - before.throttled)
