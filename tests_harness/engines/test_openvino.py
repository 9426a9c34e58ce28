from __future__ import annotations

import ctypes
import shutil
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import QuantizationSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.effective import check_effective
from enginegate.engines.openvino import kv_cache
from enginegate.engines.openvino.signal_stack import Stack
from enginegate.engines.openvino.weights import read_weights
from enginegate.engines.registry import load_backend
from enginegate.engines.serving import checked_events
from enginegate.machine import cpu
from enginegate.testing import Conformance, prompts
from enginegate.testing.fixtures import VOCABULARY

pytest.importorskip("openvino_genai")

FP32_ACTIVATIONS = RuntimeSpec(activation_precision="fp32", kv_precision="fp16")


class TestFp32(Conformance):
    backend, precision, exact = "openvino", "fp32", True


class TestInt8(Conformance):
    backend, precision, exact = "openvino", "int8_wo", False


def test_fp32_chooses_the_tokens_that_transformers_chooses(shared_engine):
    batch = [prompts(1, length, seed)[0] for seed, length in enumerate((8, 30, 17))]
    ours, theirs = (
        shared_engine(backend, "fp32").generate(batch, SamplingParams(24)) for backend in ("openvino", "hf")
    )
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]


@pytest.mark.parametrize("prefill", [None, 6])
def test_fp32_scores_as_transformers_does(shared_engine, prefill):
    sequences = [prompts(1, length, seed)[0] for seed, length in enumerate((9, 40, 21))]
    ours, theirs = (shared_engine(backend, "fp32").score(sequences, prefill=prefill) for backend in ("openvino", "hf"))
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-3)


def signal_stack() -> tuple[object, ...]:
    """The calling thread's alternate signal stack: address, flags, bytes."""
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.pointer, stack.flags, stack.size


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO sets one on Linux alone")
def test_engines_leave_the_signal_stack_as_it_was(workshop):
    """Ctrl-C after two engines were closed in the order of their loading ended pytest with SIGSEGV."""
    before = signal_stack()
    engines = [workshop.load("openvino", "fp32") for _ in range(2)]
    for engine in engines:
        engine.effective()
        engine.score(prompts(1, 8, 0))
    assert signal_stack() == before
    for engine in engines:
        engine.close()
    assert signal_stack() == before


@pytest.mark.parametrize(
    "precision",
    [
        "bf16",
        pytest.param("int4_wo", marks=pytest.mark.heavy),
        pytest.param("fp16", marks=pytest.mark.heavy),
        pytest.param("int4_awq", marks=pytest.mark.slow),
    ],
)
def test_every_precision_is_stored_as_named(workshop, precision):
    if precision == "bf16" and not cpu.cpu_computes_bf16():
        pytest.skip("this CPU does not compute in bf16")
    engine = workshop.load("openvino", precision)
    found = engine.effective()
    engine.close()
    check_effective(engine.spec, engine.runtime, found)
    stored = found.details["weight_bytes"]
    floats = {"bf16": "bf16", "fp16": "f16"}
    assert max(stored, key=stored.get) == floats[precision] if precision in floats else "i4" in stored
    assert found.kv_precision == ("fp16" if precision in floats else "int8")


@pytest.mark.heavy
def test_gptq_is_stored_as_named(workshop):
    assert read_weights(workshop.folder("openvino", "int4_gptq") / "openvino_model.xml").precision == "int4_gptq"


def test_half_precisions_take_half_the_disk(workshop):
    full, half = (
        (workshop.folder("openvino", precision) / "openvino_model.bin").stat().st_size for precision in ("fp32", "bf16")
    )
    assert half < 0.55 * full


@pytest.mark.parametrize(("stored", "name"), [("int4_wo", "int8_wo"), ("int4_wo", "int4_awq"), ("bf16", "fp32")])
def test_weights_under_a_wrong_name_are_found_out(workshop, stored, name):
    spec = workshop.spec("openvino", name)
    engine = load_backend("openvino").load(workshop.folder("openvino", stored), spec, RuntimeSpec())
    found = engine.effective()
    engine.close()
    with pytest.raises(EngineError, match=f"weights are {stored}, asked was {name}"):
        check_effective(spec, RuntimeSpec(), found)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_running_pool_has_the_kv_precision_that_was_asked(workshop, precision):
    runtime = replace(FP32_ACTIVATIONS, kv_precision=precision)
    engine = workshop.load("openvino", "int8_wo", runtime)
    found, use = engine.effective(), engine.memory()
    engine.close()
    check_effective(engine.spec, runtime, found)
    assert found.kv_precision == precision
    assert use.kv_cache == use.kv_budget == use.kv_cache_predicted


def test_kv_precision_takes_part_in_decode_steps_and_not_in_one_pass(workshop):
    scores = {}
    sequences = prompts(4, 60)
    for precision in ("fp16", "int4"):
        engine = workshop.load("openvino", "fp32", RuntimeSpec(kv_precision=precision))
        scores[precision] = [np.array(engine.score(sequences, prefill=prefill)) for prefill in (None, 8)]
        engine.close()
    one_pass, by_steps = (np.abs(left - right) for left, right in zip(scores["fp16"], scores["int4"], strict=True))
    assert one_pass.max() < 1e-3
    assert by_steps[:, 8:].mean() > 10 * one_pass.max()


@pytest.mark.parametrize("factor", [1, 2])
def test_kv_budget_is_what_was_asked(workshop, factor):
    spec = workshop.spec("openvino", "int8_wo")
    block = kv_cache.block_bytes(Geometry(2, 2, 16, 256), "int8")
    engine = workshop.load("openvino", "int8_wo", RuntimeSpec(kv_cache_bytes=factor * 12 * block))
    engine.generate(prompts(1, 4), SamplingParams(2))
    use = engine.memory()
    check_effective(spec, engine.runtime, engine.effective())
    engine.close()
    assert spec.max_batch_size * -(-(spec.max_input_len + spec.max_output_len) // 32) == 12
    assert use.kv_cache == use.kv_budget == factor * 12 * block
    assert use.kv_cache_predicted == 12 * block


def test_kv_budget_below_one_sequence_is_refused(workshop):
    with pytest.raises(EngineError, match="holds 1 blocks"):
        workshop.load("openvino", "int8_wo", RuntimeSpec(kv_cache_bytes=6000))


def test_small_kv_pool_still_answers_every_prompt_in_full(workshop):
    block = kv_cache.block_bytes(Geometry(2, 2, 16, 256), "fp32")
    engine = workshop.load("openvino", "fp32", RuntimeSpec(kv_cache_bytes=5 * block))
    batch = prompts(4, 30)
    answers = engine.generate(batch, SamplingParams(20))
    alone = [engine.generate([prompt], SamplingParams(20))[0] for prompt in batch]
    engine.close()
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in alone]


def test_chunked_prefill_gives_the_same_tokens(workshop, shared_engine):
    engine = workshop.load("openvino", "fp32", RuntimeSpec(chunked_prefill=True))
    batch = prompts(4, 48)
    chunked, whole = (each.generate(batch, SamplingParams(8)) for each in (engine, shared_engine("openvino", "fp32")))
    check_effective(engine.spec, engine.runtime, engine.effective())
    assert shared_engine("openvino", "fp32").effective().chunked_prefill is False
    engine.close()
    assert [answer.token_ids for answer in chunked] == [answer.token_ids for answer in whole]


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeSpec(speculation="ngram"),
        pytest.param(RuntimeSpec(speculation="draft"), marks=pytest.mark.heavy),
        RuntimeSpec(prefix_caching=True),
        pytest.param(RuntimeSpec(scheduler_policy="static"), marks=pytest.mark.heavy),
        pytest.param(RuntimeSpec(queue_order="sjf"), marks=pytest.mark.heavy),
        RuntimeSpec(speculation="ngram", chunked_prefill=True, prefix_caching=True, queue_order="priority"),
    ],
)
def test_techniques_change_no_token_and_are_stated(workshop, shared_engine, monkeypatch, runtime):
    batch = [prompts(1, 8, seed)[0] * repeats for seed, repeats in enumerate((5, 5, 1, 6))]
    plain = shared_engine("openvino", "fp32").generate(batch, SamplingParams(24))
    arrivals = [Arrival(tuple(prompt), SamplingParams(24), 0.01 * number) for number, prompt in enumerate(batch)]
    monkeypatch.setenv("ENGINEGATE_DRAFT_MODEL", str(workshop.folder("openvino", "int4_wo")))
    with closing(workshop.load("openvino", "fp32", runtime)) as engine:
        check_effective(engine.spec, runtime, engine.effective())
        answers = [engine.generate(batch, SamplingParams(24)) for _ in range(2)][1]
        events = list(checked_events("openvino", engine.submit(arrivals), arrivals, VOCABULARY))
    for number, (answer, expected) in enumerate(zip(answers, plain, strict=True)):
        served = [token for event in events if event.request == number for token in event.token_ids]
        assert answer.token_ids == tuple(served) == expected.token_ids


@pytest.mark.parametrize(
    ("precision", "runtime", "said"),
    [
        ("fp32", RuntimeSpec(activation_precision="bf16"), "computes in fp32"),
        ("int8_wo", RuntimeSpec(activation_precision="fp8"), "does not compute in fp8"),
        ("int8_wo", RuntimeSpec(kv_precision="fp8"), "no fp8 KV cache"),
        ("fp32", RuntimeSpec(kv_precision="bf16"), "needs bf16 activations"),
        ("fp32", RuntimeSpec(tokens_per_block=16), "tokens_per_block 16"),
        ("fp32", RuntimeSpec(speculation="lookahead"), "lookahead"),
        ("fp32", RuntimeSpec(speculation="draft"), "needs a draft model"),
    ],
)
def test_what_the_pipeline_cannot_be_told_is_refused(workshop, monkeypatch, precision, runtime, said):
    monkeypatch.delenv("ENGINEGATE_DRAFT_MODEL", raising=False)
    with pytest.raises(CapabilityError, match=said):
        workshop.load("openvino", precision, runtime)


def test_groups_that_do_not_divide_the_layers_are_refused(workshop, tmp_path):
    spec = replace(workshop.spec("openvino", "int4_wo"), quantization=QuantizationSpec(group_size=48))
    with pytest.raises(CapabilityError, match=r"groups of 48 .* hidden_size 64, intermediate_size 128"):
        load_backend("openvino").build(spec, workshop.checkpoint, tmp_path, lambda _: None)


def test_failed_export_shows_its_reason(workshop, tmp_path):
    spec = replace(
        workshop.spec("openvino", "int4_awq"), quantization=QuantizationSpec(group_size=32, calibration="/nowhere")
    )
    with pytest.raises(EngineError, match="calibration passages '/nowhere' cannot be read"):
        load_backend("openvino").build(spec, workshop.checkpoint, tmp_path, lambda _: None)


def test_damaged_engine_folder_is_refused(workshop, tmp_path):
    shutil.copytree(workshop.folder("openvino", "fp32"), tmp_path / "engine")
    model = tmp_path / "engine" / "openvino_model.xml"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(EngineError, match="cannot be read"):
        load_backend("openvino").load(tmp_path / "engine", workshop.spec("openvino", "fp32"), RuntimeSpec())


def test_build_keeps_only_what_an_engine_needs(workshop):
    names = {file.name for file in workshop.folder("openvino", "fp32").iterdir()}
    assert names == {"openvino_model.xml", "openvino_model.bin", "config.json", "generation_config.json"}
