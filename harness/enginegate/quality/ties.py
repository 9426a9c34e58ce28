"""Choices that are equally likely. Logits of bf16 are coarse: a model of 0.5B ties in every tenth question by letter.

The first of them was taken for the answer up to revision 1 of ``letters`` and ``cloze``; since revision 2 they share
the credit. A result without a tie is the same by either rule, and is still called revision 1. So what was accepted
before goes on judging, but for its items that tied: whether the right choice was among the best is not known of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

#: Multiple-choice metrics, and the column of credits that their accuracy is judged by.
CHOICES = {"letters": "acc", "cloze": "acc_norm"}
REVISION = 1
#: Of results that hold a tie.
REVISION_OF_TIES = 2
#: By column of the first best choice, that of all best ones: the sum of 2 to the power of the index of each.
TIED = {"chosen": "tied", "chosen_norm": "tied_norm"}
_CHOSEN = {tied: chosen for chosen, tied in TIED.items()}


class Results(Protocol):
    """Numbers by item, as a record and a baseline keep them."""

    @property
    def version(self) -> str:
        """Of the metric's code and settings."""
        ...

    @property
    def columns(self) -> list[str]:
        """Names of the numbers."""
        ...

    @property
    def items(self) -> dict[str, list[float]]:
        """Item hash to as many numbers."""
        ...


def by_method(version: str) -> str:
    """The version of a result, with one name for both revisions."""
    return re.sub(rf"^({'|'.join(CHOICES)})/{REVISION_OF_TIES};", rf"\1/{REVISION};", version)


def first_wins(results: Results, other: Results, column: str) -> frozenset[str]:
    """Items of one result that cannot be compared by a column with another one.

    They are those where it took the first of several best choices, and the other one shares credit.
    """
    margin = "margin_norm" if column.endswith("_norm") else "margin"
    older, newer = (re.match(rf"({'|'.join(CHOICES)})/(\d+);", each.version) for each in (results, other))
    if older is None or newer is None or margin not in results.columns:
        return frozenset()
    if (int(older[2]), int(newer[2])) != (REVISION, REVISION_OF_TIES):
        return frozenset()
    place = results.columns.index(margin)
    return frozenset(item for item, row in results.items.items() if row[place] == 0)


def half_right(results: Results) -> str | None:
    """The first answer that has a part of the credit, though no other choice is as likely as it; or None."""
    columns = results.columns
    for column, margin in (("acc", "margin"), ("acc_norm", "margin_norm")):
        if column in columns:
            place, lead = columns.index(column), columns.index(margin) if margin in columns else None
            for item, row in results.items.items():
                if 0 < row[place] < 1 and (lead is None or row[lead] != 0):
                    return f"{column} of item {item} is {row[place]:g}, neither right nor wrong, and no choices tie"
    return None


def has_column(columns: Sequence[str], name: str) -> bool:
    """Whether results have a column, or one that it follows from (see ``reader``)."""
    return name in columns or _CHOSEN.get(name) in columns


def reader(columns: Sequence[str], name: str) -> Callable[[Sequence[float]], float]:
    """What gives the named number of a row. Rows from before ties were kept have one best choice each."""
    if name in columns:
        place = columns.index(name)
        return lambda row: row[place]
    chosen = columns.index(_CHOSEN[name])
    return lambda row: 2.0 ** min(row[chosen], 52.0)


def share_an_answer(first: float, second: float) -> bool:
    """Whether two sets of best choices, each a sum as in ``TIED``, have one in common."""
    return first == first and second == second and bool(int(first) & int(second))
