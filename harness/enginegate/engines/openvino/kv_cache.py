"""Sizes of the CPU's paged KV cache, predicted from the model and read back from the running pipeline.

The layout is that of the OpenVINO CPU plugin: a block holds 32 tokens of one layer; 8-bit and 4-bit caches keep two
float32 numbers (scale and zero point) beside each group: a token for values, a channel of the block (or, where so set,
a token) for keys.
"""

from __future__ import annotations

from enginegate.engines.checkpoint import Geometry

#: Tokens in a block; the CPU plugin has no other size.
TOKENS_PER_BLOCK = 32

_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
_SCALE_AND_ZERO_POINT_BITS = 64


def blocks_needed(sequences: int, tokens: int) -> int:
    """Blocks that ``sequences`` of ``tokens`` tokens each take; a block is never shared."""
    return sequences * -(-tokens // TOKENS_PER_BLOCK)


def block_bytes(geometry: Geometry, precision: str, *, keys_by_channel: bool = True) -> int:
    """Bytes of one block over all layers, scales and zero points included."""
    bits = _BITS[precision]
    overhead = _SCALE_AND_ZERO_POINT_BITS if precision in ("int8", "int4") else 0
    total = 0
    for kind in geometry.kinds:
        values = TOKENS_PER_BLOCK * (kind.value_size * bits + overhead)
        by_channel = kind.key_size * (TOKENS_PER_BLOCK * bits + overhead)
        keys = by_channel if keys_by_channel else TOKENS_PER_BLOCK * (kind.key_size * bits + overhead)
        total += kind.layers * kind.kv_heads * (keys + values)
    return total // 8


def allocated_bytes(reported: int, precision: str) -> int:
    """Bytes behind the pipeline's ``kv_cache_size_in_bytes``, which counts a 4-bit element as a whole byte."""
    return reported // 2 if precision == "int4" else reported


def precision_found(geometry: Geometry, claimed: str, reported: int, blocks: int) -> str:
    """The KV precision that a pool of ``reported`` bytes in ``blocks`` blocks can have.

    Returns:
        ``claimed`` where the pool's size is exactly what that type takes; else the types that have this size, or the
        bytes per block where none has. fp16 and bf16 are of one size, so between them the claim decides.
    """
    fitting = [
        precision
        for precision in _BITS
        for keys_by_channel in (True, False)
        if allocated_bytes(reported, precision)
        == blocks * block_bytes(geometry, precision, keys_by_channel=keys_by_channel)
    ]
    if claimed in fitting:
        return claimed
    return " or ".join(dict.fromkeys(fitting)) or f"unknown ({reported / blocks:.0f} bytes a block)"
