"""The results table and the verdicts for a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.records import RunRecord
from harness.report.markdown import RANDOM_WEIGHTS, tally
from harness.report.rows import Row, cell, record_rows, speedup_text
from harness.summary import SEVERITY

STYLES = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow", "NO_BASELINE": "cyan", "": "dim"}

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


def render_table(record: RunRecord, color: bool = False, width: int = 120) -> str:
    """The speed and quality tables as text of at most ``width`` columns; "" where nothing was measured."""
    rows = record_rows(record)
    console = Console(width=width, force_terminal=color, no_color=not color, record=True, file=io.StringIO())
    timed = [row for row in rows if row.workload]
    if timed:
        console.print(_speed_table(record.model.name, timed))
    scored = list({(row.engine, row.precision): row for row in rows if _has_quality(row)}.values())
    if scored:
        console.print(_quality_table(record.model.name, scored))
    if record.model.random_weights:
        console.print(RANDOM_WEIGHTS, style="yellow")
    return console.export_text(styles=color)


def print_verdicts(record: RunRecord, console: Console) -> None:
    """Every verdict with its explanation and warnings, worst first, then how many there are of each."""
    for verdict in sorted(record.verdicts, key=lambda verdict: SEVERITY.index(verdict.status)):
        console.print(f"[{STYLES[verdict.status]}]{verdict.status}[/] {escape(verdict.explanation)}")
        for warning in verdict.warnings:
            console.print(f"  warning: {warning}", markup=False, style="dim")
    console.print(f"{record.model.name}: {tally(record)}", markup=False, style="bold")


def _speed_table(model: str, rows: Sequence[Row]) -> Table:
    table = _table(f"{model}: speed and memory")
    table.add_column("Batch\nSize", justify="right")
    for heading, _, _ in SPEED_COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("Speedup", justify="right")
    table.add_column("Verdict")
    for row in rows:
        table.add_row(
            f"{row.engine} {row.precision}",
            cell(row, "batch_size", None, "n/a"),
            *(cell(row, attribute, decimals, "n/a") for _, attribute, decimals in SPEED_COLUMNS),
            escape(speedup_text(row)),
            f"[{STYLES[row.verdict]}]{row.verdict or 'not gated'}[/]",
        )
    return table


def _quality_table(model: str, rows: Sequence[Row]) -> Table:
    table = _table(f"{model}: quality")
    for heading, _, _ in QUALITY_COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (cell(row, attribute, decimals, "n/a") for _, attribute, decimals in QUALITY_COLUMNS)
        table.add_row(f"{row.engine} {row.precision}", *cells)
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("Engine")
    return table


def _has_quality(row: Row) -> bool:
    return any(getattr(row, attribute) is not None for _, attribute, _ in QUALITY_COLUMNS)
