"""``enginegate report``: tables, CSV, plot, Markdown and a page for a browser from run records alone."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import (
    Subparsers,
    add_json,
    add_runs,
    columns,
    command,
    folder,
    print_json,
    runs_folder,
    say,
    say_printed,
)

if TYPE_CHECKING:
    from enginegate.core.records import RunRecord
    from enginegate.report.verdicts import Recomputed


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "report",
        "print a run's results, and write benchmark_results.csv, plot.png and summary.md",
        "enginegate report latest --out results",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="runs: each a folder, a run.json, an id, or 'latest'; several share one table",
    )
    parser.add_argument(
        "--out", type=folder, metavar="DIR", help="where to write the files (default: the first run's folder)"
    )
    parser.add_argument(
        "--comment", type=folder, metavar="FILE", help="write the runs in short, too, as a comment for a pull request"
    )
    parser.add_argument(
        "--html",
        type=folder,
        metavar="FILE",
        help="write one page for a browser, too, which needs no other file and no network (pip install"
        " 'enginegate[html]')",
    )
    parser.add_argument(
        "--verdicts",
        action="store_true",
        help="recompute every verdict from the record and compare; writes no files, exit 1 where one does not agree",
    )
    add_json(parser)
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Report, or recompute the verdicts."""
    from enginegate.core.errors import ConfigError
    from enginegate.storage.runs import find_record, load_record

    if arguments.verdicts and arguments.html is not None:
        raise ConfigError("--verdicts writes no files, and --html asks for one", "give one of the two")
    paths = [find_record(name, runs_folder(arguments)) for name in arguments.run]
    records = [load_record(path) for path in paths]
    if arguments.verdicts:
        return _verdicts(records, arguments.json)
    first = paths[0] if paths[0].is_dir() else paths[0].parent
    found = list(zip(paths, records, strict=True))
    return _report(found, arguments.out or first, arguments.comment, arguments.html, arguments.json)


def _report(
    found: list[tuple[Path, RunRecord]], folder: Path, comment: Path | None, html: Path | None, as_json: bool
) -> int:
    from dataclasses import asdict

    from enginegate.report import write_comment, write_html, write_report
    from enginegate.report.rows import record_rows
    from enginegate.storage.summary import reruns

    records = [record for _, record in found]
    written = write_report(records, folder)
    if comment is not None:
        written.append(write_comment(records, comment))
    if html is not None:
        written.append(write_html(found, html))
    if as_json:
        rows = [asdict(row) for record in records for row in record_rows(record)]
        verdicts = [verdict.model_dump(mode="json") for record in records for verdict in record.verdicts]
        again = [asdict(rerun) for record in records for rerun in reruns(record)]
        files = [str(path) for path in written]
        print_json({"rows": rows, "verdicts": verdicts, "reruns": again, "written": files})
        return 0
    from enginegate.report.terminal import print_report

    for record in records:
        say_printed(partial(print_report, record), 120)
    for path in written:
        say(f"written: {path}")
    return 0


def _verdicts(records: list[RunRecord], as_json: bool) -> int:
    from enginegate.report.verdicts import recompute_verdicts

    outcomes = [outcome for record in records for outcome in recompute_verdicts(record)]
    differing = [outcome for outcome in outcomes if not outcome.agrees]
    if as_json:
        print_json([_verdict_row(outcome) for outcome in outcomes])
    else:
        rows = [
            ["agrees" if outcome.agrees else "DIFFERS", outcome.stored.status, outcome.stored.test, _again(outcome)]
            for outcome in outcomes
        ]
        say("\n".join(line.rstrip() for line in columns(rows)) if rows else "the record holds no verdicts")
        say(f"{len(outcomes) - len(differing)} of {len(outcomes)} verdicts recomputed from the record agree")
    return 1 if differing else 0


def _again(outcome: Recomputed) -> str:
    if outcome.again is None:
        return f"not recomputed: {outcome.problem}"
    return (
        outcome.again.explanation
        if outcome.agrees
        else f"now {outcome.again.status.value}: {outcome.again.explanation}"
    )


def _verdict_row(outcome: Recomputed) -> dict[str, object]:
    again = outcome.again
    return {
        "test": outcome.stored.test,
        "stored": outcome.stored.status,
        "recomputed": again.status.value if again is not None else None,
        "stored_estimate": outcome.stored.estimate,
        "recomputed_estimate": again.estimate if again is not None else None,
        "agrees": outcome.agrees,
        "problem": outcome.problem,
    }
