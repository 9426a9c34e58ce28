"""Fill the tables of memory in docs/optimization_techniques.md: python scripts/memory/page.py [--check]

Below ``<!-- memory: NAME -->`` stands what docs/results/memory/NAME.json says, up to ``<!-- end -->``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import error_table
import paged
import pages

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "optimization_techniques.md"
RESULTS = ROOT / "docs" / "results" / "memory"


def memory(name: str) -> Iterator[str]:
    """The lines of one file's table."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    if name == "paged":
        return iter(paged.table(found))
    return error_table.table([error_table.Line(**line) for line in found["lines"]])


TABLES = {"memory": memory}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
