"""Sizes of vLLM's KV cache.

It is the v1 one (``vllm/v1/kv_cache_interface.py`` and ``core/kv_cache_utils.py``, read, not run): a page
is one block of one layer. Layers that differ are split into groups of equally many, padded where they do not divide;
the groups draw blocks of one size from one pool, and each has blocks of its own for a sequence. A window layer holds
the window and what one step adds, and one block more, as a window seldom begins with a block. MLA keeps one vector, not
two.
"""

from __future__ import annotations

from collections.abc import Sequence

from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvLaw, KvPool, refuse_format, refuse_kind
from enginegate.models.attention import AttentionKind

#: Bytes of an element, and of the scales that each head of a token has for its key and for its value.
_FORMATS = {
    "fp16": (2, 0),
    "bf16": (2, 0),
    "fp8": (1, 0),
    "int8_per_token_head": (1, 4),
    "fp8_per_token_head": (1, 4),
}
#: Formats whose layout is not elements times bytes: 4-bit pairs with an 8-bit scale for 16 of them, and DeepSeek's MLA.
_NVFP4, _FP8_MLA, _FP8_MLA_BYTES = "nvfp4", "fp8_ds_mla", 656
FORMATS = (*_FORMATS, _NVFP4, _FP8_MLA)

#: Groups are padded to the larger number of layers where it is below this many times the smaller one.
_NEAR = 1.5


def page_bytes(kind: AttentionKind, element: str, block_tokens: int) -> int:
    """Bytes of one block of one layer."""
    if kind.latent:
        if element == _FP8_MLA:
            return block_tokens * _FP8_MLA_BYTES
        if element not in ("fp16", "bf16", "fp8"):
            raise refuse_format("vllm", element, ("fp16", "bf16", "fp8", _FP8_MLA))
        return block_tokens * kind.latent * _FORMATS[element][0]
    if element == _NVFP4:
        return block_tokens * kind.kv_heads * sum(size // 2 + size // 16 for size in (kind.key_size, kind.value_size))
    if element not in _FORMATS:
        raise refuse_format("vllm", element, (*_FORMATS, _NVFP4))
    size, scale = _FORMATS[element]
    return block_tokens * (kind.elements * size + 2 * kind.kv_heads * scale)


def kv_law(geometry: Geometry, element: str, block_tokens: int, step_tokens: int) -> KvLaw:
    """The KV cache's law.

    Args:
        geometry: the model's.
        element: one of FORMATS.
        block_tokens: tokens in a block.
        step_tokens: most tokens that one scheduling step computes (``max_num_batched_tokens``).

    Raises:
        CapabilityError: no such format, or layers whose pages cannot be made alike.
    """
    kinds = geometry.kinds
    pages = [page_bytes(kind, element, block_tokens) for kind in kinds]
    if len({kind.window for kind in kinds}) == 1:  # one group, whatever their heads are
        name = " + ".join(dict.fromkeys(kind.name for kind in kinds))
        block = sum(kind.layers * page for kind, page in zip(kinds, pages, strict=True))
        pools = [KvPool(name, block_tokens, block, _most(kinds[0], block_tokens, step_tokens))]
    else:
        pools = _groups(kinds, pages, block_tokens, step_tokens)
    return KvLaw(element, tuple(pools), spare_blocks=1, source="vllm/v1/kv_cache_interface.py")


def _groups(kinds: Sequence[AttentionKind], pages: Sequence[int], block_tokens: int, step_tokens: int) -> list[KvPool]:
    page = max(pages)
    fewest, most = min(kind.layers for kind in kinds), max(kind.layers for kind in kinds)
    size = most if most < _NEAR * fewest else fewest
    pools = []
    for kind, own in zip(kinds, pages, strict=True):
        if page % own:
            raise refuse_kind("vllm", kind.name, f"its pages of {own} bytes do not divide the largest, {page}")
        tokens = block_tokens * (page // own)
        pool = KvPool(kind.name, tokens, size * page, _most(kind, tokens, step_tokens))
        pools += [pool] * -(-kind.layers // size)
    return pools


def _most(kind: AttentionKind, block_tokens: int, step_tokens: int) -> int | None:
    if kind.window is None:
        return None
    return -(-(kind.window - 1 + step_tokens) // block_tokens) + 1
