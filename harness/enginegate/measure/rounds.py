"""How long the rounds of a race are, and how many: what minimizes the error in a given time, by a few pairs tried.

Two engines that take turns drift apart by what the machine does between two rounds, so many short rounds mostly tell
more than few long ones, but the first token costs the same in each. Which length is best depends on machine and model,
so a pilot tries a few pairs of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from enginegate.core.errors import MeasurementError
from enginegate.core.records import Block, RoundsEntry, TrialEntry
from enginegate.gates.launches import Launch
from enginegate.measure.ratios import has_value, log_times, whole_answers

#: Lengths that a pilot tries, the shortest first, until one is worse than the one before.
LENGTHS = (4, 16, 64)
#: Pairs of each length that it tries.
TRIAL_PAIRS = 6
#: Fewest and most pairs of one workload in a launch; even, so that each side runs first equally often.
FEWEST_PAIRS, MOST_PAIRS = 6, 24


def lengths(output_len: int) -> tuple[int, ...]:
    """The lengths that are tried for answers of so many tokens."""
    return tuple(length for length in LENGTHS if length <= output_len) or (output_len,)


def trial(blocks: Sequence[Block], base: str, head: str, tokens: int, output_len: int) -> TrialEntry:
    """What a few pairs of rounds of one length say.

    Args:
        blocks: the pairs.
        base, head: the two sides.
        tokens: of each answer in these rounds.
        output_len: of a whole answer.
    """
    scatter = {}
    for metric in ("speedup", "ttft", "itl"):
        if has_value(blocks, (base, head), metric):
            taken = whole_answers(blocks, tokens, output_len) if metric == "speedup" else blocks
            scatter[metric] = launch_of(taken, base, head, metric).error * math.sqrt(len(blocks))
    rounds = [entry for block in blocks for entry in block.rounds]
    seconds = sum(entry.seconds for entry in rounds)
    first = sum(entry.figures["ttft"] for entry in rounds)
    return TrialEntry(
        tokens=tokens,
        pairs=len(blocks),
        seconds=seconds / len(blocks),
        first_share=first / seconds,
        scatter=scatter,
    )


def cost(tried: TrialEntry) -> float:
    """Squared error times seconds, the same for any number of pairs: geometric mean over end-to-end time and ITL.

    TTFT does not count: it can have rounds of its own.
    """
    variances = [tried.scatter[metric] ** 2 for metric in ("speedup", "itl") if metric in tried.scatter]
    return tried.seconds * math.prod(variances) ** (1 / len(variances))


def best(trials: Sequence[TrialEntry]) -> TrialEntry:
    """The trial whose length gives the smallest error in a given time."""
    if not trials:
        raise MeasurementError("no length of round was tried")
    return min(trials, key=cost)


def planned(chosen: TrialEntry, *, loading: float, spread: float, limit: float) -> RoundsEntry:
    """How many pairs a launch takes.

    Args:
        chosen: the length, and what was seen of it.
        loading: seconds that one more launch costs this workload before its first round.
        spread: what launches are taken to differ by, log ratio.
        limit: seconds that the rounds of this workload may take in one launch.

    A launch costs ``loading`` and adds a variance of ``spread`` squared, a pair costs ``seconds`` and adds its scatter
    squared: sqrt(loading / seconds) scatter / spread pairs give the smallest error in a given time (two-stage sampling,
    Cochran, Sampling Techniques, 1977, section 10.6). First tokens get rounds of their own, of that one token, where
    other rounds take more than twice as long and do not show the first token to half the spread.
    """
    wanted = max(chosen.scatter.get(metric, 0.0) for metric in ("speedup", "itl"))
    pairs = _pairs(loading / chosen.seconds, wanted / spread)
    first = 0
    if chosen.first_share < 0.5 and chosen.scatter["ttft"] / math.sqrt(pairs) > spread / 2:
        first = _pairs(loading / (chosen.seconds * chosen.first_share), chosen.scatter["ttft"] / spread)
    taken = chosen.seconds * (pairs + first * chosen.first_share)
    if taken > limit:
        pairs, first = (_even(count * limit / taken) if count else 0 for count in (pairs, first))
    return RoundsEntry(tokens=chosen.tokens, pairs=pairs, first_token_pairs=first)


def _pairs(cost: float, scatter: float) -> int:
    return _even(math.sqrt(cost) * scatter)


def _even(count: float) -> int:
    return min(MOST_PAIRS, max(FEWEST_PAIRS, 2 * round(count / 2)))


@dataclass(frozen=True)
class CarryOver:
    """By how much taking turns moves the ratio of two engines.

    Attributes:
        shift: log ratio (base over head) in turns less that of rounds alone.
        error: its standard error.
    """

    shift: float
    error: float


def carry_over(turns: Sequence[Block], alone: Sequence[Block], base: str, head: str) -> CarryOver:
    """What one engine's round leaves behind for the other's: caches, clocks, heat.

    Args:
        turns: pairs of rounds in turn.
        alone: as many of each side whose round before was their own, in pairs, too.
        base, head: the two sides.
    """
    found = [launch_of(blocks, base, head) for blocks in (turns, alone)]
    return CarryOver(found[0].number - found[1].number, math.hypot(*(each.error for each in found)))


def launch_of(blocks: Sequence[Block], base: str, head: str, metric: str = "speedup") -> Launch:
    """Rounds of one launch as its gate takes them. Raises MeasurementError as ``log_ratios`` does."""
    ours, theirs = log_times(blocks, base, head, metric)
    return Launch(tuple(ours), tuple(theirs))
