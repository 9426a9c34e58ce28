"""Control groups of versions 1 and 2 and of both at once, from trees of files like those of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginegate.machine.cgroup import Limits, read_limits, throttled_seconds

MIB = 1 << 20
#: What version 1 says where memory is not limited: the largest whole page below 2**63.
UNLIMITED = 9223372036854771712

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
DOCKER_V1 = [
    "33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct",
    "34 31 0:31 /docker/abc /sys/fs/cgroup/cpuset ro,nosuid master:12 - cgroup cgroup rw,cpuset",
    "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:13 - cgroup cgroup rw,memory",
]
DOCKER_V1_GROUPS = [
    "4:cpu,cpuacct:/docker/abc",
    "3:cpuset:/docker/abc",
    "2:memory:/docker/abc",
    "1:name=systemd:/docker/abc",
]


@pytest.fixture
def machine(tmp_path):
    """A root with what the kernel would tell this process: its groups, the mounts, and files under /sys/fs/cgroup."""

    def make(groups: list[str], mounts: list[str], **files: object) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in groups))
        other = "23 1 254:0 / / rw,relatime - ext4 /dev/root rw"
        (tmp_path / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in (other, *mounts)))
        for name, text in files.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return tmp_path

    return make


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert read_limits(tmp_path) == Limits()
    assert throttled_seconds(tmp_path) == 0.0


def test_a_container_sees_its_own_group_as_the_top(machine):
    """``docker run --cpus=1.5 --cpuset-cpus=0-2,5 --memory=512m`` with a name space of its own: the path is /."""
    root = machine(
        ["0::/"],
        [V2],
        **{
            "cpu.max": "150000 100000",
            "cpuset.cpus.effective": "0-2,5",
            "memory.max": 512 * MIB,
            "memory.high": "max",
            "cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 2500000",
        },
    )
    assert read_limits(root) == Limits(1.5, frozenset({0, 1, 2, 5}), 512 * MIB)
    assert throttled_seconds(root) == pytest.approx(2.5)


def test_max_is_no_limit(machine):
    files = {
        "cpu.max": "max 100000",
        "memory.max": "max",
        "memory.high": "max",
        "cpuset.cpus": "",
        "cpu.stat": "usage_usec 5",
    }
    root = machine(["0::/"], [V2], **files)
    assert read_limits(root) == Limits()
    assert throttled_seconds(root) == 0.0


def test_the_tightest_of_all_ancestors_counts(machine):
    """A systemd scope inside a slice inside a slice, each with limits of its own, the middle one's the tightest."""
    root = machine(
        ["0::/user.slice/user-0.slice/run.scope"],
        [V2],
        **{
            "user.slice/cpu.max": "400000 100000",
            "user.slice/memory.max": 300 * MIB,
            "user.slice/cpu.stat": "throttled_usec 1000000",
            "user.slice/cpuset.cpus.effective": "0-7",
            "user.slice/user-0.slice/cpu.max": "50000 20000",
            "user.slice/user-0.slice/memory.high": 200 * MIB,
            "user.slice/user-0.slice/cpu.stat": "throttled_usec 500000",
            "user.slice/user-0.slice/cpuset.cpus.effective": "0-3",
            "user.slice/user-0.slice/run.scope/cpu.max": "max 100000",
            "user.slice/user-0.slice/run.scope/memory.max": "max",
            "user.slice/user-0.slice/run.scope/cpu.stat": "throttled_usec 0",
            "another.slice/cpu.max": "1000 100000",
        },
    )
    assert read_limits(root) == Limits(2.5, frozenset(range(4)), 200 * MIB)
    assert throttled_seconds(root) == pytest.approx(1.5)


def test_version_1_shows_a_container_its_hosts_path(machine):
    """Without a name space the group is /docker/abc, and so is the top of what is mounted."""
    root = machine(
        DOCKER_V1_GROUPS,
        DOCKER_V1,
        **{
            "cpu,cpuacct/cpu.cfs_quota_us": 200000,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 3000000000",
            "cpuset/cpuset.cpus": "4,6-7",
            "memory/memory.limit_in_bytes": 256 * MIB,
        },
    )
    assert read_limits(root) == Limits(2.0, frozenset({4, 6, 7}), 256 * MIB)
    assert throttled_seconds(root) == pytest.approx(3.0)


def test_version_1_without_limits(machine):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": -1, "cpu,cpuacct/cpu.cfs_period_us": 100000}
    root = machine(DOCKER_V1_GROUPS, DOCKER_V1, **files, **{"memory/memory.limit_in_bytes": UNLIMITED})
    assert read_limits(root) == Limits(memory_bytes=UNLIMITED)


def test_version_1_nested_groups(machine):
    mounts = [
        "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    ]
    root = machine(
        ["4:memory:/pod/box", "1:cpu:/pod/box"],
        mounts,
        **{
            "cpu/pod/cpu.cfs_quota_us": 150000,
            "cpu/pod/cpu.cfs_period_us": 100000,
            "cpu/pod/box/cpu.cfs_quota_us": -1,
            "cpu/pod/box/cpu.cfs_period_us": 100000,
            "memory/pod/memory.limit_in_bytes": 64 * MIB,
            "memory/pod/box/memory.limit_in_bytes": UNLIMITED,
        },
    )
    assert read_limits(root) == Limits(1.5, None, 64 * MIB)


def test_both_versions_at_once(machine):
    """Hybrid: the controllers in trees of version 1, and a tree of version 2 without any."""
    root = machine(
        ["2:cpu,cpuacct:/box", "1:memory:/box", "0::/box"],
        [
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
            "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
        ],
        **{
            "cpu,cpuacct/box/cpu.cfs_quota_us": 300000,
            "cpu,cpuacct/box/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/box/cpu.stat": "throttled_time 2000000000",
            "memory/box/memory.limit_in_bytes": 128 * MIB,
            "unified/box/cpu.stat": "usage_usec 77\nuser_usec 7",
        },
    )
    assert read_limits(root) == Limits(3.0, None, 128 * MIB)
    assert throttled_seconds(root) == pytest.approx(2.0)


@pytest.mark.parametrize("group", ["/docker/abc", "/../other", "/gone/below"])
def test_a_group_that_no_mount_shows_has_the_limits_of_the_top(machine, group):
    """A container that keeps its host's names with a mount of its own group, or a process moved out of its space."""
    root = machine([f"0::{group}"], [V2], **{"cpu.max": "100000 100000"})
    assert read_limits(root).cpu_quota == 1.0


def test_the_mount_that_shows_the_group_is_taken(machine):
    mounts = ["40 31 0:28 /pod/one /sys/fs/cgroup/elsewhere rw - cgroup2 cgroup2 rw", V2]
    files = {"elsewhere/cpu.max": "10000 100000", "pod/two/cpu.max": "200000 100000"}
    assert read_limits(machine(["0::/pod/two"], mounts, **files)).cpu_quota == 2.0


@pytest.mark.parametrize("reverse", [False, True])
def test_of_several_mounts_the_one_with_most_ancestors_is_taken(machine, reverse):
    """The first was, so that the quota of a pod was not seen where its container's group is mounted once more."""
    mounts = [V2, "40 31 0:28 /pod/two /sys/fs/cgroup/elsewhere rw - cgroup2 cgroup2 rw"]
    files = {"elsewhere/cpu.max": "max 100000", "pod/two/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}
    root = machine(["0::/pod/two"], mounts[::-1] if reverse else mounts, **files)
    assert read_limits(root).cpu_quota == 1.5


def test_a_mount_that_another_hides_is_not_looked_at(machine):
    """A container's own mount over its host's: the group is the top of what is to be seen there."""
    mounts = [V2, "40 31 0:28 /pod/two /sys/fs/cgroup rw - cgroup2 cgroup2 rw"]
    root = machine(["0::/pod/two/inner"], mounts, **{"inner/cpu.max": "50000 100000", "cpu.max": "75000 100000"})
    assert read_limits(root).cpu_quota == 0.5


def test_blanks_in_the_place_of_a_mount_are_read(machine):
    mount = "31 23 0:28 / /sys/fs/cgroup/with\\040blank rw - cgroup2 cgroup2 rw"
    assert read_limits(machine(["0::/"], [mount], **{"with blank/cpu.max": "100000 100000"})).cpu_quota == 1.0


@pytest.mark.parametrize("text", ["", "junk", "100000", "100000 0", "0 100000", "-5 100000"])
def test_a_quota_that_makes_no_sense_is_none(machine, text):
    assert read_limits(machine(["0::/"], [V2], **{"cpu.max": text})).cpu_quota is None


@pytest.mark.parametrize("text", ["0-", "a-b", "1,,x"])
def test_a_list_of_cpus_that_makes_no_sense_is_none(machine, text):
    assert read_limits(machine(["0::/"], [V2], **{"cpuset.cpus.effective": text})).cpus is None


def test_this_machines_own_are_readable():
    """Whatever they are, they leave something to work with."""
    found = read_limits()
    assert found.cpu_quota is None or found.cpu_quota > 0
    assert found.memory_bytes is None or found.memory_bytes > 0
    assert throttled_seconds() >= 0.0
