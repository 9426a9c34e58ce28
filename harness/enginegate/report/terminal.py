"""A session's end on a terminal: one screen of 80 columns, or all tables and verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from enginegate.core.records import RunRecord, VerdictEntry
from enginegate.gates.verdict import CONFIDENCE
from enginegate.report.markdown import RANDOM_WEIGHTS, tally
from enginegate.report.notes import cost_notes, data_notes, quality_notes, speed_notes
from enginegate.report.reasons import reasons, warnings
from enginegate.report.rows import SPEEDUP_HEADING, Row, cell, record_rows, row_verdict, speedup_text
from enginegate.report.serving import load_lines, serving_rows, table_cells
from enginegate.report.side_tables import side_tables
from enginegate.storage.summary import SEVERITY, reruns

STYLES = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow", "NO_BASELINE": "cyan", "": "dim"}

#: From this width on, columns are two spaces apart instead of one.
WIDE = 112

#: Two tables, each within 100 columns: heading, row attribute, decimals.
SPEED_COLUMNS = (
    ("Latency\n(ms)", "latency_ms", 1),
    ("Tokens\n/sec", "tokens_per_second", 1),
    ("TTFT\n(ms)", "ttft_ms", 1),
    ("ITL\n(ms)", "itl_ms", 2),
    ("Memory\n(MB)", "memory_mb", 0),
    ("WM\n(GB)", "weights_gb", 2),
    ("RM\n(GB)", "running_gb", 2),
)
QUALITY_COLUMNS = (
    ("Accuracy\n(%)", "accuracy", 2),
    ("ROUGE-1", "rouge1", 2),
    ("ROUGE-2", "rouge2", 2),
    ("ROUGE-L", "rouge_l", 2),
    ("ROUGE-Lsum", "rouge_lsum", 2),
    ("BLEU", "bleu", 2),
    ("Perplexity", "perplexity", 3),
    ("KLD", "divergence", 5),
)


#: How many reasons, and how many warnings, a screen has room for.
REASONS, WARNINGS = 8, 3
#: Columns of the serving table that a screen shows.
_SHORT = (1, 2, 4, 5, 6, 9)
#: Metrics whose scores a screen shows.
_SHOWN = ("cloze", "letters", "perplexity")


def print_screen(record: RunRecord, console: Console) -> None:
    """A line for each engine and batch size, why what did not pass did not, the tally; 80 columns suffice."""
    lines = _lines(record)
    if lines:
        console.print(_screen_table(record, lines))
        for note in data_notes(record.quality, _SHOWN):
            console.print(f"data: {note}", markup=False, style="dim")
        for note in cost_notes(record):
            console.print(note, markup=False, style="dim")
    _print_side_tables(record, console, short=True)
    print_serving(record, console, short=True)
    if record.model.random_weights:
        console.print(RANDOM_WEIGHTS, style="yellow")
    found = reasons(record)
    for reason in found[:REASONS]:
        console.print(f"[{STYLES[reason.status]}]{reason.status}[/] {escape(reason.sentence(record))}")
    if len(found) > REASONS:
        console.print(f"and {len(found) - REASONS} more reasons", style="dim")
    remarks = warnings(record)
    for warning in remarks[:WARNINGS]:
        console.print(f"  warning: {warning}", markup=False, style="dim")
    if len(remarks) > WARNINGS:
        console.print(f"  and {len(remarks) - WARNINGS} more warnings", style="dim")
    _print_end(record, console, failed_only=True)


@dataclass(frozen=True)
class _Line:
    """An engine at a batch size: its row of the results table, and its verdict over a live base, where it has them."""

    label: str
    row: Row | None
    raced: VerdictEntry | None
    verdict: str


def _lines(record: RunRecord) -> list[_Line]:
    """Of every candidate; a race without pytest has verdicts alone."""
    raced = {(v.engine, v.workload or ""): v for v in record.verdicts if v.is_raced and v.metric == "speedup"}
    ids = {(engine.backend, engine.precision_label): engine.id for engine in record.engines}
    found = []
    for row in record_rows(record):
        if row.role == "candidate":
            verdict = raced.pop((ids[row.engine, row.precision], row.workload), None)
            batch = "" if row.batch_size is None else f" b{row.batch_size}"
            found.append(_Line(f"{row.engine} {row.precision}{batch}", row, verdict, row.verdict))
    for (engine, workload), verdict in raced.items():
        label = f"{engine.removeprefix(f'{record.model.name}-')} {workload.partition('-')[0]}"
        found.append(_Line(label, None, verdict, row_verdict(record, engine, workload)))
    return found


def _screen_table(record: RunRecord, lines: Sequence[_Line]) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("engine, batch", overflow="fold")
    columns = [_speed_column(record, lines), *_FIGURES]
    columns = [column for column in columns if any(column[1](line) for line in lines)]
    for heading, _ in columns:
        table.add_column(escape(heading), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for line in lines:
        cells = [escape(text(line)) for _, text in columns]
        verdict = f"[{STYLES[line.verdict.partition(' ')[0]]}]{line.verdict or 'not gated'}[/]"
        table.add_row(escape(line.label), *cells, verdict)
    return table


#: A column's heading, and its text for a line; "" where there is nothing to show.
_Column = tuple[str, Callable[[_Line], str]]

_FIGURES: tuple[_Column, ...] = (
    ("peak MB", lambda line: _cell(line, "memory_mb", 0)),
    ("acc. %", lambda line: _cell(line, "accuracy", 1)),
    ("ppl", lambda line: _cell(line, "perplexity", 2)),
    ("per 1M out", lambda line: _cell(line, "cost_output", 3)),
    ("per 1M in+out", lambda line: _cell(line, "cost_all", 3)),
    ("J/token", lambda line: _cell(line, "joules_per_token", 3)),
)


def _cell(line: _Line, attribute: str, decimals: int) -> str:
    return "" if line.row is None else cell(line.row, attribute, decimals)


def _speed_column(record: RunRecord, lines: Sequence[_Line]) -> _Column:
    """How much slower than the live base where there is one, else how many times the reference's speed."""
    percent = f"[{100 * CONFIDENCE:g} %]"
    if any(line.raced is not None for line in lines):
        return f"slower by {percent}", lambda line: _slowdown(line.raced)
    reference = next((f"{e.backend} {e.precision_label}" for e in record.engines if e.role == "reference"), "reference")
    return f"over {reference} {percent}", lambda line: "" if line.row is None else speedup_text(line.row, "")


def _slowdown(verdict: VerdictEntry | None) -> str:
    """The change of a speed-up verdict and its interval in percent, e.g. ``4.9 % [2.9, 7.0]``; negative is faster."""
    if verdict is None or verdict.change is None:
        return ""
    low, high = (100 * (1 / ratio - 1) if ratio else math.nan for ratio in reversed(verdict.interval))
    interval = f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{100 * verdict.change:.1f} %{interval}"


def print_report(record: RunRecord, console: Console) -> None:
    """The speed and quality tables, and every verdict; made for a console of 100 columns or more."""
    rows = record_rows(record)
    timed = [row for row in rows if row.workload]
    if timed:
        console.print(_speed_table(record.model.name, timed, console.width))
        for note in (*speed_notes(record), *cost_notes(record)):
            console.print(note, markup=False, style="dim")
    scored = list({(row.engine, row.precision): row for row in rows if _has_quality(row)}.values())
    if scored:
        console.print(_quality_table(record.model.name, scored, console.width))
        for note in data_notes(record.quality):
            console.print(f"data: {note}", markup=False, style="dim")
    for note in quality_notes(record):
        console.print(note, markup=False, style="dim")
    _print_side_tables(record, console, short=False)
    print_serving(record, console, short=False)
    if record.model.random_weights:
        console.print(RANDOM_WEIGHTS, style="yellow")
    print_verdicts(record, console)


def print_serving(record: RunRecord, console: Console, *, short: bool) -> None:
    """A line for each run that served; ``short``: within 80 columns, the runs of a base left out.

    Intervals are in the summary: a terminal has no room for them.
    """
    rows = [row for row in serving_rows(record) if not (short and row.is_base)]
    if not rows:
        return
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("engine under load", overflow="fold", min_width=18)
    kept = _SHORT if short else tuple(range(len(table_cells(rows[0], interval=False))))
    for index in kept:
        heading = table_cells(rows[0], interval=False)[index][0].replace(" ", "\n")
        table.add_column(escape(heading), justify="right")
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        cells = table_cells(row, interval=False)
        verdict = row.verdict or ("base" if row.is_base else "not gated")
        style = STYLES[row.verdict.partition(" ")[0]]
        table.add_row(escape(row.name), *(escape(cells[index][1]) for index in kept), f"[{style}]{verdict}[/]")
    console.print(table)
    for line in load_lines(record):
        console.print(line, markup=False, style="dim")


def print_verdicts(record: RunRecord, console: Console) -> None:
    """Every verdict with its explanation and warnings, worst first, what ran again, how many there are of each."""
    for verdict in sorted(record.verdicts, key=lambda verdict: SEVERITY.index(verdict.status)):
        console.print(f"[{STYLES[verdict.status]}]{verdict.status}[/] {escape(verdict.explanation)}")
        for warning in verdict.warnings:
            console.print(f"  warning: {warning}", markup=False, style="dim")
    _print_end(record, console, failed_only=False)


def _print_end(record: RunRecord, console: Console, *, failed_only: bool) -> None:
    """Speed and quality together, what ran again, how many verdicts there are of each status."""
    for entry in record.joint:
        if entry.status == "FAIL" or not failed_only:
            console.print(f"[{STYLES[entry.status]}]{entry.status}[/] {escape(entry.explanation)}")
    for rerun in reruns(record):
        console.print(f"run again: {rerun}", markup=False, style="bold yellow" if rerun.turned else "dim")
    console.print(f"{record.model.label}: {tally(record)}", markup=False, style="bold")


def _print_side_tables(record: RunRecord, console: Console, *, short: bool) -> None:
    """The tables of single subjects; columns without a figure are left out. ``short``: the brief ones alone."""
    for side in side_tables(record):
        if short and not side.brief:
            continue
        table = Table(title=escape(side.title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        shown = [place for place in range(len(side.headings)) if any(row[place] for row in side.rows)]
        for place in shown:
            ends = place in (0, len(side.headings) - 1)
            align: JustifyMethod = "left" if ends else "right"
            table.add_column(escape(side.headings[place]), justify=align, no_wrap=ends, overflow="fold")
        for row in side.rows:
            table.add_row(*(escape(row[place]) for place in shown))
        console.print(table)
        for note in side.notes:
            console.print(note, markup=False, style="dim")


def _speed_table(model: str, rows: Sequence[Row], width: int) -> Table:
    table = _table(escape(f"{model}{_origin(rows)}: speed and memory"), width)
    table.add_column("Batch\nSize", justify="right", no_wrap=True)
    for heading, _, _ in SPEED_COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(escape(SPEEDUP_HEADING.replace(" ", "\n", 1)), justify="right", overflow="fold")
    table.add_column("Verdict", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.engine} {row.precision}",
            cell(row, "batch_size", None, "n/a"),
            *(cell(row, attribute, decimals, "n/a") for _, attribute, decimals in SPEED_COLUMNS),
            escape(speedup_text(row)),
            f"[{STYLES[row.verdict.partition(' ')[0]]}]{row.verdict or 'not gated'}[/]",
        )
    return table


def _quality_table(model: str, rows: Sequence[Row], width: int) -> Table:
    table = _table(escape(f"{model}{_origin(rows)}: quality"), width)
    for heading, _, _ in QUALITY_COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (cell(row, attribute, decimals, "n/a") for _, attribute, decimals in QUALITY_COLUMNS)
        table.add_row(f"{row.engine} {row.precision}", *cells)
    return table


def _origin(rows: Sequence[Row]) -> str:
    """What the weights of the rows' model were quantized to before, for a title; empty where they were not."""
    return f", dequantized from {rows[0].dequantized}" if rows and rows[0].dequantized else ""


def _table(title: str, width: int) -> Table:
    gap = 1 if width >= WIDE else 0
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, gap, 0, 0))
    table.add_column("Engine", no_wrap=True)
    return table


def _has_quality(row: Row) -> bool:
    return any(getattr(row, attribute) is not None for _, attribute, _ in QUALITY_COLUMNS)
