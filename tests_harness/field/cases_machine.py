"""CPU quotas: what a container may use, from trees of files as the kernel shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from enginegate.machine import cpu
from enginegate.machine.cgroup import read_limits, throttled_seconds
from enginegate.machine.fingerprint import key_of, limited
from field_case import Got, case

KIND = "fail-open: CPU quota"
V1 = (
    "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
)
V2 = ("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",)
CORES = 4
#: A machine of four cores without any limit.
IDENTITY = {"cpu": "Example", "cores": CORES, "gpus": []}


def _enter(
    name: str, given: str, groups: str, mounts: tuple[str, ...], files: Mapping[str, str], cores: int, quota: str
) -> None:
    """``quota``: as the fingerprint has it, or empty; then the key is that of the machine without limits."""

    def run(folder: Path) -> Got:
        (folder / "proc/self").mkdir(parents=True)
        (folder / "proc/self/cgroup").write_text(groups + "\n")
        (folder / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
        for file, text in files.items():
            path = folder / "sys/fs/cgroup" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        limits = read_limits(folder)
        with (
            patch.object(cpu, "read_limits", lambda: limits),
            patch.object(cpu, "allowed_cores", lambda: frozenset(range(CORES))),
        ):
            usable = cpu.usable_cores()
        found = limited(limits, CORES, 1 << 40)
        identity = {**IDENTITY, "cores": usable, **found}
        same = key_of(identity) == key_of(IDENTITY)
        held = throttled_seconds(folder)
        return Got(
            f"{usable} threads, quota {found.get('cpu_quota', 'none')}, {'same' if same else 'another'} machine",
            f"held up {held:g} s",
        )

    run.__name__ = f"quota_{name}"
    machine = "another" if quota else "same"
    held_up = "held up 2.5 s" if "throttled" in "".join(files.values()) else "held up 0 s"
    expected = f"{cores} threads, quota {quota or 'none'}, {machine} machine"
    case(given, kind=KIND, expected=expected, says=(held_up,))(run)


STAT = "nr_periods 301\nnr_throttled 205\n"
_enter("v2", "cgroup v2, 1.5 CPUs", "0::/", V2, {"cpu.max": "150000 100000"}, 1, "1.5")
_enter("v2_max", "cgroup v2, max", "0::/", V2, {"cpu.max": "max 100000"}, CORES, "")
_enter("v2_half", "cgroup v2, half a CPU", "0::/", V2, {"cpu.max": "50000 100000"}, 1, "0.5")
_enter("v2_thin", "cgroup v2, a hundredth of a CPU", "0::/", V2, {"cpu.max": "1000 100000"}, 1, "0.01")
_enter("v2_period", "cgroup v2, 3 CPUs in periods of 10 ms", "0::/", V2, {"cpu.max": "30000 10000"}, 3, "3.0")
_enter("v2_whole", "cgroup v2, a quota of all cores", "0::/", V2, {"cpu.max": "400000 100000"}, CORES, "")
_enter("v2_more", "cgroup v2, a quota of more than all cores", "0::/", V2, {"cpu.max": "6400000 100000"}, CORES, "")
_enter("v2_junk", "cgroup v2, a file that is no quota", "0::/", V2, {"cpu.max": "junk"}, CORES, "")
_enter(
    "v2_throttled",
    "cgroup v2, 205 of 301 periods throttled",
    "0::/",
    V2,
    {"cpu.max": "200000 100000", "cpu.stat": STAT + "throttled_usec 2500000"},
    2,
    "2.0",
)
_enter(
    "v2_ancestors",
    "cgroup v2, the middle one of three groups is the tightest",
    "0::/a/b/c",
    V2,
    {"a/cpu.max": "300000 100000", "a/b/cpu.max": "120000 100000", "a/b/c/cpu.max": "max 100000"},
    1,
    "1.2",
)
_enter(
    "v2_mounted_twice",
    "cgroup v2, its group mounted once more before the tree",
    "0::/a/b",
    ("40 31 0:28 /a/b /elsewhere rw - cgroup2 cgroup2 rw", *V2),
    {"a/cpu.max": "250000 100000", "a/b/cpu.max": "max 100000"},
    2,
    "2.5",
)
_enter(
    "v1",
    "cgroup v1, 2 CPUs, throttled",
    "1:cpu,cpuacct:/box",
    V1,
    {
        "cpu/box/cpu.cfs_quota_us": "200000",
        "cpu/box/cpu.cfs_period_us": "100000",
        "cpu/box/cpu.stat": STAT + "throttled_time 2500000000",
    },
    2,
    "2.0",
)
_enter(
    "v1_none",
    "cgroup v1, a quota of -1",
    "1:cpu,cpuacct:/",
    V1,
    {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
    CORES,
    "",
)
_enter(
    "v1_parent",
    "cgroup v1, -1 in a group whose parent has 1.5 CPUs",
    "1:cpu,cpuacct:/pod/box",
    V1,
    {
        "cpu/pod/cpu.cfs_quota_us": "150000",
        "cpu/pod/cpu.cfs_period_us": "100000",
        "cpu/pod/box/cpu.cfs_quota_us": "-1",
        "cpu/pod/box/cpu.cfs_period_us": "100000",
    },
    1,
    "1.5",
)
_enter("none", "no control groups at all", "", (), {}, CORES, "")
