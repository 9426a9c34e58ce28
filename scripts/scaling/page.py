"""Fill the tables of KV caches and scaling in docs/optimization_techniques.md: python scripts/scaling/page.py [--check]

Below ``<!-- scaling: NAME -->`` stands what the records in docs/results/scaling/records say, up to ``<!-- end -->``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.markup import markdown_table
from enginegate.report.side_tables import side_tables
from enginegate.storage.runs import RECORD_NAME, load_record

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "optimization_techniques.md"
RECORDS = ROOT / "docs" / "results" / "scaling" / "records"


def records() -> list[RunRecord]:
    """All of the folder, the oldest first."""
    return [load_record(path) for path in sorted(RECORDS.glob(f"*/{RECORD_NAME}"))]


def scaling(name: str) -> Iterator[str]:
    """The tables of one name, each under its model, machine and run; columns without a figure are left out."""
    for record in records():
        for side in side_tables(record):
            if side.name != name:
                continue
            shown = [place for place in range(len(side.headings)) if any(row[place] for row in side.rows)]
            rows = [[row[place] or "n/a" for place in shown] for row in side.rows]
            yield ""
            yield f"{record.model.name} on `{record.fingerprint.key}`, run `{record.id}`:"
            yield ""
            yield from markdown_table([side.headings[place] for place in shown], rows)
    yield ""


TABLES = {"scaling": scaling}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
