"""The sizes at which an engine is swept, and what the gates of its scaling compare."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from enginegate.config.scaling_section import sizes
from enginegate.core.specs import Workload
from enginegate.gates.sequential import SpeedPolicy
from enginegate.plan.selection import Candidate
from enginegate.verdicts.inputs import ScalingInputs, ScalingStep


@dataclass(frozen=True)
class Series:
    """What one gate of an engine's scaling reads.

    Attributes:
        candidate: the engine.
        kind: ``throughput`` over batch sizes, at one input and output length; or ``itl`` over lengths, at one batch.
        name: in test ids, ``i64-o32`` or ``b8``.
        steps: its doublings; empty where the sizes hold none.
    """

    candidate: Candidate
    kind: Literal["throughput", "itl"]
    name: str
    steps: tuple[ScalingStep, ...]

    def inputs(self, alpha: float) -> ScalingInputs:
        """What the gate compares. ``alpha``: its share of the session's error budget."""
        file = self.candidate.config.file
        spec, section = self.candidate.spec, file.scaling
        what = "throughput at twice the batch" if self.kind == "throughput" else "ITL at twice the length"
        return ScalingInputs(
            metric=f"{self.kind}_scaling",
            candidate=spec.id,
            subject=f"{spec.label.removeprefix(f'{spec.backend}-')} {self.name} {what}",
            kind=self.kind,
            steps=list(self.steps),
            limit=section.throughput if self.kind == "throughput" else section.itl,
            policy=SpeedPolicy(alpha=alpha, beta=file.gates.speed.beta, looks=tuple(section.looks)),
        )


def sweep_points(candidate: Candidate) -> list[Workload]:
    """All sizes at which an engine is timed, the smallest first."""
    seed = candidate.config.file.workload.seed
    batches, inputs, outputs = _sizes(candidate)
    return [
        Workload(batch, length, answer, seed) for batch, length, answer in itertools.product(batches, inputs, outputs)
    ]


def throughput_series(candidate: Candidate) -> Iterator[Series]:
    """One for each input and output length: throughput from batch to batch, up to the knee."""
    batches, inputs, outputs = _sizes(candidate)
    knee = candidate.config.file.scaling.knee or max(batches)
    upto = [batch for batch in batches if batch <= knee]
    for length, answer in itertools.product(inputs, outputs):
        points = [Workload(batch, length, answer) for batch in upto]
        yield Series(candidate, "throughput", f"i{length}-o{answer}", tuple(_steps(points, "batch_size", "b")))


def itl_series(candidate: Candidate) -> Iterator[Series]:
    """One for each batch size: inter-token latency from length to length, inputs at the longest output and back."""
    batches, inputs, outputs = _sizes(candidate)
    for batch in batches:
        by_input = [Workload(batch, length, outputs[-1]) for length in inputs]
        by_output = [Workload(batch, inputs[-1], length) for length in outputs]
        steps = (*_steps(by_input, "input_len", "i"), *_steps(by_output, "output_len", "o"))
        yield Series(candidate, "itl", f"b{batch}", steps)


def _sizes(candidate: Candidate) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    file = candidate.config.file
    limits = file.limits
    return sizes(file.scaling, limits.max_batch_size, limits.max_input_len, limits.max_output_len)


def _steps(points: Sequence[Workload], size: str, mark: str) -> Iterator[ScalingStep]:
    for small, large in itertools.pairwise(points):
        name = f"{mark}{getattr(small, size)} to {mark}{getattr(large, size)}"
        yield ScalingStep(small=small.id, large=large.id, name=name)
