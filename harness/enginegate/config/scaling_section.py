"""How speed grows with the size of the work: ``tests_perf/test_scaling.py``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from enginegate.config.looks import Looks
from enginegate.core.sections import BatchSize, PositiveSeconds, Section, Tokens


def _doubling(values: list[int]) -> list[int]:
    for one, other in itertools.pairwise(values):
        if other != 2 * one:
            raise ValueError(
                f"{values}: {other} is not twice {one}: the gate is of what doubling gains, so write each value twice"
                " the one before"
            )
    return values


def _several(values: list[int]) -> list[int]:
    if len(values) < 2:
        raise ValueError(f"{values}: one batch size shows no scaling: give at least two, each twice the one before")
    return _doubling(values)


class ScalingSection(Section):
    """The sizes of a sweep, each twice the one before, and what a doubling must gain and may cost.

    ``batch_sizes``, ``input_lens``, ``output_lens``: null for what ``sizes`` makes of the limits. ``throughput``:
    tokens per second at twice the batch over those at the batch, at least, up to the batch size ``knee`` (null: the
    largest).
    ``itl``: inter-token latency at twice the length over that at the length, at most. ``looks``: numbers of blocks.
    ``time_budget``: seconds of one engine.
    """

    batch_sizes: Annotated[list[BatchSize], Field(max_length=16), AfterValidator(_several)] | None = None
    input_lens: Annotated[list[Tokens], Field(min_length=1, max_length=16), AfterValidator(_doubling)] | None = None
    output_lens: (
        Annotated[list[Annotated[Tokens, Field(ge=2)]], Field(min_length=1, max_length=16), AfterValidator(_doubling)]
        | None
    ) = None
    knee: BatchSize | None = None
    throughput: Annotated[float, Field(gt=0, lt=2)] = 1.1
    itl: Annotated[float, Field(gt=1)] = 1.3
    looks: Looks = Field(default=[6, 10, 16])
    time_budget: PositiveSeconds = 120.0


def doublings(first: int, limit: int, most: int) -> list[int]:
    """``first`` and its doublings up to ``limit``, at most so many; ``limit`` alone where that is less."""
    values = [value for power in range(most) if (value := first << power) <= limit]
    return values or [limit]


def sizes(
    section: ScalingSection, batch: int, inputs: int, outputs: int
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Batch sizes, input and output lengths of a sweep.

    ``batch``, ``inputs``, ``outputs``: what the engine is built for at most. Where the section says nothing: batches
    of 1, 2, 4 and 8, inputs of 64 and 128, outputs of 16 and 32 tokens, as far as these allow.
    """
    return (
        section.batch_sizes or doublings(1, batch, 4),
        section.input_lens or doublings(max(1, min(64, inputs // 2)), inputs, 2),
        section.output_lens or doublings(max(2, min(16, outputs // 2)), outputs, 2),
    )
