"""The vLLM backend's calculations, without vLLM and without a GPU."""

from __future__ import annotations

import math
import venv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.answers import checked_distributions
from enginegate.engines.base import Effective
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.effective import check_effective
from enginegate.engines.vllm import VllmBackend, settings
from enginegate.engines.vllm.build import quantizer_version
from enginegate.engines.vllm.engine import VllmEngine, _distribution
from enginegate.engines.vllm.precisions import precision_found, weight_scheme
from enginegate.engines.vllm.quantize import weight_arguments
from enginegate.engines.vllm.ranks import message_queues, read_ranks, weights_of

GEOMETRY = Geometry(layers=2, heads=4, head_size=8, positions=64)
SPEC = EngineSpec("m", "vllm", "fp16", max_batch_size=4, max_input_len=32, max_output_len=16)
RUNTIME = RuntimeSpec()


def arguments(spec: EngineSpec = SPEC, runtime: RuntimeSpec = RUNTIME) -> dict:
    return settings.llm_arguments(Path("engine"), spec, runtime, GEOMETRY, "fp16")


def scheme(bits: int, activation_bits: int | None = None) -> dict:
    activations = {"num_bits": activation_bits} if activation_bits else None
    group = {"weights": {"num_bits": bits, "type": "int"}, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("sizes", "method", "stored", "recipe", "found"),
    [
        ({"torch.float16": 99, "torch.float32": 1}, None, {}, "", "fp16"),
        ({"torch.bfloat16": 100}, None, {}, "", "bf16"),
        ({"torch.float16": 60, "torch.float32": 40}, None, {}, "", "mixed: fp16 60%, fp32 40%"),
        ({"torch.float8_e4m3fn": 70, "torch.bfloat16": 30}, "fp8", {}, "", "fp8"),
        ({"torch.bfloat16": 100}, "fp8", {}, "", "fp8 without a quantized weight"),
        ({"torch.int32": 70, "torch.bfloat16": 30}, "compressed-tensors", scheme(8), "", "int8_wo"),
        ({"torch.int32": 70}, "compressed-tensors", scheme(4), "QuantizationModifier", "int4_wo"),
        ({"torch.int32": 70}, "compressed-tensors", scheme(4), "AWQModifier: {}", "int4_awq"),
        ({"torch.int32": 70}, "compressed-tensors", scheme(4), "GPTQModifier: {}", "int4_gptq"),
        ({"torch.int8": 70}, "compressed-tensors", scheme(8, 8), "SmoothQuantModifier: {}", "w8a8_sq"),
        ({"torch.int8": 70}, "compressed-tensors", scheme(8, 8), "", "w8a8"),
        ({"torch.int32": 70}, "compressed-tensors", scheme(3), "", "int3 weight-only"),
        ({"torch.int32": 70}, "awq", {}, "", "awq None"),
    ],
)
def test_precision_is_read_from_what_is_loaded(sizes, method, stored, recipe, found):
    assert precision_found(sizes, method, weight_scheme(stored), recipe) == found


def test_several_schemes_in_one_checkpoint_are_none_of_ours():
    two = scheme(4)
    two["config_groups"]["group_1"] = two["config_groups"]["group_0"]
    assert weight_scheme(two) is None


def test_four_bit_weights_share_scales_in_groups_and_eight_bit_ones_by_channel():
    assert weight_arguments("int4_wo", 64)["group_size"] == 64
    assert weight_arguments("int8_wo", 64)["strategy"] == "channel"
    assert weight_arguments("int4_wo", None)["strategy"] == "channel"


def test_pool_holds_the_largest_batch_at_full_length_and_vllms_own_block():
    blocks = 1 + 4 * 4  # 32 + 16 + 1 tokens are four blocks of 16
    assert settings.kv_pool_bytes(SPEC, RUNTIME, GEOMETRY, "fp16") == blocks * 16 * 2 * 2 * 4 * 8 * 2
    assert settings.kv_pool_bytes(SPEC, RUNTIME, GEOMETRY, "fp8") * 2 == settings.kv_pool_bytes(
        SPEC, RUNTIME, GEOMETRY, "fp16"
    )


def test_a_pool_for_less_than_one_sequence_is_refused_with_what_is_needed():
    with pytest.raises(EngineError, match="kv_cache_bytes 4096 does not hold one sequence of 48 tokens") as refused:
        settings.kv_pool_bytes(SPEC, replace(RUNTIME, kv_cache_bytes=4096), GEOMETRY, "fp16")
    least = int(refused.value.hint.split()[3])
    assert settings.kv_pool_bytes(SPEC, replace(RUNTIME, kv_cache_bytes=least), GEOMETRY, "fp16") == least


def test_each_of_two_cards_gets_half_the_pool():
    whole, halved = arguments(), arguments(replace(SPEC, tensor_parallel=2))
    assert halved["tensor_parallel_size"] == 2
    assert halved["kv_cache_memory_bytes"] * 2 == whole["kv_cache_memory_bytes"]


def test_what_the_runtime_names_reaches_vllm():
    assert arguments()["enable_prefix_caching"] is False
    assert arguments()["trust_remote_code"] is False
    assert "quantization" not in arguments()
    assert arguments(replace(SPEC, precision="fp8"))["quantization"] == "fp8"
    assert arguments(runtime=replace(RUNTIME, kv_precision="fp8"))["kv_cache_dtype"] == "fp8_e4m3"
    assert arguments(runtime=replace(RUNTIME, speculation="ngram"))["speculative_config"]["method"] == "ngram"
    assert arguments()["enable_prefix_caching"] is False
    assert arguments(runtime=replace(RUNTIME, prefix_caching=True))["enable_prefix_caching"] is True
    assert "scheduling_policy" not in arguments(runtime=replace(RUNTIME, queue_order="sjf")), "it waits in front of it"
    assert arguments(runtime=replace(RUNTIME, queue_order="priority"))["scheduling_policy"] == "priority"
    assert arguments(runtime=replace(RUNTIME, tokens_per_block=32))["block_size"] == 32
    chunked = arguments(replace(SPEC, max_batch_size=64), replace(RUNTIME, chunked_prefill=True))
    assert chunked["enable_chunked_prefill"] is True
    assert chunked["max_num_batched_tokens"] == 512


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_precision": "int8"}, "a KV cache in int8"),
        ({"activation_precision": "fp32"}, "activations in fp32"),
        ({"activation_precision": "bf16"}, "activations in bf16 with fp16 weights"),
        ({"speculation": "eagle"}, "speculation eagle"),
        ({"kv_precision": "bf16"}, "a KV cache in bf16 beside activations in fp16"),
    ],
)
def test_what_vllm_cannot_be_told_is_refused_by_name(change, words):
    with pytest.raises(CapabilityError, match=words):
        arguments(runtime=replace(RUNTIME, **change))


class Tensor:
    """As much of a torch tensor as is looked at."""

    def __init__(self, address: int, dtype: str, elements: int, element_bytes: int) -> None:
        self.dtype, self.nbytes = dtype, elements * element_bytes
        self.data_ptr, self.element_size = (lambda: address), (lambda: element_bytes)


def worker(weights: list[Tensor], pool: list) -> SimpleNamespace:
    model = SimpleNamespace(parameters=lambda: weights, buffers=list)
    group = SimpleNamespace(backend=SimpleNamespace(get_name=lambda: "FLASH_ATTN"))
    return SimpleNamespace(model_runner=SimpleNamespace(model=model, kv_caches=pool, attn_groups=[[group]]))


class Executor:
    """vLLM's executor: calls a function with each worker, wrapped or bare."""

    def __init__(self, *workers: object) -> None:
        self.workers = workers

    def collective_rpc(self, method):
        return [method(each) for each in self.workers]


def test_all_ranks_are_asked_and_a_tensor_of_two_names_counts_once():
    tied = Tensor(1, "torch.float16", 100, 2)
    first = worker([tied, tied, Tensor(2, "torch.float32", 10, 4)], [Tensor(3, "torch.float16", 50, 2)])
    second = worker([Tensor(1, "torch.float16", 100, 2)], [[Tensor(3, "torch.float16", 25, 2)] * 2])
    ranks = read_ranks(Executor(SimpleNamespace(worker=first), second))
    assert weights_of(ranks) == {"torch.float16": 400, "torch.float32": 40}
    assert [rank.kv_bytes for rank in ranks] == [100, 50]
    assert {(rank.kv_type, rank.kv_element_bytes, rank.attention) for rank in ranks} == {
        ("torch.float16", 2, "FLASH_ATTN")
    }


class Queue:
    """A queue whose context, as pyzmq's, closes the sockets that are alive."""

    def __init__(self, log: list[object]) -> None:
        self.local_socket = SimpleNamespace(context=SimpleNamespace(destroy=lambda linger: log.append(linger)))


def test_closing_closes_the_queues_to_the_workers_once_these_are_gone():
    log: list[object] = []
    executor = SimpleNamespace(rpc_broadcast_mq=Queue(log), response_mqs=[Queue(log), Queue(log)])
    core = SimpleNamespace(shutdown=lambda: log.append("workers gone"))
    engine = VllmEngine.__new__(VllmEngine)
    engine._queues = message_queues(executor)
    engine._llm = SimpleNamespace(llm_engine=SimpleNamespace(engine_core=core))
    engine._torch = SimpleNamespace(cuda=SimpleNamespace(empty_cache=lambda: None))
    engine.close()
    engine.close()
    assert log == ["workers gone", 0, 0, 0]
    assert message_queues(Executor([])) == [], "an executor with its worker in this process has none"


def test_an_engine_on_another_number_of_cards_is_not_the_one_asked_for():
    found = Effective("fp16", "fp16", "fp16", 48, None, {"tensor_parallel": 1})
    check_effective(SPEC, RUNTIME, found)
    with pytest.raises(EngineError, match="spans 1 devices, asked were 2"):
        check_effective(replace(SPEC, tensor_parallel=2), RUNTIME, found)


def test_more_cards_than_are_visible_are_refused_before_anything_loads(monkeypatch):
    monkeypatch.setattr("enginegate.machine.cpu.missing_modules", lambda _: [])
    monkeypatch.setattr("enginegate.machine.gpu.uuids", lambda: ["GPU-0"])
    with pytest.raises(CapabilityError, match="tensor_parallel 2 needs as many GPUs, visible are 1"):
        VllmBackend().load(Path("engine"), replace(SPEC, tensor_parallel=2), RUNTIME)


def test_the_version_of_another_quantizer_is_its_own(tmp_path, monkeypatch):
    """It was read from what is on this process's PYTHONPATH, which the child that quantizes does not get."""
    ours, theirs = tmp_path / "ours", tmp_path / "bare"
    venv.create(theirs, symlinks=True)
    (site,) = theirs.glob("lib/python*/site-packages")
    for folder, version in ((ours, "1.0"), (site, "2.0")):
        info = folder / f"llmcompressor-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llmcompressor\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(ours))
    assert quantizer_version(str(theirs / "bin" / "python")) == "llmcompressor 2.0"


def test_a_distribution_is_what_vllm_names_and_the_rest():
    """The token that came has a cell beside the likeliest ones, and what is left is one cell."""

    class Named:
        def __init__(self, logprob):
            self.logprob = logprob

    first = {7: Named(math.log(0.5)), 3: Named(math.log(0.25))}
    second = {9: Named(math.log(0.001)), 7: Named(math.log(0.5)), 3: Named(math.log(0.25))}
    found = _distribution([first, second], [7, 9], 2)
    assert found.ids.tolist() == [[7, 3, -1], [9, 7, 3]]
    np.testing.assert_allclose(np.exp(found.scores), [0.5, 0.001])
    np.testing.assert_allclose(np.exp(found.rest), [0.25, 0.249])
    assert found.likeliest.tolist() == [7, 7]
    checked_distributions("vllm", [found], [[1, 7, 9]], 10)
    assert np.isneginf(_distribution([{7: Named(0.0)}], [7], 1).rest).all()
