"""From a spec and a runtime to vLLM's arguments, and the size of its KV pool. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvLaw, pool_bytes
from enginegate.engines.vllm.kv_cache import kv_law
from enginegate.engines.vllm.precisions import HALVES, KV_PRECISIONS

#: Tokens in a block of the KV cache where the runtime names no other number; vLLM's own choice on CUDA.
TOKENS_PER_BLOCK = 16
#: Tokens that n-gram speculation proposes at a time, and the longest n-gram that it looks up.
PROPOSED_TOKENS, LOOKUP_TOKENS = 3, 4
#: Prompt tokens that one scheduling step takes where prefill is chunked.
_CHUNK = 512

#: Most tokens that vLLM names at a position, besides the one that came: a bound that it checks requests against.
MOST_LOGPROBS = 256


def check_runtime(spec: EngineSpec, runtime: RuntimeSpec) -> None:
    """Raise CapabilityError for what this backend cannot be told."""
    refused = []
    if runtime.kv_precision not in ("auto", *KV_PRECISIONS):
        refused.append(f"a KV cache in {runtime.kv_precision} (it has {', '.join(KV_PRECISIONS)})")
    if runtime.activation_precision not in ("auto", *HALVES):
        refused.append(f"activations in {runtime.activation_precision} (it has {', '.join(HALVES)})")
    if spec.precision in HALVES and runtime.activation_precision not in ("auto", spec.precision):
        refused.append(f"activations in {runtime.activation_precision} with {spec.precision} weights")
    if runtime.speculation not in ("none", "ngram"):
        refused.append(f"speculation {runtime.speculation} (it has ngram)")
    if refused:
        raise CapabilityError(f"{spec.id}: backend vllm has no {', '.join(refused)}", "change engines.vllm.runtime")


def kv_precision(runtime: RuntimeSpec, activation: str) -> str:
    """The KV cache's element type: what was asked, else the activations'. Raises CapabilityError for another half."""
    asked = activation if runtime.kv_precision == "auto" else runtime.kv_precision
    if asked not in (activation, "fp8"):
        raise CapabilityError(
            f"a KV cache in {asked} beside activations in {activation}",
            f"set kv_precision to auto, {activation} or fp8",
        )
    return asked


def step_tokens(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry) -> int:
    """Most tokens that one scheduling step computes (``max_num_batched_tokens``)."""
    whole_batch = max(spec.max_batch_size * spec.max_input_len, longest(spec, geometry))
    return min(_CHUNK, whole_batch) if runtime.chunked_prefill else whole_batch


def longest(spec: EngineSpec, geometry: Geometry) -> int:
    """Positions of a sequence (``max_model_len``): one more than asked, to score a sequence of full length."""
    return min(geometry.positions, spec.max_input_len + spec.max_output_len + 1)


def kv_law_of(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, precision: str) -> KvLaw:
    """The law of the KV cache that this engine has: with the tokens that speculation proposes, and one to score."""
    step = step_tokens(spec, runtime, geometry)
    law = kv_law(geometry, precision, runtime.tokens_per_block or TOKENS_PER_BLOCK, step)
    return replace(law, spare_tokens=1 + (PROPOSED_TOKENS if runtime.speculation == "ngram" else 0))


def kv_pool_bytes(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, precision: str) -> int:
    """Bytes of the KV pool: ``kv_cache_bytes``, or what the largest batch needs. Raises EngineError where too small."""
    law = kv_law_of(spec, runtime, geometry, precision)
    least = law.bytes(1, spec.max_input_len + spec.max_output_len + 1) + law.pools[0].block_bytes
    if 0 < runtime.kv_cache_bytes < least:
        raise EngineError(
            f"{spec.id}: kv_cache_bytes {runtime.kv_cache_bytes} does not hold one sequence of "
            f"{spec.max_input_len + spec.max_output_len} tokens",
            f"give at least {least} bytes, or lower max_input_len or max_output_len",
        )
    return pool_bytes(law, spec, runtime)


def llm_arguments(
    engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, activation: str
) -> dict[str, Any]:
    """Arguments of ``vllm.LLM`` for a built engine.

    Args:
        engine_dir: what ``build`` wrote.
        spec: the engine.
        runtime: how it is loaded.
        geometry: the model's.
        activation: element type of the activations, in the suite's names.
    """
    check_runtime(spec, runtime)
    kv = kv_precision(runtime, activation)
    arguments: dict[str, Any] = {
        "model": str(engine_dir),
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
        "dtype": HALVES[activation],
        "kv_cache_dtype": KV_PRECISIONS[kv],
        "max_model_len": longest(spec, geometry),
        "max_num_seqs": spec.max_batch_size,
        "max_num_batched_tokens": step_tokens(spec, runtime, geometry),
        "enable_chunked_prefill": runtime.chunked_prefill,
        "enable_prefix_caching": runtime.prefix_caching,
        "max_logprobs": MOST_LOGPROBS,
        "block_size": runtime.tokens_per_block or TOKENS_PER_BLOCK,
        "kv_cache_memory_bytes": kv_pool_bytes(spec, runtime, geometry, kv) // spec.tensor_parallel,
        # The pool's size is given above; this share would only make vLLM refuse a device that others use too.
        "gpu_memory_utilization": 0.01,
        "tensor_parallel_size": spec.tensor_parallel,
        "seed": 0,
        "disable_log_stats": True,
    }
    if runtime.queue_order == "priority":
        arguments["scheduling_policy"] = "priority"
    if spec.precision == "fp8":
        arguments["quantization"] = "fp8"
    if runtime.speculation == "ngram":
        arguments["speculative_config"] = {
            "method": "ngram",
            "num_speculative_tokens": PROPOSED_TOKENS,
            "prompt_lookup_max": LOOKUP_TOKENS,
        }
    return arguments
