"""OpenVINO's memory law against the real engine: its pool to the byte, its total, and a budget that was doubled."""

from __future__ import annotations

import pytest
from enginegate.core.records import MemoryEntry
from enginegate.core.specs import RuntimeSpec, SamplingParams, Workload
from enginegate.engines.memory_law import memory_law, pool_bytes
from enginegate.engines.openvino import memory_law as openvino_law
from enginegate.engines.registry import load_backend
from enginegate.gates.verdict import Status, Verdict
from enginegate.measure.memory import measure_memory
from enginegate.measure.memory_model import predicted_memory, read_memory_model
from enginegate.measure.memory_plan import weight_bytes
from enginegate.testing import prompts
from enginegate.verdicts.inputs import MemoryLawInputs
from enginegate.verdicts.judge import judge

from tests_harness.storage.factory import engine_entry, run_record

pytest.importorskip("openvino_genai")

WORK = Workload(4, 40, 8)


@pytest.mark.heavy
@pytest.mark.parametrize("kv", ["fp16", "int8", "int4"])
def test_pool_and_weights_of_a_loaded_engine_are_the_laws(workshop, kv):
    runtime = RuntimeSpec(kv_precision=kv)
    spec, backend = workshop.spec("openvino", "int8_wo"), load_backend("openvino")
    model = read_memory_model(workshop.checkpoint.path)
    law = memory_law(backend, spec, runtime, model.geometry)
    engine = workshop.load("openvino", "int8_wo", runtime)
    engine.generate(prompts(4, 40), SamplingParams(8))
    found = engine.memory()
    engine.close()
    assert found.kv_cache == found.kv_budget == pool_bytes(law.kv, spec, runtime)
    assert weight_bytes(law, model.size.counts) == pytest.approx(found.weights, rel=0.02)


def measured(workshop, runtime: RuntimeSpec) -> MemoryEntry:
    """A memory pass of the engine that ``runtime`` asks for, beside what is predicted of the one without it."""
    spec, folder = workshop.spec("openvino", "int8_wo"), workshop.folder("openvino", "int8_wo")
    entry = measure_memory(folder, 1, spec, runtime, prompts(4, 40), WORK)
    model = read_memory_model(workshop.checkpoint.path)
    parts = predicted_memory(load_backend("openvino"), spec, RuntimeSpec(), WORK, model)
    return entry.model_copy(update={"predicted": parts})


def judged(entry: MemoryEntry) -> Verdict:
    record = run_record(memory=[entry], engines=[engine_entry(entry.engine)])
    inputs = MemoryLawInputs(
        metric="memory_law",
        candidate=entry.engine,
        subject="int8_wo b4 memory",
        workload=entry.workload,
        predicted=True,
        tolerated=0.05,
    )
    return judge(inputs, record)


@pytest.mark.heavy
def test_an_honest_engine_passes_and_a_doubled_kv_budget_fails(workshop):
    honest = measured(workshop, RuntimeSpec())
    assert honest.allocator is not None
    assert (honest.kv_used, honest.kv_budget) == (honest.predicted.kv, honest.predicted.kv)
    if not openvino_law._unsure():
        assert judged(honest).status is Status.PASS, judged(honest).explanation
    doubled = judged(measured(workshop, RuntimeSpec(kv_cache_bytes=2 * honest.predicted.kv)))
    assert doubled.status is Status.FAIL
    assert f"{2 * honest.predicted.kv:,}" in doubled.explanation


@pytest.mark.heavy
def test_a_pool_that_nobody_wrote_to_is_the_allocators_and_not_the_kernels(workshop):
    """The kernel counts pages that were written, so a budget that was doubled is seen nowhere in the peak."""
    small = measured(workshop, RuntimeSpec())
    large = measured(workshop, RuntimeSpec(kv_cache_bytes=small.predicted.kv + 200_000_000))
    assert large.allocator - small.allocator == pytest.approx(200_000_000, rel=0.05)
    assert large.peak - small.peak < 20_000_000


def test_a_law_says_where_it_was_not_measured(monkeypatch):
    monkeypatch.setattr(openvino_law.cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    assert "this is another" in openvino_law._unsure()
    monkeypatch.setattr(openvino_law.cpu, "versions", lambda names: "openvino 2031.1.0")
    assert "here is 2031.1.0" in openvino_law._unsure()
