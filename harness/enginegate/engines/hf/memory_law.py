"""What the reference takes: one tensor a layer that grows token by token, without blocks.

Transformers keeps MLA's keys and values of every head, expanded, and of a window layer the last tokens of the window
less one (``DynamicSlidingWindowLayer``).
"""

from __future__ import annotations

from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvLaw, KvPool, MemoryLaw, WeightLaw, refuse_format

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def memory_law(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
    """See ``engines.memory_law.memory_law``."""
    del runtime  # its cache is always of the weights' type
    element = kv_format or spec.precision
    if element != spec.precision or element not in _BYTES:
        raise refuse_format("hf", element, (spec.precision,) if spec.precision in _BYTES else tuple(_BYTES))
    size = _BYTES[element]
    pools = tuple(
        KvPool(kind.name, 1, kind.layers * kind.elements * size, kind.window and max(1, kind.window - 1))
        for kind in geometry.kinds
    )
    bits = 8 * size
    return MemoryLaw(
        kv=KvLaw(element, pools, whole_pool=False, source="transformers/cache_utils.py, DynamicCache"),
        weights=WeightLaw(bits, bits, bits),
        weight_copies=1,
        activation_bytes=size,
        step_tokens=0,
        own=None,
        fraction_of="",
        kernel_counts_pool=True,
    )
