"""What a record holds beside the results table, as tables of the page: single subjects, serving."""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.records import RunRecord
from enginegate.report import serving
from enginegate.report.dashboard.facts import who
from enginegate.report.dashboard.markup import Html, Line, badge, items, table, tag
from enginegate.report.side_tables import side_tables


def side_parts(record: RunRecord) -> Iterator[Html]:
    """A heading, a table and its notes for each subject that the record has something of."""
    facets = {"machine": record.fingerprint.key, "model": record.model.name}
    for side in side_tables(record):
        yield from _part(record, side.title, side.headings, [Line(row, facets) for row in side.rows], side.notes)
    rows = serving.serving_rows(record)
    if not rows:
        return
    headings = ["Engine", *(f"{name} #" for name, _ in serving.table_cells(rows[0], interval=True)), "Verdict"]
    lines = []
    for row in rows:
        verdict = Html("base") if row.is_base else badge(row.verdict)
        cells = [text for _, text in serving.table_cells(row, interval=True)]
        lines.append(Line([row.name, *cells, verdict], vars(who(record, row.engine))))
    doubts = [
        f"Not believed: {reason}."
        for entry in record.serving
        for run in (*entry.runs, *entry.base_runs)
        for reason in run.why_not
    ]
    notes = (*doubts, *serving.load_lines(record), *serving.NOTES)
    yield from _part(record, "Requests that arrive over time", headings, lines, notes)


def _part(
    record: RunRecord, title: str, headings: tuple[str, ...] | list[str], lines: list[Line], notes: tuple[str, ...]
) -> Iterator[Html]:
    yield tag("h3", title)
    yield table(f"{title}: {record.model.name}, run {record.id}", headings, lines)
    if notes:
        yield items(notes, class_="soft")
