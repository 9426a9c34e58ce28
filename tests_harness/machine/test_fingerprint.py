"""What identifies a machine, limits of control groups included, and what only describes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.machine import cpu
from enginegate.machine import fingerprint as module
from enginegate.machine.cgroup import Limits
from enginegate.machine.cpu import cpu_flags, cpu_model, cpuinfo
from enginegate.machine.fingerprint import fingerprint, key_of, limited

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = sorted((REPOSITORY / "docs" / "results" / "records").rglob("run.json"))
GIB = 1 << 30


def test_the_fingerprint_identifies_by_what_does_not_change():
    first, second = fingerprint(), fingerprint()
    assert first.key == second.key
    assert first.identity == second.identity
    assert {"load_average", "libraries"} <= set(first.context)
    assert not {"load_average", "libraries", "cpu_mhz"} & set(first.identity)


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.parent.name)
def test_committed_identities_keep_their_keys(file):
    """The keys name the folders of the committed baselines."""
    stored = json.loads(file.read_text(encoding="utf-8"))["fingerprint"]
    assert key_of(stored["identity"]) == stored["key"]


def test_the_machine_of_the_committed_cpu_baselines_keeps_its_key():
    """No record of that machine is committed, so its identity is written out here."""
    identity = {
        "cpu": "AMD EPYC (family 26, model 2)",
        "cpu_features": ["avx2", "avx512_bf16", "avx512_vnni", "avx512f"],
        "cores": 2,
        "memory_gib": 24,
        "architecture": "x86_64",
        "system": "Linux",
        "gpus": [],
    }
    assert (REPOSITORY / "baselines" / "perf" / key_of(identity)).is_dir()
    assert set(fingerprint().identity) - {"cpu_quota", "memory_limit_gib"} == set(identity)


@pytest.fixture
def machine(monkeypatch):
    """This machine with four cores and other limits."""

    def limit(**limits: object) -> None:
        found = Limits(**limits)
        for place in (cpu, module):
            monkeypatch.setattr(place, "read_limits", lambda: found)

    monkeypatch.setattr(cpu, "allowed_cores", lambda: frozenset(range(4)))
    limit()
    return limit


def test_a_machine_without_limits_says_nothing_of_any(machine):
    free = fingerprint()
    assert not {"cpu_quota", "memory_limit_gib"} & set(free.identity)
    machine(cpu_quota=4.0, cpus=frozenset(range(8)), memory_bytes=(1 << 63) - 4096)
    assert fingerprint().key == free.key, "limits at or beyond what there is are none"


def test_limits_make_another_machine(machine):
    """A container of two cores and one of 64 had one fingerprint, and one baseline, on the same host."""
    free = fingerprint()
    machine(cpu_quota=1.5, memory_bytes=GIB // 2)
    tight = fingerprint()
    assert tight.identity == {**free.identity, "cores": 1, "cpu_quota": 1.5, "memory_limit_gib": 0.5}
    assert tight.key != free.key
    machine(cpus=frozenset({2, 3}))
    assert fingerprint().identity == {**free.identity, "cores": 2}


def test_only_what_is_below_the_machines_own_is_a_limit():
    assert limited(Limits(), 4, 8 * GIB) == {}
    assert limited(Limits(cpu_quota=4.0, memory_bytes=8 * GIB), 4, 8 * GIB) == {}
    assert limited(Limits(cpu_quota=3.5, memory_bytes=6 * GIB), 4, 8 * GIB) == {"cpu_quota": 3.5, "memory_limit_gib": 6}


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, 4),
        ({"cpu_quota": 2.0}, 2),  # --cpus=2 gave as many threads as the host has cores
        ({"cpu_quota": 2.9}, 2),
        ({"cpu_quota": 0.3}, 1),
        ({"cpu_quota": 64.0}, 4),
        ({"cpus": frozenset({1, 3, 9})}, 2),
        ({"cpus": frozenset({1, 3}), "cpu_quota": 1.0}, 1),
        ({"cpus": frozenset({40, 41})}, 4),  # numbers of another name space
    ],
)
def test_threads_are_as_many_as_the_limits_keep_busy(machine, limits, cores):
    machine(**limits)
    assert cpu.usable_cores() == cores


def test_cpu_facts_are_read_from_cpuinfo(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Example CPU\nflags\t\t: fpu avx512_bf16 avx2\n"
        "empty\t:\nlast\t: x\n"
    )
    assert cpu_model(info) == "Example CPU (family 26, model 2)"
    assert cpu_flags(info) == {"fpu", "avx512_bf16", "avx2"}
    assert cpuinfo("empty", file=info) == ""
    assert cpu_flags(tmp_path / "none") == set()
