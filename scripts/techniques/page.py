"""Fill the tables of techniques of serving from their records: python scripts/techniques/page.py [--check]

Below a line ``<!-- techniques: NAME ... -->`` of docs/optimization_techniques.md stands what the records below
docs/results/techniques say of these techniques, up to ``<!-- end -->``; nothing where none was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.techniques import technique_rows
from enginegate.storage.runs import load_record

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "optimization_techniques.md"
RECORDS = ROOT / "docs" / "results" / "techniques"
HEADINGS = ("model", "engine", "machine", "technique", "figure", "with", "without", "better by", "also", "verdicts")


def table(records: Sequence[RunRecord], names: Sequence[str]) -> Iterator[str]:
    """The rows of some techniques in all records, and how to take them; nothing where none has any."""
    rows = []
    for record in records:
        for entry, row in zip(record.techniques, technique_rows(record), strict=True):
            if entry.technique in names:
                backend = next((each.backend for each in record.engines if each.id == entry.engine), "")
                head = record.model.name, f"{backend} {row.engine}", machine(record)
                rows.append((*head, *row.cells[1:-1], row.also, row.verdicts))
    if not rows:
        return
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + "---|" * len(HEADINGS)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def machine(record: RunRecord) -> str:
    """The machine of a record in a few words, and the day."""
    known = record.fingerprint.identity
    cards = known.get("gpus") or known.get("gpu")
    name = f"{cards[0]['name']} and {known['cores']} cores" if cards else f"{known['cpu']}, {known['cores']} cores"
    return f"{name}, {record.started[:10]}"


def techniques(names: str) -> Iterator[str]:
    """The lines of the table of these techniques, over all records."""
    return table([load_record(path) for path in sorted(RECORDS.glob("*/run.json*"))], names.split())


TABLES = {"techniques": techniques}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
