"""Chooses the reference's precision by measurement."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass

from harness.engines.hf import HuggingFaceBackend
from harness.models import Checkpoint
from harness.specs import EngineSpec, RuntimeSpec, SamplingParams


@dataclass(frozen=True)
class PrecisionChoice:
    """The reference's precision, and the seconds of each round of each candidate that it was chosen by."""

    precision: str
    seconds: dict[str, tuple[float, ...]]


def fastest_precision(
    checkpoint: Checkpoint,
    *,
    runtime: RuntimeSpec | None = None,
    batch_size: int = 8,
    input_len: int = 64,
    output_len: int = 32,
    rounds: int = 3,
) -> PrecisionChoice:
    """Time the reference in each precision that may be fastest here, in turns, and take the lowest median.

    Candidates are bf16 and fp32 on a CPU, fp16 and fp32 on CUDA. Both are loaded at once and take turns in reversing
    order, after one warm-up round each, on the same batch of made-up prompts.
    """
    backend = HuggingFaceBackend()
    candidates = ("fp16", "fp32") if backend.capabilities().device == "cuda" else ("bf16", "fp32")
    vocabulary = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    prompts = [[(7 * row + 13 * column) % vocabulary for column in range(input_len)] for row in range(batch_size)]
    params = SamplingParams(max_tokens=output_len)
    engines = {
        precision: backend.load(
            checkpoint.path,
            EngineSpec(
                model=checkpoint.path.name,
                backend=backend.name,
                precision=precision,
                max_batch_size=batch_size,
                max_input_len=input_len,
                max_output_len=output_len,
            ),
            runtime or RuntimeSpec(),
        )
        for precision in candidates
    }
    try:
        seconds: dict[str, list[float]] = {precision: [] for precision in candidates}
        for turn in range(rounds + 1):
            for precision in candidates if turn % 2 else candidates[::-1]:
                elapsed = engines[precision].generate(prompts, params)[0].token_times[-1]
                if turn:
                    seconds[precision].append(elapsed)
    finally:
        for engine in engines.values():
            engine.close()
    medians = {precision: statistics.median(times) for precision, times in seconds.items()}
    return PrecisionChoice(
        precision=min(medians, key=medians.__getitem__),
        seconds={precision: tuple(times) for precision, times in seconds.items()},
    )
