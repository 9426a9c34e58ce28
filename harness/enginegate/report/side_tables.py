"""Tables beside the results table, each of one subject: on the terminal, in the Markdown summary, and as a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.kv_cache import kv_cache_table
from enginegate.report.memory_views import memory_table
from enginegate.report.scaling import scaling_table
from enginegate.report.side_table import SideTable
from enginegate.report.techniques import technique_table

#: What makes each table of a record; None where it has nothing of the subject.
_MAKERS: tuple[Callable[[RunRecord], SideTable | None], ...] = (
    memory_table,
    kv_cache_table,
    scaling_table,
    technique_table,
)


def side_tables(record: RunRecord) -> list[SideTable]:
    """The tables that a record has something for."""
    return [table for make in _MAKERS if (table := make(record)) is not None]


@dataclass(frozen=True)
class _Part:
    model: str
    table: SideTable


def write_side_tables(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """One CSV file for each subject, with the model in front of each line; their paths. Raises OSError."""
    parts: dict[str, list[_Part]] = {}
    for record in records:
        for table in side_tables(record):
            parts.setdefault(table.name, []).append(_Part(record.model.name, table))
    written = []
    for name, found in parts.items():
        path = folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["Model", *found[0].table.headings])
            writer.writerows([part.model, *row] for part in found for row in part.table.rows)
        written.append(path)
    return written
