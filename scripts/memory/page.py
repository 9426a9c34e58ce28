"""Puts the tables of docs/results/memory into docs/optimization_techniques.md, each behind its mark.

python scripts/memory/page.py            # after a measurement
python scripts/memory/page.py --check    # exit 1 where the page has another table than the files
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import error_table
import paged

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "optimization_techniques.md"
RESULTS = ROOT / "docs" / "results" / "memory"


def tables() -> Iterator[tuple[str, str]]:
    """The mark of each table, and its lines; a file that is not there has none."""
    for name in ("cpu", "gpu"):
        if (RESULTS / f"{name}.json").is_file():
            found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
            lines = [error_table.Line(**line) for line in found["lines"]]
            yield f"memory {name}", "\n".join(error_table.table(lines))
    found = json.loads((RESULTS / "paged.json").read_text(encoding="utf-8"))
    yield "paged", "\n".join(paged.table(found))


def written(page: str) -> str:
    """The page with the files' tables between ``<!-- measured: NAME -->`` and ``<!-- end -->``."""
    for name, table in tables():
        before, mark, rest = page.partition(f"<!-- measured: {name} -->\n")
        if not mark:
            raise SystemExit(f"{PAGE} has no mark <!-- measured: {name} -->: put one where the table belongs")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{mark}{table}\n{end}{after}"
    return page


def main() -> int:
    """Write, or check."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return 0 if written(page) == page else 1
    PAGE.write_text(written(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
