"""``enginegate accept``: a run becomes the baseline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, add_json, add_runs, columns, command, print_json, runs_folder, show_bytes

if TYPE_CHECKING:
    from enginegate.storage.accept import Change


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers, "accept", "make a run the baseline, and print what moves", "enginegate accept latest --dry-run"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, its run.json, its id, or 'latest'")
    parser.add_argument(
        "--baselines", type=Path, metavar="DIR", help="folder of baselines (default: the project's baselines/)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="accept a partial run, one with failures, or in place of a baseline that cannot be continued",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would move, write nothing")
    add_json(parser)
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what moves, then write it."""
    from enginegate.config.project import find_project
    from enginegate.storage.accept import apply_accept, check_acceptable, plan_accept
    from enginegate.storage.runs import find_record, load_record

    record = load_record(find_record(arguments.run, runs_folder(arguments)))
    root = arguments.baselines or find_project().baselines
    changes = plan_accept(record, root)
    check_acceptable(record, arguments.force)
    written = [] if arguments.dry_run else apply_accept(record, root, force=arguments.force)
    if arguments.json:
        fields = ("engine", "workload", "metric", "unit", "old", "new", "percent", "note")
        rows = [{"path": str(change.path)} | {name: getattr(change, name) for name in fields} for change in changes]
        print_json({"run": record.id, "changes": rows, "written": [str(path) for path in written]})
        return 0
    _print_changes(changes)
    if arguments.dry_run:
        print(f"dry run: nothing written; without --dry-run run {record.id} would be accepted")
    else:
        print(f"accepted run {record.id}: {len(written)} file(s) written; review and commit them")
    return 0


def _print_changes(changes: Sequence[Change]) -> None:
    for path, group in groupby(changes, key=lambda change: change.path):
        print(path)
        rows = [
            [f"  {change.engine}", change.metric, _moved(change), _percent(change), change.note] for change in group
        ]
        for line in columns(rows):
            print(line.rstrip())


def _moved(change: Change) -> str:
    new = _show(change.new, change.unit)
    return f"new: {new}" if change.old is None else f"{_show(change.old, change.unit)} -> {new}"


def _percent(change: Change) -> str:
    return "" if change.percent is None else f"{change.percent:+.2f} %"


def _show(value: float, unit: str) -> str:
    if unit == "bytes":
        return show_bytes(value)
    return {"x": f"{value:.3f}x", "seconds": f"{value:.1f} s"}.get(unit, f"{value:.4g}")
