"""What a table of one subject is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SideTable:
    """A table beside the results table.

    Attributes:
        name: of its CSV file, without the ending.
        title: over it.
        headings, rows: texts; an empty cell was not measured.
        notes: what its columns mean.
        brief: whether the short screen at the end of a session shows it; a summary folds one that is not brief.
    """

    name: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    brief: bool = True
