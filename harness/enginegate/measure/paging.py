"""Paged against contiguous KV caches: two formulas, the waste of a block size, and which size to take. Pure.

A contiguous cache reserves the longest sequence for each one; a paged one (Kwon et al., arXiv:2309.06180) gives out
blocks as a sequence grows, so that only the end of its last block is empty: half a block on average.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enginegate.core.errors import ConfigError, edge

#: Block sizes that engines offer, in tokens.
BLOCK_SIZES = (16, 32, 64, 128, 256)
#: Share of the paged cache that may lie empty: a larger block is taken only as long as it stays below.
TOLERATED_WASTE = 0.05
#: More tokens than any sequence has; a length above is a mistake.
_LONGEST = 100_000_000
#: Spread of a drawn log-normal distribution (of the logarithm): requests of a chat service spread about so.
_SIGMA = 1.0
KINDS = ("lognormal", "uniform", "constant")


@dataclass(frozen=True)
class Paging:
    """One block size under a distribution of lengths.

    Attributes:
        block_tokens: tokens in a block.
        blocks: blocks that all sequences hold together.
        waste: share of their tokens that is empty.
    """

    block_tokens: int
    blocks: int
    waste: float


@dataclass(frozen=True)
class Advice:
    """Which block size to take, and why.

    Attributes:
        block_tokens: the recommended one.
        reason: in a sentence.
        rule: what the rule by the mean length alone takes (see ``rule_by_mean``).
        rule_problem: why that is wrong here; empty where it is not.
    """

    block_tokens: int
    reason: str
    rule: int
    rule_problem: str


def contiguous_bytes(batch_size: int, longest: int, token_bytes: float) -> int:
    """``batch_size x max_seq_len x layers x KV heads x head size x 2 x bytes``: each sequence as if it were longest."""
    return math.ceil(batch_size * longest * token_bytes)


def paged_bytes(lengths: Sequence[int], block_tokens: int, token_bytes: float) -> int:
    """``active blocks x block size x layers x KV heads x head size x 2 x bytes``."""
    return math.ceil(paging(lengths, block_tokens).blocks * block_tokens * token_bytes)


def paging(lengths: Sequence[int], block_tokens: int) -> Paging:
    """Blocks, and the share of their tokens that is empty."""
    blocks = sum(-(-length // block_tokens) for length in lengths)
    return Paging(block_tokens, blocks, 1 - sum(lengths) / (blocks * block_tokens))


def rule_by_mean(mean: float) -> int:
    """A rule that is passed around: 32 below a mean of 128 tokens, 64 below 512, 128 below 1,024, else 256."""
    return next((size for limit, size in ((128, 32), (512, 64), (1024, 128)) if mean < limit), 256)


def advise(lengths: Sequence[int], offered: Sequence[int] = BLOCK_SIZES) -> Advice:
    """The largest block size that wastes at most TOLERATED_WASTE; the smallest one where none does.

    Larger blocks mean shorter tables and longer reads in one piece; what they cost is the empty end.

    Args:
        lengths: tokens of each sequence.
        offered: the sizes that the engine has.
    """
    found = [paging(lengths, size) for size in sorted(offered)]
    good = [each for each in found if each.waste <= TOLERATED_WASTE]
    taken = good[-1] if good else found[0]
    if len(found) == 1:
        reason = f"the engine has no other; {taken.waste:.1%} of the cache is empty"
    elif good:
        larger = found[found.index(taken) + 1 :]
        reason = f"the largest that leaves at most {TOLERATED_WASTE:.0%} of the cache empty ({taken.waste:.1%}"
        reason += f"; {larger[0].block_tokens} leaves {larger[0].waste:.1%})" if larger else ")"
    else:
        reason = f"every size leaves more than {TOLERATED_WASTE:.0%} empty; the smallest leaves {taken.waste:.1%}"
    rule = rule_by_mean(float(np.mean(lengths)))
    return Advice(taken.block_tokens, reason, rule, _problem(lengths, rule, taken, offered))


def _problem(lengths: Sequence[int], rule: int, taken: Paging, offered: Sequence[int]) -> str:
    theirs = paging(lengths, rule)
    if rule not in offered:
        return f"the engine has no blocks of {rule} tokens (it has {', '.join(map(str, sorted(offered)))})"
    if theirs.waste > max(TOLERATED_WASTE, taken.waste):
        extra = theirs.blocks * rule / (taken.blocks * taken.block_tokens) - 1
        return f"it leaves {theirs.waste:.1%} of the cache empty, and takes {extra:.1%} more memory"
    if rule < taken.block_tokens:
        return f"it takes smaller blocks than need be: {theirs.blocks / taken.blocks:.1f} times as many"
    return ""


def read_lengths(path: Path) -> list[int]:
    """Sequence lengths in tokens from a file: a line for each, one number, or a prompt's and an answer's.

    Numbers are apart by blanks or commas; empty lines and what follows a # do not count.

    Raises:
        ConfigError: it cannot be read, is empty, or a line is no length; the line is named.
    """
    with edge(ConfigError, f"lengths {path} cannot be read", "name a text file with a length in each line"):
        lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        parts = line.partition("#")[0].replace(",", " ").split()
        if not parts:
            continue
        if len(parts) > 2 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
            raise ConfigError(
                f"{path}, line {number}: {line.strip()[:60]!r} is no length",
                "write one whole number of tokens, or two: the prompt's and the answer's",
            )
        length = sum(map(int, parts))
        if not 1 <= length <= _LONGEST:
            raise ConfigError(f"{path}, line {number}: a sequence of {length} tokens cannot be", "write at least 1")
        found.append(length)
    if not found:
        raise ConfigError(f"{path} holds no lengths", "write a whole number of tokens in each line")
    return found


def read_drawing(text: str) -> tuple[str, int, int]:
    """``KIND:MEAN:LONGEST``, for ``draw_lengths``. Raises ConfigError."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts[1:]):
        raise ConfigError(f"--draw {text!r} is not KIND:MEAN:LONGEST", "for example lognormal:512:2048")
    return parts[0], int(parts[1]), int(parts[2])


def draw_lengths(kind: str, mean: int, longest: int, count: int, seed: int) -> list[int]:
    """Lengths from 1 to ``longest``, drawn: log-normal or uniform about ``mean``, or all of them ``mean``.

    What is drawn above ``longest`` is cut to it, as an engine does. Raises ConfigError for values that do not fit.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no distribution {kind!r}", f"take {', '.join(KINDS)}")
    if not 1 <= mean <= longest <= _LONGEST:
        raise ConfigError(
            f"lengths of {mean} tokens on average and {longest} at most cannot be drawn",
            "give a mean from 1 on, and a longest length that is not below it",
        )
    if kind == "constant":
        return [mean] * count
    generator = np.random.default_rng(seed)
    if kind == "uniform":
        drawn = generator.integers(max(1, 2 * mean - longest), min(longest, 2 * mean - 1) + 1, count).astype(float)
    else:
        drawn = generator.lognormal(math.log(mean) - _SIGMA**2 / 2, _SIGMA, count)
    return [int(length) for length in np.clip(np.rint(drawn), 1, longest)]


def edges_of_the_rule() -> Iterator[tuple[int, int, float]]:
    """Where the rule by the mean steps: the mean length, its block size there, and the share that it leaves empty.

    Of lengths that lie evenly about the mean, so that half of the last block is empty.
    """
    for mean in (128, 512, 1024):
        size = rule_by_mean(mean)
        yield mean, size, (size / 2) / (mean + size / 2)
