"""Each engine's memory law, against the engine's own numbers or the library's own cache."""

from __future__ import annotations

import math

import pytest
from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvPool, memory_law, pool_bytes
from enginegate.engines.registry import load_backend
from enginegate.engines.trtllm.options import TensorRtRuntime
from enginegate.models.attention import AttentionKind


def geometry(*kinds: AttentionKind) -> Geometry:
    first = kinds[0]
    layers = sum(kind.layers for kind in kinds)
    return Geometry(layers, first.kv_heads, first.key_size, 1 << 20, kinds)


GQA = AttentionKind(10, 32, 4, 64, 64)
WINDOW = AttentionKind(50, 32, 4, 64, 64, window=1024)
MLA = AttentionKind(61, 128, 128, 192, 128, latent=576)


def law(backend: str, model: Geometry, precision: str = "fp16", kv_format: str = "", **runtime):
    spec = EngineSpec("m", backend, precision, max_batch_size=4, max_input_len=512, max_output_len=512)
    return memory_law(load_backend(backend), spec, RuntimeSpec(**runtime), model, kv_format)


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 1024])
def test_blocks_are_whole_and_a_window_limits_them(tokens):
    assert KvPool("", 32, 8).blocks(tokens) == math.ceil(tokens / 32)
    assert KvPool("", 32, 8, most_blocks=2).blocks(tokens) == min(2, math.ceil(tokens / 32))


@pytest.mark.parametrize(
    ("kv_format", "token_bytes"),
    [
        ("fp16", 2 * 64 * 2),
        ("fp8", 2 * 64),
        ("int8_per_token_head", 2 * (64 + 4)),
        ("nvfp4", 2 * (32 + 4)),
    ],
)
def test_vllm_formats_with_their_scales(kv_format, token_bytes):
    kv = law("vllm", geometry(GQA), kv_format=kv_format).kv
    assert kv.token_bytes == 10 * 4 * token_bytes
    assert kv.bytes(3, 17) == (3 * 2 + 1) * 16 * kv.token_bytes  # two blocks each, and vLLM's own


def test_mla_has_no_second_copy_in_vllm_and_tensorrt_and_every_head_in_transformers():
    assert law("vllm", geometry(MLA)).kv.token_bytes == 61 * 576 * 2
    assert law("vllm", geometry(MLA), kv_format="fp8_ds_mla").kv.token_bytes == 61 * 656
    assert law("trtllm-torch", geometry(MLA)).kv.token_bytes == 61 * 576 * 2
    assert law("hf", geometry(MLA)).kv.token_bytes == 61 * 128 * (192 + 128) * 2
    with pytest.raises(CapabilityError, match="MLA"):
        law("openvino", geometry(MLA), "fp32")


def test_vllm_splits_layers_that_differ_into_groups_of_one_size():
    """Gemma 3 27B: 52 window layers beside 10 others make 6 groups of 10, of which the last is padded."""
    window = AttentionKind(52, 32, 16, 128, 128, window=1024)
    full = AttentionKind(10, 32, 16, 128, 128)
    kv = law("vllm", geometry(window, full), chunked_prefill=True).kv
    assert [pool.name for pool in kv.pools] == ["grouped-query, window 1,024"] * 6 + ["grouped-query"]
    assert {pool.block_bytes for pool in kv.pools} == {10 * 16 * 16 * 256 * 2}
    assert kv.pools[0].most_blocks == -(-(1023 + 512) // 16) + 1
    far = kv.used_bytes([100_000])
    assert far < 0.2 * 62 * 16 * 256 * 2 * 100_000  # the naive formula counts every token in every layer
    near = law("vllm", geometry(AttentionKind(12, 8, 8, 64, 64, 128), AttentionKind(13, 8, 8, 64, 64))).kv
    assert [pool.block_bytes // (16 * 1024 * 2) for pool in near.pools] == [13, 13]


def test_vllm_makes_blocks_of_smaller_pages_longer():
    wide = AttentionKind(5, 8, 4, 512, 512)
    kv = law("vllm", geometry(AttentionKind(25, 8, 4, 256, 256, 512), wide)).kv
    assert [pool.block_tokens for pool in kv.pools] == [32] * 5 + [16]
    with pytest.raises(CapabilityError, match="do not divide"):
        law("vllm", geometry(AttentionKind(25, 8, 3, 256, 256, 512), wide))


def test_openvino_keeps_every_token_of_a_window_layer():
    model = geometry(WINDOW, GQA)
    alike = geometry(AttentionKind(60, 32, 4, 64, 64))
    assert law("openvino", model, "fp32").kv.bytes(2, 5000) == law("openvino", alike, "fp32").kv.bytes(2, 5000)


def test_tensorrt_has_a_pool_for_each_window_and_number_of_kv_heads():
    kinds = (WINDOW, GQA, AttentionKind(3, 32, 4, 64, 64, window=1024), AttentionKind(2, 32, 1, 64, 64))
    kv = law("trtllm-torch", geometry(*kinds)).kv
    assert [(pool.block_bytes // (32 * 128 * 2), pool.most_blocks) for pool in kv.pools] == [
        (53 * 4, 33),
        (10 * 4, None),
        (2, None),
    ]


@pytest.mark.parametrize(
    ("runtime", "blocks"),
    [
        (TensorRtRuntime(), 4 * (1024 // 32 + 1)),  # a spare block in each sequence
        (TensorRtRuntime(kv_cache_tokens=5000), 156),
        (TensorRtRuntime(kv_cache_bytes=1), 0),  # too small for any block, not unlimited
        (TensorRtRuntime(kv_cache_bytes=200 * 32 * 10 * 512 * 2 + 1), 200),
        (TensorRtRuntime(kv_cache_tokens=5000, kv_cache_bytes=200 * 32 * 10 * 512 * 2), 156),
    ],
)
def test_the_smallest_limit_of_a_tensorrt_pool_decides(runtime, blocks):
    spec = EngineSpec("m", "trtllm-torch", "fp16", max_batch_size=4, max_input_len=512, max_output_len=512)
    kv = memory_law(load_backend("trtllm-torch"), spec, runtime, geometry(GQA)).kv
    assert pool_bytes(kv, spec, runtime) == blocks * 32 * 10 * 512 * 2


def test_a_fraction_is_of_the_total_in_one_engine_and_of_what_is_free_in_another():
    found = {name: law(name, geometry(GQA)).fraction_of for name in ("vllm", "trtllm-torch", "trtllm-engine", "hf")}
    assert found == {"vllm": "total", "trtllm-torch": "free", "trtllm-engine": "free", "hf": ""}


@pytest.mark.parametrize("backend", ["vllm", "trtllm-torch", "hf", "openvino"])
def test_a_format_that_an_engine_lacks(backend):
    with pytest.raises(CapabilityError, match="no KV cache in 'int3'"):
        law(backend, geometry(GQA), "fp32" if backend == "openvino" else "fp16", kv_format="int3")


def test_a_backend_without_a_law():
    class Bare:
        name = "bare"

    with pytest.raises(CapabilityError, match="backend bare states no memory law"):
        memory_law(Bare(), EngineSpec("m", "bare", "fp16"), RuntimeSpec(), geometry(GQA))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"num_key_value_heads": 2}),
        ("llama", {"num_key_value_heads": 1}),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 8}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
        (
            "deepseek_v3",
            {
                "kv_lora_rank": 16,
                "q_lora_rank": None,
                "qk_rope_head_dim": 8,
                "qk_nope_head_dim": 8,
                "v_head_dim": 12,
                "first_k_dense_replace": 2,
                "n_routed_experts": 2,
                "n_group": 1,
                "topk_group": 1,
                "num_experts_per_tok": 1,
            },
        ),
    ],
)
@pytest.mark.parametrize("tokens", [5, 20])
def test_the_references_law_is_what_transformers_keeps(kind, changes, tokens):
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64}
    config = AutoConfig.for_model(kind, num_attention_heads=4, **sizes, **changes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        cache = model(torch.zeros((3, tokens), dtype=torch.long), use_cache=True).past_key_values
        cache = model(torch.zeros((3, 1), dtype=torch.long), past_key_values=cache, use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    predicted = law("hf", Geometry.of(config.to_dict()), "fp32").kv
    assert predicted.used_bytes([tokens + 1] * 3) == kept
