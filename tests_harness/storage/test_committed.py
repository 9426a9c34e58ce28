"""What this repository keeps of earlier schemas is read, migrated and of the engine that its place says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from enginegate.storage.audits import load_audit
from enginegate.storage.baselines import read_perf, read_quality

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
PERF = sorted(path for path in BASELINES.glob("perf/*/*/*.json"))
QUALITY = sorted(BASELINES.glob("quality/*/*.json"))


@pytest.mark.parametrize("path", PERF, ids=lambda path: "/".join(path.parts[-3:]))
def test_a_perf_baseline(path: Path) -> None:
    baseline = read_perf(BASELINES, path.parts[-3], path.parts[-2], path.stem)
    assert baseline is not None
    assert baseline.engines
    baseline.check(baseline.model_digest, baseline.reference, record="another run")


@pytest.mark.parametrize("path", PERF, ids=lambda path: "/".join(path.parts[-3:]))
def test_a_stored_session_can_decide(path: Path) -> None:
    """Sessions without times of the reference are not believed, so they are not kept; memory needs none."""
    baseline = read_perf(BASELINES, path.parts[-3], path.parts[-2], path.stem)
    assert baseline is not None
    for engine in baseline.engines.values():
        assert engine.sessions or engine.memory
        assert all(session.times.keys() == session.log_ratios.keys() for session in engine.sessions)


@pytest.mark.parametrize("path", QUALITY, ids=lambda path: path.stem)
def test_a_quality_baseline(path: Path) -> None:
    name, _, variant = path.stem.partition("@")
    backend, precision = name.split("-", 1)
    engine = SimpleNamespace(backend=backend, precision=precision, variant=variant)
    baseline = read_quality(BASELINES, path.parts[-2], engine)
    assert baseline is not None
    assert "mmlu" not in baseline.metrics
    letters = baseline.metrics["letters"]
    assert baseline.metric("letters", letters.version) is letters


@pytest.mark.parametrize("machine", sorted({path.parts[-2] for path in BASELINES.glob("perf/*/audit.json")}))
def test_an_audit(machine: str) -> None:
    audits = load_audit(BASELINES, machine)
    assert audits is not None
    for gate in audits.gates.values():
        assert audits.of(gate.engine, gate.workload, gate.reference, gate.metric) is gate
