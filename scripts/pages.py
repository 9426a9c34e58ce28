"""Pages with tables that are made from records, and a test that holds each page to its records.

A table stands between ``<!-- NAME: WHAT -->`` and ``<!-- end -->``; NAME is one of the page's kinds of tables, and WHAT
says which, as that kind takes it (a run, a file, nothing). Each ``scripts/*/page.py`` names its page and kinds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

#: From what a mark says behind its name to the lines of the table.
Tables: TypeAlias = "Mapping[str, Callable[[str], Iterable[str]]]"


def mark(name: str, what: str = "") -> str:
    """The line that a table stands behind."""
    return f"<!-- {name}: {what} -->" if what else f"<!-- {name} -->"


def marked(text: str, tables: Tables) -> list[tuple[str, str]]:
    """Name and what is asked of each table of a page."""
    return [(found[2], found[3] or "") for found in _pattern(tables).finditer(text)]


def filled(text: str, tables: Tables) -> str:
    """The page with its tables made anew."""

    def part(found: re.Match[str]) -> str:
        lines = tables[found[2]](found[3] or "")
        return "".join([found[1], *(f"{line}\n" for line in lines), found[4]])

    return _pattern(tables).sub(part, text)


def main(page: Path, tables: Tables) -> int:
    """Write the page, or say under ``--check`` whether it is as its records are: 1 where it is not."""
    before = page.read_text(encoding="utf-8")
    after = filled(before, tables)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    page.write_text(after, encoding="utf-8")
    return 0


def _pattern(tables: Tables) -> re.Pattern[str]:
    return re.compile(rf"(<!-- ({'|'.join(tables)})(?:: ([^>]*))? -->\n).*?(<!-- end -->)", re.DOTALL)
