"""Chooses the reference's precision by measurement."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Backend
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.vocabulary import vocabulary_size


def fastest_precision(
    backend: Backend,
    checkpoint: Checkpoint,
    candidates: Sequence[str],
    *,
    batch_size: int = 8,
    input_len: int = 64,
    output_len: int = 32,
    rounds: int = 3,
) -> tuple[str, dict[str, tuple[float, ...]]]:
    """Time ``backend`` in each candidate precision, in turns, and take the lowest median.

    All are loaded at once from the checkpoint's own folder and take turns in reversing order, after one warm-up round
    each, on the same batch of made-up prompts.

    Returns:
        The winner, and the seconds of each counted round of every candidate.
    """
    vocabulary = vocabulary_size(checkpoint.path)
    prompts = [[(7 * row + 13 * column) % vocabulary for column in range(input_len)] for row in range(batch_size)]
    params = SamplingParams(max_tokens=output_len)
    seconds: dict[str, list[float]] = {precision: [] for precision in candidates}
    engines = {}
    try:
        for precision in candidates:
            spec = EngineSpec(
                model=checkpoint.path.name,
                backend=backend.name,
                precision=precision,
                max_batch_size=batch_size,
                max_input_len=input_len,
                max_output_len=output_len,
            )
            engines[precision] = backend.load(checkpoint.path, spec, RuntimeSpec())
        for turn in range(rounds + 1):
            for precision in candidates if turn % 2 else candidates[::-1]:
                elapsed = engines[precision].generate(prompts, params)[0].token_times[-1]
                if turn:
                    seconds[precision].append(elapsed)
    finally:
        for engine in engines.values():
            engine.close()
    winner = min(candidates, key=lambda precision: statistics.median(seconds[precision]))
    return winner, {precision: tuple(times) for precision, times in seconds.items()}
