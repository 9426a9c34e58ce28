"""On GPUs each xdist worker has a card of its own, an arena stays whole, and a GPU job cannot pass without one."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from enginegate.engines.base import Capabilities
from enginegate.machine.lease import lease_folder
from enginegate.plugin import devices
from enginegate.storage.audits import load_run_audit
from filelock import FileLock

pytest_plugins = ["pytester"]

SPEED = ("tests_perf/test_speedup.py", "--precision=int8_wo")
NVML = Path(__file__).resolve().parents[1] / "fakes_nvml"


@pytest.fixture
def on_gpu(suite, monkeypatch):
    """A machine with two cards; the fake engine says that it runs on one."""

    def run(*arguments, config=None, **environment):
        variables = {**suite.workspace.environment, "ENGINEGATE_FAKE_DEVICE": "cuda", **environment}
        variables["TMPDIR"] = str(suite.folder)
        variables["PYTHONPATH"] = os.pathsep.join([str(NVML), variables["PYTHONPATH"]])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return suite.run_apart(*arguments, config=config)

    return run


def test_each_worker_has_a_card_and_each_arena_one_worker(suite, on_gpu):
    result = on_gpu("-n2", "--dist=loadgroup", *SPEED, "--precision=int8_wo,int4_wo")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    record = suite.record()
    assert record.status == "complete"
    assert {arena.workload for arena in record.arenas} == {"b1-i16-o8", "b2-i16-o8"}
    assert all(len(arena.contestants) == 3 for arena in record.arenas)
    temperatures = [
        {entry.device.celsius for block in arena.blocks for entry in block.rounds} for arena in record.arenas
    ]
    assert sorted(temperatures, key=min) == [{40}, {41}], "the cards differ by their temperature"


@pytest.mark.heavy
def test_what_all_workers_audit_lies_with_their_one_run(suite, on_gpu):
    """The worker that wrote last used to take the place of the others' audits."""
    audit = ("tests_perf/test_gate_audit.py", "--gate-audit", "--precision=int8_wo", "--batch-size=1,2")
    short = suite.workspace.variant("short_audit", arena={"audit_blocks": 8})
    result = on_gpu("-n2", "--dist=loadgroup", *audit, config=short)
    result.assert_outcomes(passed=2)
    (run,) = (suite.folder / "runs").glob("*/audit.json")
    audits = load_run_audit(run.parent)
    assert sorted(gate.workload for gate in audits.gates.values()) == ["b1-i16-o8"] * 3 + ["b2-i16-o8"] * 3


@pytest.mark.heavy
def test_more_workers_than_cards_is_an_error_with_the_hint(on_gpu):
    result = on_gpu("-n2", "--dist=loadgroup", *SPEED, ENGINEGATE_FAKE_GPUS="1")
    assert result.parseoutcomes()["errors"] == 1
    assert "start no more workers (-n) than there are GPUs" in result.stdout.str()


def test_arena_must_not_be_scattered_over_workers(on_gpu):
    result = on_gpu("-n2", *SPEED)
    assert result.parseoutcomes() == {"errors": 2}
    assert "add --dist loadgroup" in result.stdout.str()


def test_busy_card_is_refused_with_the_process_that_uses_it(on_gpu):
    result = on_gpu(*SPEED, "--batch-size=1", ENGINEGATE_FAKE_INTRUDER="999999999")
    assert "passed" not in result.parseoutcomes()
    assert "Imaginary GPU is in use by process 999999999" in result.stdout.str()


@pytest.mark.heavy
def test_a_card_that_nobody_can_look_at_is_said_in_the_record(suite, on_gpu):
    """It was timed on as a free one, in silence."""
    on_gpu(*SPEED, "--batch-size=1", ENGINEGATE_FAKE_LIST="refused")
    (arena,) = suite.record().arenas
    assert any("does not list the processes" in warning for warning in arena.warnings), arena.warnings


@pytest.mark.heavy
def test_two_sessions_take_two_cards(suite, on_gpu):
    """One that another session has is not measured on: the second card, then none is left."""
    leases = suite.folder / lease_folder().name
    leases.mkdir()
    with FileLock(leases / "GPU-0.lock"):
        on_gpu(*SPEED, "--batch-size=1")
        record = suite.record()
        assert {entry.device.celsius for entry in record.arenas[0].blocks[0].rounds} == {41}
        with FileLock(leases / "GPU-1.lock"):
            result = on_gpu(*SPEED, "--batch-size=1")
    assert result.parseoutcomes()["errors"] == 1
    assert "wait for the other session" in result.stdout.str()


@pytest.mark.parametrize(("reference", "scores"), [("card", "chip"), ("chip", "card"), ("chip", "chip")])
def test_a_reference_on_a_gpu_needs_the_lease_too(monkeypatch, reference, scores):
    device = {"card": "cuda", "chip": "cpu"}
    monkeypatch.setattr(
        devices, "load_backend", lambda name: SimpleNamespace(capabilities=lambda: Capabilities({}, {}, device[name]))
    )
    file = SimpleNamespace(
        reference=SimpleNamespace(backend=reference),
        quality=SimpleNamespace(reference=SimpleNamespace(backend=scores)),
    )
    candidate = SimpleNamespace(spec=SimpleNamespace(backend="chip"), config=SimpleNamespace(file=file))
    session = SimpleNamespace(selection=SimpleNamespace(candidates=[candidate]))
    for markers, needed in ((["eg_perf"], "card" in (reference, scores)), ([], False)):
        items = [SimpleNamespace(get_closest_marker=lambda name, markers=markers: name if name in markers else None)]
        config = SimpleNamespace(stash=pytest.Stash())
        item = SimpleNamespace(config=config, session=SimpleNamespace(items=items))
        assert devices._measures_on_gpu(item, session) is needed


def test_throttled_rounds_decide_nothing(suite, on_gpu):
    on_gpu(*SPEED, "--batch-size=1", ENGINEGATE_FAKE_THROTTLE="0x40")
    (verdict,) = suite.record().verdicts
    assert verdict.status == "INCONCLUSIVE"


@pytest.mark.parametrize(("device", "code"), [("cuda", pytest.ExitCode.OK), ("cpu", pytest.ExitCode.TESTS_FAILED)])
def test_require_gpu(on_gpu, device, code):
    result = on_gpu(*SPEED, "--batch-size=1", "--require-gpu", ENGINEGATE_FAKE_DEVICE=device)
    assert result.ret == code
    assert ("no test ran an engine on an NVIDIA GPU" in result.stdout.str()) == (device == "cpu")
