"""Serving in tables: one row for each engine and run of a record, for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.core.serving_records import PercentileEntry, ServingEntry, ServingRun
from enginegate.measure.serving.figures import ServingFigures, figures
from enginegate.report.markup import markdown_table, with_symbol
from enginegate.report.rows import row_verdict

#: The latencies of a table and the percentiles of each, in order.
SHOWN = ("ttft", "tpot", "itl", "e2el")
PERCENTILES = ("p50", "p90", "p95", "p99")

#: What the columns mean, for the foot of a table.
NOTES = (
    "Latencies count from the moment a request was due, not from when it was sent.",
    "TTFT: to the first token. TPOT: mean gap between a request's tokens. ITL: each gap between tokens, those that come"
    " together sharing the wait. E2EL: to the last token.",
    "Intervals are 95 % intervals by order statistics, of as many requests as the correlated ones count for; an open"
    " end says that the requests are too few for it.",
    "Goodput: answered requests a second that kept every limit of the service level. Within: share of all that were"
    " due.",
)


@dataclass(frozen=True)
class ServingRow:
    """One run.

    Attributes:
        model, engine: what served; ``label``: the engine without the model.
        number: of the run, from 1; of how many.
        is_base: whether it is of the live base.
        load: what was offered, in words.
        slo: the service level, in words.
        figures: its numbers.
        believed: whether every invariant held.
        verdict: the worst status of the engine's gates of serving; empty for a base.
    """

    model: str
    engine: str
    label: str
    number: int
    count: int
    is_base: bool
    load: str
    slo: str
    figures: ServingFigures
    believed: bool
    verdict: str

    @property
    def name(self) -> str:
        """The engine, and which run it was where there are several."""
        return self.label if self.count == 1 else f"{self.label} #{self.number}"


def serving_rows(record: RunRecord) -> list[ServingRow]:
    """Every run of a record; those of a pair next to each other."""
    return [row for entry in record.serving for row in _rows(record, entry)]


def _rows(record: RunRecord, entry: ServingEntry) -> Iterator[ServingRow]:
    verdict = row_verdict(record, entry.engine, entry.load.id) if record.verdicts else ""
    for number, run in enumerate(entry.runs, start=1):
        yield _row(record, entry, entry.engine, run, number, verdict)
        if number <= len(entry.base_runs):
            yield _row(record, entry, entry.base, entry.base_runs[number - 1], number, "")


def _row(record: RunRecord, entry: ServingEntry, engine: str, run: ServingRun, number: int, verdict: str) -> ServingRow:
    return ServingRow(
        model=record.model.name,
        engine=engine,
        label=engine.removeprefix(f"{record.model.name}-"),
        number=number,
        count=len(entry.runs),
        is_base=engine == entry.base,
        load=str(entry.load),
        slo=str(entry.slo),
        figures=figures(run, entry.slo),
        believed=not run.why_not,
        verdict=verdict,
    )


def milliseconds(found: PercentileEntry | None, *, interval: bool = True) -> str:
    """A percentile in milliseconds with its interval, ``12.3 [11.9, 13.0]``; an end that is not known is open."""
    if found is None or math.isnan(found.value):
        return "n/a"
    text = _ms(found.value)
    return f"{text} [{_ms(found.low)}, {_ms(found.high)}]" if interval else text


def _ms(seconds: float) -> str:
    if math.isnan(seconds):
        return "…"
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def table_cells(row: ServingRow, *, interval: bool) -> list[tuple[str, str]]:
    """Headings and cells of a row, behind the engine's name; latencies in milliseconds."""
    said = row.figures

    def cell(metric: str, name: str) -> str:
        return milliseconds(said.percentiles.get(metric, {}).get(name), interval=interval)

    return [
        ("Offered /s", f"{said.offered:.3g}"),
        ("Goodput /s", f"{said.goodput:.3g}"),
        ("Within %", f"{100 * said.kept:.1f}"),
        ("Tokens /s", f"{said.tokens_per_second:.4g}"),
        ("TTFT p50", cell("ttft", "p50")),
        ("TTFT p99", cell("ttft", "p99")),
        ("TPOT p50", cell("tpot", "p50")),
        ("ITL p99", cell("itl", "p99")),
        ("E2EL p50", cell("e2el", "p50")),
        ("E2EL p99", cell("e2el", "p99")),
    ]


def load_lines(record: RunRecord) -> list[str]:
    """What was offered and asked, once for each load of the record."""
    return list(dict.fromkeys(f"serving (ms): {entry.load}; asked: {entry.slo}" for entry in record.serving))


def markdown_lines(record: RunRecord) -> Iterator[str]:
    """The section of a summary; nothing where nothing was served."""
    rows = serving_rows(record)
    if not rows:
        return
    yield "\n## Serving\n"
    headings = ["Engine", *(heading for heading, _ in table_cells(rows[0], interval=True)), "Verdict"]
    cells = [
        [
            row.name,
            *(text for _, text in table_cells(row, interval=True)),
            with_symbol(row.verdict) if row.verdict else ("base" if row.is_base else "not gated"),
        ]
        for row in rows
    ]
    yield from markdown_table(headings, cells)
    yield ""
    yield from (f"- {line}." for line in load_lines(record))
    yield from (f"- {line}" for line in NOTES)
    for entry in record.serving:
        for run in (*entry.runs, *entry.base_runs):
            yield from (f"- **Not believed**: {reason}." for reason in run.why_not)


def write_serving_csv(records: Sequence[RunRecord], path: Path) -> bool:
    """One row for each run, latencies in milliseconds with their intervals. False where nothing was served."""
    rows = [row for record in records for row in serving_rows(record)]
    if not rows:
        return False
    latencies = [(metric, name) for metric in SHOWN for name in PERCENTILES]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *("Model", "Engine", "Run", "Base", "Load", "Service Level", "Offered/s", "Requests/s", "Tokens/s"),
                *("Goodput/s", "Within (%)", "Measured", "Failed"),
                *(f"{metric.upper()} {name}{end} (ms)" for metric, name in latencies for end in ("", " Low", " High")),
                *("Believed", "Verdict"),
            ]
        )
        for row in rows:
            believed = "yes" if row.believed else "no"
            writer.writerow([*_csv_head(row), *_csv_latencies(row, latencies), believed, row.verdict])
    return True


def _csv_head(row: ServingRow) -> list[object]:
    said = row.figures
    rates = (said.offered, said.requests_per_second, said.tokens_per_second, said.goodput, 100 * said.kept)
    return [
        row.model,
        row.engine,
        row.number,
        "yes" if row.is_base else "no",
        row.load,
        row.slo,
        *("" if math.isnan(value) else f"{value:.4f}" for value in rates),
        said.measured,
        said.failed,
    ]


def _csv_latencies(row: ServingRow, latencies: Sequence[tuple[str, str]]) -> Iterator[str]:
    for metric, name in latencies:
        found = row.figures.percentiles.get(metric, {}).get(name)
        values = (found.value, found.low, found.high) if found is not None else (math.nan,) * 3
        yield from ("" if math.isnan(value) else f"{1000 * value:.3f}" for value in values)
