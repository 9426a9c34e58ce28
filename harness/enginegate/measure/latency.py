"""From token times to the latency figures of a round: TTFT and ITL from the tokens' own times, never from total / n."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import MeasurementError
from enginegate.core.records import Round
from enginegate.engines.base import Generation

#: Percentiles of the gaps between tokens that a round keeps.
_PERCENTILES = (50, 95, 99)
#: The names of their figures.
GAPS = tuple(f"itl_p{share}" for share in _PERCENTILES)


def check_generations(generations: Sequence[Generation], batch_size: int, output_len: int, seconds: float) -> None:
    """Refuse a round in which an engine did not do the work, or reported impossible times.

    Raises:
        MeasurementError: fewer or more tokens than asked, an answer that ended in an error, a time missing, decreasing,
            not finite or after the end.
    """
    if len(generations) != batch_size:
        raise MeasurementError(f"the engine answered {len(generations)} of {batch_size} prompts")
    for index, generation in enumerate(generations):
        if generation.finish_reason == "error":
            raise MeasurementError(f"the engine ended sequence {index} with an error", "look into the engine's own log")
        produced = len(generation.token_ids)
        if produced != output_len:
            raise MeasurementError(
                f"the engine produced {produced} tokens where {output_len} were asked (sequence {index})",
                "a speed on other work is not comparable; see that the engine honours ignore_eos and max_tokens",
            )
        times = np.asarray(generation.token_times, dtype=float)
        if len(times) != produced or not np.all(np.isfinite(times)):
            raise MeasurementError(f"token times of sequence {index} are missing or not finite")
        if times[0] <= 0 or np.any(np.diff(times) < 0) or times[-1] > seconds * 1.001 + 1e-4:
            raise MeasurementError(f"token times of sequence {index} decrease or lie outside the round")


def token_gaps(times: Sequence[float]) -> NDArray[np.float64]:
    """Seconds between successive tokens of one sequence.

    Tokens that arrive together, as accepted drafts do, share the time since the arrival before: a gap of 30 ms with
    three tokens at its end is three gaps of 10 ms, not two of nothing. Those that came with the first have no gap.
    """
    arrivals, counts = np.unique(np.asarray(times, dtype=float), return_counts=True)
    return np.repeat(np.diff(arrivals) / counts[1:], counts[1:])


def summarise(generations: Sequence[Generation]) -> dict[str, float]:
    """The latency figures of one checked round, in seconds.

    ``ttft`` and ``last_token``: means over the batch of the times to the first and to the last token. ``itl_p50``,
    ``itl_p95``, ``itl_p99``: percentiles over all gaps between successive tokens of one sequence (``token_gaps``);
    absent where there is no gap, as in answers of a single token.
    """
    figures = {
        "ttft": float(np.mean([generation.token_times[0] for generation in generations])),
        "last_token": float(np.mean([generation.token_times[-1] for generation in generations])),
    }
    gaps = np.concatenate([token_gaps(generation.token_times) for generation in generations])
    if gaps.size == 0:
        return figures
    return figures | {name: float(value) for name, value in zip(GAPS, np.percentile(gaps, _PERCENTILES), strict=True)}


def summarise_rounds(rounds: Sequence[Round]) -> dict[str, float]:
    """Medians over the rounds of one engine: times in seconds, rates per second, tokens really produced counted.

    What a round has no value of is left out.
    """

    def middle(values: Sequence[float]) -> float:
        return float(np.median(np.asarray(values, dtype=float)))

    figures: dict[str, list[float | None]] = {
        "latency": [entry.seconds for entry in rounds],
        "tokens_per_second": [entry.tokens / entry.seconds for entry in rounds],
    }
    figures |= {name: [entry.figure(name) for entry in rounds] for name in ("ttft", *GAPS)}
    known = {name: [value for value in values if value is not None] for name, values in figures.items()}
    return {name: middle(values) for name, values in known.items() if len(values) == len(rounds)}
