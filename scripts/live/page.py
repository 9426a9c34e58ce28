"""Fill docs/live_results.md from its records: python scripts/live/page.py [--check]

Below a line ``<!-- tables: RUN... -->`` or ``<!-- power: RUN... -->`` stands what tables.py or power.py says of these
runs (of docs/results/live/records), up to ``<!-- end -->``.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import power
import tables

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "live_results.md"
RECORDS = ROOT / "docs" / "results" / "live" / "records"
SCRIPTS = {"tables": tables.main, "power": power.main}
PART = re.compile(r"(<!-- (tables|power): ([^>]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with its tables made anew."""

    def fill(part: re.Match[str]) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            SCRIPTS[part[2]]([str(RECORDS / run) for run in part[3].split()])
        return f"{part[1]}{said.getvalue()}{part[4]}"

    return PART.sub(fill, text)


def main(arguments: list[str]) -> int:
    """Write the page, or see that it is as its records say."""
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if arguments == ["--check"]:
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
