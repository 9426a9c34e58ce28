"""Reports, each from run records alone: terminal table, CSV, Markdown, plot and recomputed verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.rows import record_rows, write_csv


def write_report(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write ``benchmark_results.csv``, ``summary.md`` and ``plot.png`` into ``folder``; the paths are returned.

    Each subject of ``side_tables`` that a record has something for is a CSV file of its own, and what was swept
    is drawn in ``scaling.png``.
    Where anything served, ``serving.csv``, too.

    Raises:
        RecordError: a file cannot be written.
    """
    from enginegate.core.errors import RecordError, edge
    from enginegate.report.markdown import markdown_summary
    from enginegate.report.plot import save_plot
    from enginegate.report.scaling import save_surfaces
    from enginegate.report.serving import write_serving_csv
    from enginegate.report.side_tables import write_side_tables

    rows = [row for record in records for row in record_rows(record)]
    csv, summary, plot = folder / "benchmark_results.csv", folder / "summary.md", folder / "plot.png"
    serving = folder / "serving.csv"
    with edge(RecordError, f"the report cannot be written to {folder}", "name another folder with --out DIR"):
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(rows, csv)
        summary.write_text("\n".join(markdown_summary(record) for record in records), encoding="utf-8")
        save_plot(rows, plot)
        side = [*write_side_tables(records, folder), *save_surfaces(records, folder / "scaling.png")]
        served = write_serving_csv(records, serving)
    return [csv, summary, plot, *side, *([serving] if served else [])]


def write_comment(records: Sequence[RunRecord], path: Path) -> Path:
    """Write the runs in short, as a comment for a pull request. Raises RecordError where that cannot be written."""
    from enginegate.core.errors import RecordError, edge
    from enginegate.report.comment import markdown_comment

    with edge(RecordError, f"the comment cannot be written to {path}", "name another file with --comment FILE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown_comment(records), encoding="utf-8")
    return path
