"""What a race says of two contestants: log ratios block by block, in which order the two ran, what disturbed them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence

from enginegate.core.errors import MeasurementError
from enginegate.core.records import Block, Round

#: Ratio of two times beyond which one of them is no time.
LARGEST = 1e15
#: Seconds beyond which nothing is a time: thirty years.
LONGEST = 1e9
#: The per-round figure behind each speed metric: smaller is faster.
TIMED = {"speedup": "seconds", "ttft": "ttft", "itl": "itl_p50"}


def timed_metrics(output_len: int) -> list[str]:
    """The metrics of TIMED that answers of so many tokens have: a single token has no gap to a next one."""
    return [metric for metric in TIMED if metric != "itl" or output_len > 1]


def has_value(blocks: Sequence[Block], engines: Collection[str], metric: str) -> bool:
    """Whether every round of these engines has a value of the metric: tokens that come all at once have no gap."""
    rounds = (entry for block in blocks for entry in block.rounds if entry.engine in engines)
    return all(entry.figure(TIMED[metric]) is not None for entry in rounds)


def log_ratios(blocks: Sequence[Block], reference: str, candidate: str, metric: str = "speedup") -> list[float]:
    """Per block, log(time of the reference / time of the candidate): positive where the candidate is faster.

    Contestants other than these two may be missing from a block. A block that lacks one of the two is refused, not
    skipped: who left the race failed in it, and the blocks before that are no sample of a sound engine.

    Raises:
        MeasurementError: a block lacks one of the two, a round has no value of the metric, a time is not a positive
            finite number, or two are further apart than times can be.
    """
    return [math.log(over / under) for over, under in _times(blocks, reference, candidate, metric)]


def log_times(
    blocks: Sequence[Block], reference: str, candidate: str, metric: str = "speedup"
) -> tuple[list[float], list[float]]:
    """The logs of both sides' times, in seconds, block by block. Raises as ``log_ratios`` does."""
    times = _times(blocks, reference, candidate, metric)
    return [math.log(over) for over, _ in times], [math.log(under) for _, under in times]


def _times(blocks: Sequence[Block], reference: str, candidate: str, metric: str) -> list[tuple[float, float]]:
    times = []
    for index, block in enumerate(blocks):
        over, under = (_value(entry, metric, index) for entry in _two(block, index, reference, candidate))
        if not (math.isfinite(over) and math.isfinite(under) and over > 0 and under > 0):
            raise MeasurementError(f"block {index}: {metric} times {over} and {under} s are not positive numbers")
        if max(over, under) > LONGEST:
            raise MeasurementError(f"block {index}: {metric} times {over:g} and {under:g} s are longer than any run")
        if not 1 / LARGEST <= over / under <= LARGEST:
            raise MeasurementError(f"block {index}: {metric} times {over} and {under} s are too far apart to be times")
        times.append((over, under))
    return times


def orders(blocks: Sequence[Block], reference: str, candidate: str) -> list[int]:
    """Per block, +1 where the reference ran before the candidate, else -1. Raises MeasurementError as log_ratios."""
    found = []
    for index, block in enumerate(blocks):
        _two(block, index, reference, candidate)
        ran = [entry.engine for entry in block.rounds]
        found.append(1 if ran.index(reference) < ran.index(candidate) else -1)
    return found


def whole_answers(blocks: Sequence[Block], tokens: int, output_len: int) -> list[Block]:
    """Rounds of short answers as rounds of whole ones: the first token as it was, then gaps of the measured mean.

    What comes after the last token comes once, too. Rounds that keep no time of their last token take it for one of
    the gaps' own.

    Args:
        blocks: rounds of answers of ``tokens`` tokens each.
        tokens: of a round's answers.
        output_len: of a whole answer.
    """
    if output_len <= tokens or tokens < 2:
        return list(blocks)
    longer = (output_len - tokens) / (tokens - 1)

    def whole(entry: Round, index: int) -> Round:
        gaps = entry.figures.get("last_token", entry.seconds) - _value(entry, "ttft", index)
        return entry.model_copy(update={"seconds": entry.seconds + longer * gaps})

    return [
        block.model_copy(update={"rounds": [whole(each, index) for each in block.rounds]})
        for index, block in enumerate(blocks)
    ]


def median_seconds(blocks: Sequence[Block], engine: str, metric: str) -> float:
    """The median of an engine's own times over blocks, in seconds. Raises MeasurementError where a round has none."""
    return statistics.median(
        _value(entry, metric, index)
        for index, block in enumerate(blocks)
        for entry in block.rounds
        if entry.engine == engine
    )


def disturbance(blocks: Sequence[Block]) -> tuple[float, float]:
    """Share of blocks that kept a disturbed round, and the median foreign load over all rounds."""
    if not blocks:
        return 0.0, 0.0
    disturbed = sum(any(entry.disturbed for entry in block.rounds) for block in blocks) / len(blocks)
    loads = [entry.foreign_load for block in blocks for entry in block.rounds if math.isfinite(entry.foreign_load)]
    return disturbed, statistics.median(loads) if loads else float("nan")


def held_up(blocks: Sequence[Block]) -> float:
    """Share of blocks that kept a round which a CPU quota held up."""
    return sum(any(entry.throttled_seconds > 0 for entry in block.rounds) for block in blocks) / max(1, len(blocks))


def _two(block: Block, index: int, reference: str, candidate: str) -> tuple[Round, Round]:
    turns = {entry.engine: entry for entry in block.rounds}
    try:
        return turns[reference], turns[candidate]
    except KeyError as missing:
        raise MeasurementError(f"block {index} holds no round of {missing}") from None


def _value(entry: Round, metric: str, index: int) -> float:
    value = entry.figure(TIMED[metric])
    if value is None and metric == "itl":
        raise MeasurementError(
            f"block {index}: a round of {entry.engine} has no {metric}: no two of its tokens came one after the other",
            "a single token has no inter-token latency: give it a larger workload.output_len, or leave its test out",
        )
    if value is None:
        raise MeasurementError(f"block {index}: a round of {entry.engine} has no {metric}", "record a new run")
    return value
