"""What Linux's control groups let this process use, and how long a CPU quota held it up.

Both versions are read, also side by side (hybrid): version 2 is one tree, version 1 has one for each controller. A
limit of any ancestor holds for all below it, so the tightest one counts; in a container with a namespace of its own the
top is the container's own group, and what lies above cannot be seen. Every function takes the root of the file system,
under which ``/proc`` and the mounts are looked for, so that a tree of somebody else's machine can be read as well.
Names and units: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of the Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
#: How mountinfo calls the one tree of version 2, which holds all controllers.
_UNIFIED = "cgroup2"


@dataclass(frozen=True)
class Limits:
    """What the control groups of this process allow; None where they set no limit.

    Attributes:
        cpu_quota: processor seconds in a second, such as 1.5.
        cpus: numbers of the CPUs that it may run on.
        memory_bytes: memory that it may use before it is ended, or slowed down (``memory.high``). A limit beyond what
            the machine has is one as well; version 1 has no other way to say that there is none.
    """

    cpu_quota: float | None = None
    cpus: frozenset[int] | None = None
    memory_bytes: int | None = None


def read_limits(root: Path = ROOT) -> Limits:
    """The limits of this process's groups. Where there are no control groups, or they cannot be read: none."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _quota(folder)) is not None]
    memory = [
        size
        for folder in _folders(root, "memory")
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (size := _number(_read(folder / name))) is not None
    ]
    return Limits(
        cpu_quota=min(quotas, default=None), cpus=_cpus(root), memory_bytes=int(min(memory)) if memory else None
    )


def throttled_seconds(root: Path = ROOT) -> float:
    """Seconds, summed over CPUs, for which a quota has held up this process's groups so far; 0 where there is none.

    Each group counts what its own quota did, so those of the ancestors are added.
    """
    total = 0.0
    for folder in _folders(root, "cpu"):
        stat = dict(line.split(maxsplit=1) for line in _read(folder / "cpu.stat").splitlines() if " " in line)
        total += (_number(stat.get("throttled_usec", "")) or 0) / 1e6
        total += (_number(stat.get("throttled_time", "")) or 0) / 1e9
    return total


def _quota(folder: Path) -> float | None:
    """Quota over period of one group: ``cpu.max`` of version 2, two files of version 1 (-1 is none)."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    microseconds, each = _number(quota), _number(period)
    return microseconds / each if microseconds and each and microseconds > 0 else None


def _cpus(root: Path) -> frozenset[int] | None:
    """Of the nearest group that names CPUs: the kernel keeps a group's within those of its parent."""
    for folder in _folders(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            found = _ranges(_read(folder / name))
            if found:
                return found
    return None


def _ranges(text: str) -> frozenset[int]:
    """The numbers of a list such as ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if ends is None:
            return frozenset()
        found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return frozenset(found)


@dataclass(frozen=True)
class _Mount:
    """Where a tree of groups is to be seen: ``top`` of it, at ``point``; its controllers, or _UNIFIED."""

    top: PurePosixPath
    point: str
    controllers: frozenset[str]


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group in the trees that hold a controller, and of its ancestors, nearest first."""
    groups = _groups(root)
    for tree in (_UNIFIED, controller):
        group = groups.get(tree)
        mounts = [mount for mount in _mounts(root) if tree in mount.controllers]
        if group is None or not mounts:
            continue
        # Of several that show the group the one that shows most of its ancestors. Where none does, as in a container
        # that keeps its host's names, the top of the first is the nearest.
        showing = [mount for mount in mounts if group.is_relative_to(mount.top)]
        mount = min(showing, key=lambda each: len(each.top.parts), default=mounts[0])
        inside = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        top = root / mount.point.lstrip("/")
        for path in (inside, *inside.parents) if inside.parts else (inside,):
            if ".." not in path.parts:
                yield top / path


def _groups(root: Path) -> dict[str, PurePosixPath]:
    """This process's group in each tree, by controller; that of version 2 by _UNIFIED."""
    found = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(",") if controllers else (_UNIFIED,):
            found[controller] = PurePosixPath(path or "/")
    return found


def _mounts(root: Path) -> list[_Mount]:
    """The mounted trees. A line of mountinfo: id, parent, device, top, point, options, ``-``, type, source, options.

    What is mounted over another at the same point hides it.
    """
    mounts: dict[str, _Mount] = {}
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3 or kinds[0] not in ("cgroup", _UNIFIED):
            continue
        top, point = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
        held = {_UNIFIED} if kinds[0] == _UNIFIED else set(kinds[2].split(","))
        mounts[point] = _Mount(PurePosixPath(top), point, frozenset(held))
    return list(mounts.values())


def _number(text: str) -> float | None:
    """A whole number; None of anything else, such as ``max``."""
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _read(file: Path) -> str:
    """A small file without blanks at its ends; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
