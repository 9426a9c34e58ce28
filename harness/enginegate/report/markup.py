"""What every page of Markdown is made of: tables, and a status with its symbol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

SYMBOLS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "❔", "NO_BASELINE": "➖"}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table; a pipe or line break in a cell is made harmless."""
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in row) + " |"


def with_symbol(status: str) -> str:
    """A status, which may be followed by its share, behind its symbol."""
    return f"{SYMBOLS[status.partition(' ')[0]]} {status}"
