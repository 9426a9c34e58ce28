"""``enginegate merge``: the shards of one session, each measured by a pytest of its own, become one record."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from enginegate.cli.common import (
    Subparsers,
    add_json,
    add_runs,
    command,
    complain,
    print_json,
    runs_folder,
    say,
    say_printed,
)

if TYPE_CHECKING:
    from enginegate.core.records import RunRecord


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "merge",
        "join the shards of one session (pytest --shard I/N) into one record, with its reports",
        "enginegate merge runs/RUN-OF-SHARD-1 runs/RUN-OF-SHARD-2",
    )
    parser.add_argument("run", metavar="RUN", nargs="+", help="runs of the shards: each a folder, a run.json, or an id")
    add_json(parser)
    add_runs(parser)
    parser.epilog = (
        f"{parser.epilog}\n\nexit codes: 0 all passed, 1 a verdict that fails its test, 2 bad input, or runs that are"
        "\n            no shards of one session, 3 a shard is missing or did not come to its end"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Merge, write the record and its reports, print."""
    from enginegate.session.recording import run_id, write_reports
    from enginegate.session.shards import merge_shards, missing_models
    from enginegate.storage.runs import find_record, load_record, record_file, save_record
    from enginegate.storage.texts import load_texts, with_texts

    runs = runs_folder(arguments)
    paths = [record_file(find_record(name, runs)) for name in arguments.run]
    records = merge_shards([with_texts(load_record(path), load_texts(path.parent)) for path in paths], run_id())
    saved = [(record, save_record(record, runs)) for record in records]
    for record, path in saved:
        write_reports(record, path)
    gone = missing_models(records)
    if arguments.json:
        print_json({"runs": [_row(record, str(path.parent)) for record, path in saved], "missing_models": gone})
    else:
        from enginegate.report.terminal import print_screen

        for record, path in saved:
            for line in record.warnings:
                say(f"warning: {line}")
            say_printed(partial(print_screen, record), 80)
            say(f"{record.status} run {record.id}, {record.shards}: {path.parent}")
    for model in gone:
        complain(f"enginegate: no run of {model} was named, which the session tests")
    if any(_is_refused(record) for record in records):
        return 1
    return 3 if gone or any(record.status == "partial" for record in records) else 0


def _is_refused(record: RunRecord) -> bool:
    """Whether a verdict does not let its test pass, or a speed PASS is withdrawn."""
    return not all(verdict.accepted for verdict in record.verdicts) or any(
        entry.status == "FAIL" for entry in record.joint
    )


def _row(record: RunRecord, folder: str) -> dict[str, object]:
    from enginegate.session.shards import missing_shards

    assert record.shards is not None
    return {
        "run": record.id,
        "model": record.model.name,
        "folder": folder,
        "status": record.status,
        "shards": [shard.model_dump(exclude={"quality"}) for shard in record.shards.held],
        "missing": missing_shards(record),
        "machines": record.machines,
        "verdicts": [verdict.model_dump(exclude={"inputs"}) for verdict in record.verdicts],
        "joint": [entry.model_dump() for entry in record.joint],
        "warnings": record.warnings,
    }
