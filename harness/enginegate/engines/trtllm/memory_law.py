"""What TensorRT-LLM takes on a GPU: the law as its documents state it; no run of this repository has checked it.

There is a pool for each pair of attention window and KV heads, and a block of a pool holds all of its layers
(``docs/source/features/kvcache.md``). Blocks that have left a window are freed, so a window layer holds the blocks that
a window can touch. Its memory fraction is a share of what is *free* once the engine is loaded.
"""

from __future__ import annotations

from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvLaw, KvPool, MemoryLaw, WeightLaw, refuse_format, refuse_kind
from enginegate.engines.trtllm.loading import SPARE_BLOCKS
from enginegate.engines.trtllm.options import pool_limits
from enginegate.models.attention import AttentionKind

#: Bits of an element; NVFP4 has an 8-bit scale for 16 elements. int8 and fp8 have one scale for a whole layer.
_BITS = {"fp32": 32.0, "fp16": 16.0, "bf16": 16.0, "fp8": 8.0, "int8": 8.0, "nvfp4": 4.5}
FORMATS = tuple(_BITS)
#: Tokens in a block where the runtime names no other number; upstream's own default.
TOKENS_PER_BLOCK = 32
_MATRIX_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8_wo": 8, "w8a8_sq": 8, "nvfp4": 4.5}


def memory_law(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
    """See ``engines.memory_law.memory_law``."""
    half = spec.precision if spec.precision in ("fp16", "bf16", "fp32") else "fp16"
    element = kv_format or (half if runtime.kv_precision == "auto" else runtime.kv_precision)
    if element not in _BITS:
        raise refuse_format("trtllm", element, FORMATS)
    tokens = runtime.tokens_per_block or TOKENS_PER_BLOCK
    group = spec.quantization.group_size
    matrix = _MATRIX_BITS.get(spec.precision, 4 + (16 / group if group else 0))
    return MemoryLaw(
        kv=KvLaw(
            element,
            _pools(geometry, element, tokens),
            spare_tokens=SPARE_BLOCKS * tokens,
            most_tokens=pool_limits(runtime)[0],
            source="TensorRT-LLM docs/source/features/kvcache.md",
        ),
        weights=WeightLaw(matrix, 32 if half == "fp32" else 16, 32 if half == "fp32" else 16),
        weight_copies=1,
        activation_bytes=4 if half == "fp32" else 2,
        step_tokens=0,
        own=None,
        fraction_of="free",
        kernel_counts_pool=True,
    )


def _pools(geometry: Geometry, element: str, tokens: int) -> tuple[KvPool, ...]:
    alike: dict[tuple[int | None, int], list[AttentionKind]] = {}
    for kind in geometry.kinds:
        if kind.latent and element == "nvfp4":
            raise refuse_kind("trtllm", kind.name, "it has no NVFP4 cache")
        alike.setdefault((kind.window, 1 if kind.latent else kind.kv_heads), []).append(kind)
    pools = []
    for (window, _), kinds in alike.items():
        elements = sum(kind.layers * (kind.latent or kind.elements) for kind in kinds)
        most = None if window is None else -(-window // tokens) + 1
        pools.append(KvPool(kinds[0].name, tokens, int(tokens * elements * _BITS[element]) // 8, most))
    return tuple(pools)
