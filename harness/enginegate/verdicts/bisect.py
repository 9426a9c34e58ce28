"""The search for the first of many commits that is slower: each step is a race with stated error rates.

A step is wrong with at most its alpha where the commit is good, and with at most its beta where it is slower by the
size that is looked for. Both are a share of the search's: with six steps of 0.8 % each, 95 of 100 searches name the
commit. A race that stays inconclusive decides nothing: the commit is skipped, as ``git bisect`` skips those that exit
with 125, and one beside it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

#: The share of searches that may end wrongly.
WRONG = 0.05
#: Launches after which a step's race is judged; those after 16 are for what is inconclusive until then.
LOOKS = (4, 6, 8, 10, 12, 16, 24, 32)


class Answer(Enum):
    """What a step found; the value is the exit code that ``git bisect run`` gives it."""

    GOOD = 0
    BAD = 1
    SKIP = 125


@dataclass(frozen=True)
class Race:
    """How a step is judged.

    Attributes:
        alpha, beta: probability that a good commit is called bad, and that a slower one is called good.
        margin, tolerated: a quarter, and three quarters, of the size that is looked for.
        looks: counts of launches.
    """

    alpha: float
    beta: float
    margin: float
    tolerated: float
    looks: tuple[int, ...] = LOOKS


def steps_of(commits: int, *, ends: bool = False) -> int:
    """How many steps a search takes; ``ends``: with one that sees whether the last commit is slower at all."""
    return max(1, math.ceil(math.log2(max(commits, 1)))) + ends


def race_of(size: float, steps: int) -> Race:
    """How each of so many steps is judged, for a slowdown of ``size`` (a share)."""
    share = WRONG / steps
    return Race(share, share, size / 4, 3 * size / 4)


@dataclass(frozen=True)
class Found:
    """How a search ended.

    Attributes:
        among: places of the commits of which one is the first bad one; one place where it was found.
        asked: each step's place and answer, in their order.
    """

    among: tuple[int, ...]
    asked: tuple[tuple[int, Answer], ...] = field(default=())

    @property
    def first(self) -> int | None:
        """The place of the first bad commit; None where skipped ones leave it open."""
        return self.among[0] if len(self.among) == 1 else None


def search(commits: int, ask: Callable[[int], Answer]) -> Found:
    """Find the first bad commit of so many, of which the last is bad and the one before the first is good.

    ``ask`` gets a place from 0 on.
    """
    good, bad, asked = -1, commits - 1, dict[int, Answer]()
    while True:
        middle = (good + bad) / 2
        open_places = [place for place in range(good + 1, bad) if place not in asked]
        if not open_places:
            return Found(tuple(range(good + 1, bad + 1)), tuple(asked.items()))
        place = min(open_places, key=lambda each: (abs(each - middle), each))
        asked[place] = ask(place)
        if asked[place] is Answer.GOOD:
            good = place
        elif asked[place] is Answer.BAD:
            bad = place
