"""How the precisions of the KV cache are compared: ``tests_perf/test_kv_cache.py``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from enginegate.core.sections import BatchSize, Section, Tokens, distinct

#: Element types of less than 16 bits.
NarrowKv = Literal["int8", "fp8", "int4"]
_Ratio = Annotated[float, Field(gt=0)]


class KvLimits(Section):
    """What an 8-bit cache may take and lose, against 16 bits of the same engine.

    ``bytes``: bytes of a token over those of 16 bits, at most. ``speed``: over 16 bits at the same work, at least.
    ``perplexity_ratio``: at most. ``divergence``: so many more nats a token from the quality reference than 16 bits are
    no failure; twice as many must not pass.
    """

    bytes: Annotated[float, Field(gt=0, le=1)] = 0.75
    speed: _Ratio = 0.8
    perplexity_ratio: Annotated[float, Field(ge=1)] = 1.01
    divergence: _Ratio = 0.01


class Fp8Limits(KvLimits):
    """As KvLimits; an fp8 cache stores no scale beside each group."""

    bytes: Annotated[float, Field(gt=0, le=1)] = 0.55


class Int4Limits(KvLimits):
    """As KvLimits, of 4 bits."""

    bytes: Annotated[float, Field(gt=0, le=1)] = 0.5
    perplexity_ratio: Annotated[float, Field(ge=1)] = 1.15
    divergence: _Ratio = 0.1


class KvCacheSection(Section):
    """Which caches are compared, and at which work. ``batch_size``: null for the largest that ``limits`` allow.

    ``input_len``: null for half of ``limits.max_input_len``: a cache costs more time the more is in it.
    ``output_len``: null for 32, or fewer where ``limits`` ask for fewer.
    """

    precisions: Annotated[list[NarrowKv], Field(min_length=1), AfterValidator(distinct)] = Field(
        default=["int8", "fp8", "int4"]
    )
    batch_size: BatchSize | None = None
    input_len: Tokens | None = None
    output_len: Tokens | None = None
    int8: KvLimits = KvLimits()
    fp8: Fp8Limits = Fp8Limits()
    int4: Int4Limits = Int4Limits()

    def limits(self, precision: str) -> KvLimits:
        """Those of one precision."""
        found: KvLimits = getattr(self, precision)
        return found
