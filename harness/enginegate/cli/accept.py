"""``enginegate accept``: a run becomes the baseline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
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
    show_bytes,
)

if TYPE_CHECKING:
    from enginegate.core.records import RunRecord
    from enginegate.storage.accept import Change
    from enginegate.storage.audits import AuditFile


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers, "accept", "make a run the baseline, and print what moves", "enginegate accept latest --dry-run"
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, its run.json, its id, or 'latest'")
    parser.add_argument(
        "--baselines", type=folder, metavar="DIR", help="folder of baselines (default: the project's baselines/)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="accept a partial run, one with failures, or in place of a baseline that cannot be continued",
    )
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "--replace",
        action="store_true",
        help="where an engine's level moved, on purpose: this run takes the place of its stored sessions",
    )
    level.add_argument(
        "--append",
        action="store_true",
        help="where an engine's level moved though it did not change: keep the stored sessions beside this one",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would move, write nothing")
    add_json(parser)
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what moves, then write it."""
    from enginegate.config.project import find_project
    from enginegate.session.shards import missing_shards
    from enginegate.storage.accept import apply_accept, plan_accept
    from enginegate.storage.audits import load_run_audit
    from enginegate.storage.levels import Level
    from enginegate.storage.runs import find_record, load_record

    path = find_record(arguments.run, runs_folder(arguments))
    record = load_record(path)
    root = arguments.baselines or find_project().baselines
    audits = load_run_audit(path if path.is_dir() else path.parent)
    if audits is not None and not record.arenas and not record.memory and not record.quality:
        return _accept_audit(arguments, record, audits, root)
    level = Level.REPLACE if arguments.replace else Level.APPEND if arguments.append else Level.ASK
    changes = plan_accept(record, root, level)
    written = apply_accept(record, root, force=arguments.force, level=level, dry_run=arguments.dry_run)
    if arguments.json:
        fields = ("engine", "workload", "metric", "unit", "old", "new", "percent", "note")
        rows = [{"path": str(change.path)} | {name: getattr(change, name) for name in fields} for change in changes]
        print_json({"run": record.id, "changes": rows, "written": [str(path) for path in written]})
        return 0
    _print_changes(changes)
    if missing_shards(record):
        say(f"this is {record.shards} of its session: engines of the other shards keep what was accepted")
    if arguments.dry_run:
        say(f"dry run: nothing written; without --dry-run run {record.id} would be accepted")
    else:
        say(f"accepted run {record.id}: {len(written)} file(s) written; review and commit them")
    return 0


def _accept_audit(arguments: argparse.Namespace, record: RunRecord, audits: AuditFile, root: Path) -> int:
    """A run of ``pytest --eg-gate-audit`` measured nothing but the gates: its audits join those of its machine."""
    from enginegate.storage.accept import check_acceptable
    from enginegate.verdicts.audit import accept_audit

    check_acceptable(record, arguments.force)
    written = [] if arguments.dry_run else [str(accept_audit(audits, root))]
    if arguments.json:
        print_json({"run": record.id, "audits": sorted(audits.gates), "written": written})
        return 0
    for gate in sorted(audits.gates):
        say(f"audit of {gate}")
    say(f"accepted run {record.id}: {len(written)} file(s) written" if written else "dry run: nothing written")
    return 0


def _print_changes(changes: Sequence[Change]) -> None:
    for path, group in groupby(changes, key=lambda change: change.path):
        say(path)
        rows = [
            [f"  {change.engine}", change.metric, _moved(change), _percent(change), change.note] for change in group
        ]
        for line in columns(rows):
            say(line.rstrip())


def _moved(change: Change) -> str:
    new = _show(change.new, change.unit)
    return f"new: {new}" if change.old is None else f"{_show(change.old, change.unit)} -> {new}"


def _percent(change: Change) -> str:
    return "" if change.percent is None else f"{change.percent:+.2f} %"


def _show(value: float, unit: str) -> str:
    if unit == "bytes":
        return show_bytes(value)
    return {"x": f"{value:.3f}x", "seconds": f"{value:.1f} s"}.get(unit, f"{value:.4g}")
