"""Memory before it is taken: weights, KV cache, activations and the runtime's own, from an engine's law. Pure.

What one pass computes for a token is held at once: for the widest part of a transformer's layer that is the residual
and its norm (hidden size each), and the gate, the other half and their product (width of the MLP each).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from enginegate.core.records import MemoryParts
from enginegate.engines.memory_law import MemoryLaw
from enginegate.models.weights import WeightCounts


@dataclass(frozen=True)
class ModelSize:
    """What of a model decides its memory, besides its KV cache.

    Attributes:
        layers: of attention.
        live: elements of one token that a pass holds at once.
        counts: its weights; None where nobody can tell.
    """

    layers: int
    live: int
    counts: WeightCounts | None


def live_elements(config: Mapping[str, Any]) -> int:
    """Elements of one token that a pass holds at once; see the module."""
    hidden = next((config[key] for key in ("hidden_size", "n_embd", "d_model") if config.get(key)), 0)
    mlp = next((config[key] for key in ("intermediate_size", "n_inner", "ffn_hidden_size") if config.get(key)), 0)
    return int(2 * hidden + 3 * (mlp or 4 * hidden))


def weight_bytes(law: MemoryLaw, counts: WeightCounts) -> int:
    """Bytes of the stored weights, scales and zero points included."""
    weights = law.weights
    bits = (
        counts.matrices * weights.matrix_bits
        + counts.rows * weights.row_bits
        + counts.embeddings * weights.embedding_bits
        + counts.embedding_rows * weights.embedding_row_bits
        + counts.others * weights.other_bits
    )
    return round(bits / 8)


def own_bytes(law: MemoryLaw, layers: int) -> int | None:
    """Bytes that the runtime takes for itself; None where nobody measured it."""
    return None if law.own is None else law.own.fixed + layers * law.own.layer


def activation_bytes(law: MemoryLaw, size: ModelSize, batch_size: int, prompt: int) -> int:
    """Bytes of the widest pass: all prompts of a batch at once, or as many tokens as a step takes."""
    tokens = batch_size * prompt
    return (min(tokens, law.step_tokens) if law.step_tokens else tokens) * size.live * law.activation_bytes


def predict(law: MemoryLaw, size: ModelSize, batch_size: int, prompt: int, output: int, kv_pool: int) -> MemoryParts:
    """What an engine takes while it answers one batch.

    Args:
        law: the engine's.
        size: the model's.
        batch_size, prompt, output: sequences, and tokens of each before and after.
        kv_pool: bytes of its KV pool; of an engine whose cache grows, those that the batch writes.
    """
    written = law.kv.used_bytes([prompt + output] * batch_size)
    weights = None if size.counts is None else weight_bytes(law, size.counts)
    activations, own = activation_bytes(law, size, batch_size, prompt), own_bytes(law, size.layers)
    kv = kv_pool if law.kernel_counts_pool else written
    total = None
    if weights is not None and own is not None:
        total = law.weight_copies * weights + kv + activations + own
    return MemoryParts(
        weights=weights,
        copies=law.weight_copies,
        kv=kv_pool,
        kv_written=written,
        activations=activations,
        own=own,
        total=total,
        whole_pool=law.kv.whole_pool,
        spread=law.own.spread if law.own is not None else 0,
        unsure=law.own.unsure if law.own is not None else "",
    )


def kv_room(law: MemoryLaw, size: ModelSize, memory: int, fraction: float, batch_size: int, prompt: int) -> int:
    """Bytes that are left for the KV cache.

    Args:
        law, size: the engine's and the model's; its weights must be known.
        memory: bytes of the device, or of what may be taken.
        fraction: what the engine is told to take: a share of all memory, or of what the rest leaves free, as the
            engine understands it (``law.fraction_of``); 1 for everything.
        batch_size, prompt: of the widest pass.
    """
    assert size.counts is not None
    own = own_bytes(law, size.layers) or 0
    context = law.own.context if law.own is not None else 0
    rest = law.weight_copies * weight_bytes(law, size.counts) + activation_bytes(law, size, batch_size, prompt) + own
    if law.fraction_of == "free":
        return int(fraction * (memory - context - rest))
    return int(fraction * memory) - context - rest


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest whole number up to ``most`` that fits; 0 where none does. What is larger never fits better."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
