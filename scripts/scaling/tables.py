"""The tables of docs/optimization_techniques.md that the records in docs/results/scaling/records give.

python scripts/scaling/tables.py           prints them
python scripts/scaling/tables.py --write   puts them into the page
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.markup import markdown_table
from enginegate.report.side_tables import side_tables
from enginegate.storage.runs import RECORD_NAME, load_record

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "docs" / "results" / "scaling" / "records"
PAGE = REPOSITORY / "docs" / "optimization_techniques.md"
#: Between these lines of the page stands the table of that name.
MARK = "<!-- recorded: {} -->"
NAMES = ("kv_cache", "scaling")


def records() -> list[RunRecord]:
    """All of the folder, the oldest first."""
    return [load_record(path) for path in sorted(RECORDS.glob(f"*/{RECORD_NAME}"))]


def table(name: str, found: list[RunRecord]) -> str:
    """The tables of one name, each under its model, machine and run; columns without a figure are left out."""
    parts = []
    for record in found:
        for side in side_tables(record):
            if side.name != name:
                continue
            shown = [place for place in range(len(side.headings)) if any(row[place] for row in side.rows)]
            rows = [[row[place] or "n/a" for place in shown] for row in side.rows]
            lines = markdown_table([side.headings[place] for place in shown], rows)
            parts.append(
                f"{record.model.name} on `{record.fingerprint.key}`, run `{record.id}`:\n\n" + "\n".join(lines)
            )
    return "\n\n".join(parts) or "Not recorded yet."


def written(text: str, found: list[RunRecord]) -> str:
    """The page's text with these tables between its marks."""
    for name in NAMES:
        mark = MARK.format(name)
        pattern = re.compile(rf"({re.escape(mark)}\n).*?(\n{re.escape(mark)})", re.DOTALL)
        text = pattern.sub(lambda place, name=name: f"{place[1]}\n{table(name, found)}\n{place[2]}", text)
    return text


def main(arguments: list[str]) -> int:
    """Print the tables, or put them into the page."""
    found = records()
    if arguments == ["--write"]:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print("\n\n".join(table(name, found) for name in NAMES))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
