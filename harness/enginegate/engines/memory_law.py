"""What an engine takes, predicted before it runs: the words in which each backend states its own law.

A backend that has a law brings it in its own folder, as the method ``memory_law(spec, runtime, geometry, formats)`` of
its class. No formula of one engine is another's: block sizes, scales, windows and what a window layer keeps all differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Backend
from enginegate.engines.checkpoint import Geometry


@dataclass(frozen=True)
class KvPool:
    """Layers whose blocks are handed out together.

    Attributes:
        name: the kind of attention.
        block_tokens: tokens in a block; 1 where the cache grows token by token.
        block_bytes: bytes of one block over all layers of the pool, scales included.
        most_blocks: blocks that one sequence holds at most, where a window limits it; None for no limit.
    """

    name: str
    block_tokens: int
    block_bytes: int
    most_blocks: int | None = None

    def blocks(self, tokens: int) -> int:
        """Blocks that one sequence of ``tokens`` tokens holds; a block is never shared."""
        needed = -(-tokens // self.block_tokens)
        return needed if self.most_blocks is None else min(needed, self.most_blocks)


@dataclass(frozen=True)
class KvLaw:
    """Bytes of one engine's KV cache.

    Attributes:
        format: element type, in the suite's or the engine's name.
        pools: see KvPool.
        spare_blocks: blocks that the engine keeps for itself, of the first pool.
        spare_tokens: tokens that it has room for in each sequence besides those asked for.
        most_tokens: tokens that the pool holds at most, by a setting that this engine alone has; 0 for no such limit.
        whole_pool: whether the pool is allocated at once, for the largest batch at full length.
        source: where the layout is written down.
    """

    format: str
    pools: tuple[KvPool, ...]
    spare_blocks: int = 0
    spare_tokens: int = 0
    most_tokens: int = 0
    whole_pool: bool = True
    source: str = ""

    def used_bytes(self, lengths: Sequence[int]) -> int:
        """Bytes of the blocks that sequences of these lengths hold."""
        return sum(pool.block_bytes * pool.blocks(tokens) for tokens in lengths for pool in self.pools)

    def bytes(self, batch_size: int, tokens: int) -> int:
        """Bytes of a pool that holds ``batch_size`` sequences of ``tokens`` tokens, and what is kept besides."""
        each = sum(pool.block_bytes * pool.blocks(tokens) for pool in self.pools)
        return batch_size * each + self.spare_blocks * self.pools[0].block_bytes

    @property
    def token_bytes(self) -> float:
        """Bytes of one token in a full block, over all layers."""
        return sum(pool.block_bytes / pool.block_tokens for pool in self.pools)


@dataclass(frozen=True)
class WeightLaw:
    """Bits of a stored weight, scales and zero points included.

    Attributes:
        matrix_bits: of the layers' matrices.
        embedding_bits: of the input embedding and the output layer.
        other_bits: of norms and biases.
        row_bits: of each row of a matrix besides.
    """

    matrix_bits: float
    embedding_bits: float
    other_bits: float
    row_bits: float = 0.0
    embedding_row_bits: float = 0.0


@dataclass(frozen=True)
class OwnLaw:
    """What the runtime takes for itself, measured: libraries, compiled graph, captured graphs, pools of its own.

    Attributes:
        fixed, layer: bytes whatever the model is, and bytes of each layer.
        source: the measurement.
        context: bytes of a CUDA context, which a card holds besides.
        spread: bytes by which the engines that it was measured on lie off.
        unsure: why it may not hold here, as another version of the library; empty where it was measured on such.
    """

    fixed: int
    layer: int
    source: str
    context: int = 0
    spread: int = 0
    unsure: str = ""


@dataclass(frozen=True)
class MemoryLaw:
    """What one engine takes.

    Attributes:
        kv: its KV cache.
        weights: its weights.
        weight_copies: how often the weights are in memory: twice where files stay mapped beside a packed copy.
        activation_bytes: bytes that each element of ``Widths.live`` takes.
        step_tokens: most tokens that one pass takes; 0 for a whole batch of prompts.
        own: the runtime's own, or None where nobody measured it.
        fraction_of: what the engine's memory fraction is a share of: ``total``, ``free``, or empty where it has none.
        kernel_counts_pool: whether the driver counts the pool whole; a kernel counts the pages that were written.
    """

    kv: KvLaw
    weights: WeightLaw
    weight_copies: int
    activation_bytes: int
    step_tokens: int
    own: OwnLaw | None
    fraction_of: str
    kernel_counts_pool: bool


def memory_law(
    backend: Backend, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str = ""
) -> MemoryLaw:
    """The law of ``backend`` for one engine.

    Args:
        backend: the engine's.
        spec, runtime: the engine.
        geometry: the model's.
        kv_format: an element type of the KV cache in the engine's own words; empty for what ``runtime`` asks for.

    Raises:
        CapabilityError: the backend states no law, or has no such format or kind of attention.
    """
    law = getattr(backend, "memory_law", None)
    if law is None:
        raise CapabilityError(
            f"backend {backend.name} states no memory law",
            "give its class memory_law(spec, runtime, geometry, kv_format) (docs/adding_a_backend.md)",
        )
    found: MemoryLaw = law(spec, runtime, geometry, kv_format)
    return found


def pool_bytes(law: KvLaw, spec: EngineSpec, runtime: RuntimeSpec) -> int:
    """Bytes of the KV pool that an engine is loaded with: as its runtime asks, or what its largest batch needs."""
    pool = law.pools[0]
    limits = (runtime.kv_cache_bytes, pool.block_bytes), (law.most_tokens, pool.block_tokens)
    if asked := [most // size for most, size in limits if most]:
        return min(asked) * pool.block_bytes
    return law.bytes(spec.max_batch_size, spec.max_input_len + spec.max_output_len + law.spare_tokens)


def refuse_format(backend: str, asked: str, known: Sequence[str]) -> CapabilityError:
    """The error for a KV format that an engine does not have."""
    return CapabilityError(f"backend {backend} has no KV cache in {asked!r}", f"take one of {', '.join(known)}")


def refuse_kind(backend: str, name: str, why: str) -> CapabilityError:
    """The error for a kind of attention that an engine has no law for."""
    return CapabilityError(
        f"backend {backend} has no memory law for {name} attention: {why}", "take another backend, by --engine"
    )
