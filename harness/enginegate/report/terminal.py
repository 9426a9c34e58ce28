"""The results table and the verdicts for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from enginegate.core.records import RunRecord
from enginegate.report.markdown import RANDOM_WEIGHTS, tally
from enginegate.report.notes import speed_notes
from enginegate.report.rows import SPEEDUP_HEADING, Row, cell, record_rows, speedup_text
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
)


def print_report(record: RunRecord, console: Console) -> None:
    """The speed and quality tables, and every verdict; made for a console of 100 columns or more."""
    rows = record_rows(record)
    timed = [row for row in rows if row.workload]
    if timed:
        console.print(_speed_table(record.model.name, timed, console.width))
        for note in speed_notes(record):
            console.print(note, markup=False, style="dim")
    scored = list({(row.engine, row.precision): row for row in rows if _has_quality(row)}.values())
    if scored:
        console.print(_quality_table(record.model.name, scored, console.width))
    if record.model.random_weights:
        console.print(RANDOM_WEIGHTS, style="yellow")
    print_verdicts(record, console)


def print_verdicts(record: RunRecord, console: Console) -> None:
    """Every verdict with its explanation and warnings, worst first, what ran again, how many there are of each."""
    for verdict in sorted(record.verdicts, key=lambda verdict: SEVERITY.index(verdict.status)):
        console.print(f"[{STYLES[verdict.status]}]{verdict.status}[/] {escape(verdict.explanation)}")
        for warning in verdict.warnings:
            console.print(f"  warning: {warning}", markup=False, style="dim")
    for entry in record.joint:
        console.print(f"[{STYLES[entry.status]}]{entry.status}[/] {escape(entry.explanation)}")
    for rerun in reruns(record):
        console.print(f"run again: {rerun}", markup=False, style="bold yellow" if rerun.turned else "dim")
    console.print(f"{record.model.name}: {tally(record)}", markup=False, style="bold")


def _speed_table(model: str, rows: Sequence[Row], width: int) -> Table:
    table = _table(f"{model}: speed and memory", width)
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
    table = _table(f"{model}: quality", width)
    for heading, _, _ in QUALITY_COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (cell(row, attribute, decimals, "n/a") for _, attribute, decimals in QUALITY_COLUMNS)
        table.add_row(f"{row.engine} {row.precision}", *cells)
    return table


def _table(title: str, width: int) -> Table:
    gap = 1 if width >= WIDE else 0
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, gap, 0, 0))
    table.add_column("Engine", no_wrap=True)
    return table


def _has_quality(row: Row) -> bool:
    return any(getattr(row, attribute) is not None for _, attribute, _ in QUALITY_COLUMNS)
