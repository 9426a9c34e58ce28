"""``enginegate history``: questions to a history, runs in and out of it, and the search for the commit of a change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import (
    Subparsers,
    add_history,
    add_json,
    command,
    complain,
    folder,
    history_url,
    print_json,
    say,
)
from enginegate.cli.history_bisect import add_bisect
from enginegate.cli.history_questions import add_questions

if TYPE_CHECKING:
    from enginegate.storage.history.exchange import Found


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand and its own."""
    parser = command(
        subparsers,
        "history",
        "what changed over many runs, when, between which versions; and runs in and out of a history",
        "enginegate history blame int4_awq",
    )
    parser.add_argument(
        "--html",
        type=folder,
        metavar="DIR",
        help="write a site of the history into a folder, for a browser (pip install 'enginegate[html]')",
    )
    add_history(parser, below=False)
    parser.set_defaults(handler=_site)
    below = parser.add_subparsers(metavar="COMMAND")
    add_questions(below)
    add_bisect(below)
    _add_import(below)
    _add_export(below)
    _add_upgrade(below)


def _site(arguments: argparse.Namespace) -> int:
    """``history --html DIR``, the one question without a command of its own."""
    from enginegate.core.errors import ConfigError

    if arguments.html is None:
        raise ConfigError(
            "enginegate history needs a command, or --html DIR", "`enginegate history --help` lists the commands"
        )
    from enginegate.report.dashboard.history_site import site_lines, write_site
    from enginegate.storage.history.store import load
    from enginegate.verdicts.history import examine

    snapshot = load(history_url(arguments))
    examined = examine(snapshot)
    page, *data = write_site(snapshot, examined, arguments.html)
    say(f"written: {page}, and {len(data)} files beside it")
    say("\n".join(site_lines(snapshot, examined)))
    return 0


def _add_import(below: Subparsers) -> None:
    parser = command(
        below,
        "import",
        "add runs from files: run records, exports, pytest-benchmark's or asv's JSON, a benchmark_results.csv",
        "enginegate history import runs old.jsonl .benchmarks/*/*.json",
    )
    parser.add_argument("file", type=folder, nargs="+", metavar="FILE", help="files, or folders of them")
    for name, what in (
        ("machine", "the machine of a benchmark_results.csv"),
        ("commit", "its commit"),
        ("started", "when it was measured, such as 2026-11-27T09:00:00+00:00 (default: when it was written)"),
    ):
        parser.add_argument(f"--{name}", default="", metavar=name.upper(), help=what)
    add_json(parser)
    add_history(parser)
    parser.epilog = (
        f"{parser.epilog}\n\nA run that is there counts once. A file that cannot be used is named and skipped.\n"
        "exit codes: 0 all is in the history, 2 a file could not be used"
    )
    parser.set_defaults(handler=_import)


def _import(arguments: argparse.Namespace) -> int:
    from enginegate.storage.history import exchange, foreign, store

    url = history_url(arguments)
    told = foreign.Told(arguments.machine, arguments.commit, arguments.started)
    found, broken = exchange.read_all(arguments.file, told)
    added = store.add([entry for _, each in found for entry in each.entries], url)
    notes = [note for _, each in found for note in each.notes]
    if notes:
        store.annotate(url, notes)
    if arguments.json:
        print_json(
            {
                "files": [str(path) for path, _ in found],
                "broken": [error.problem for error in broken],
                "new": added.new,
                "replaced": added.replaced,
                "unchanged": added.same,
                "kept": list(added.kept),
                "notes": len(notes),
            }
        )
    else:
        _say_imported(found, added.new, added.replaced, added.same, added.kept, len(notes))
    for error in broken:
        complain(f"enginegate: skipped: {error}")
    return 2 if broken else 0


def _say_imported(
    found: list[tuple[Path, Found]], new: int, replaced: int, same: int, kept: tuple[str, ...], notes: int
) -> None:
    say(
        f"{len(found)} file{'' if len(found) == 1 else 's'}: {new} new runs, {replaced} replaced,"
        f" {same} were there already, {notes} notes"
    )
    if kept:
        first = ", ".join(kept[:3]) + (" …" if len(kept) > 3 else "")
        say(f"not taken, since the history has the whole run: {len(kept)} partial ones ({first})")


def _add_export(below: Subparsers) -> None:
    parser = command(
        below,
        "export",
        "write all runs and notes of a history to a file, JSON Lines or Parquet",
        "enginegate history export history.parquet",
    )
    parser.add_argument("file", type=folder, metavar="FILE", help="a name that ends in .jsonl or .parquet")
    add_history(parser)
    parser.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    from enginegate.storage.history import exchange, store

    entries, notes = store.entries(history_url(arguments))
    exchange.export(entries, notes, arguments.file)
    say(f"written: {arguments.file}: {len(entries)} runs, {len(notes)} notes")
    return 0


def _add_upgrade(below: Subparsers) -> None:
    parser = command(below, "upgrade", "bring a history to the schema of this version", "enginegate history upgrade")
    add_history(parser)
    parser.set_defaults(handler=_upgrade)


def _upgrade(arguments: argparse.Namespace) -> int:
    from enginegate.core.urls import without_password
    from enginegate.storage.history.store import upgrade
    from enginegate.storage.history.tables import HEAD

    url = history_url(arguments)
    upgrade(url)
    say(f"{without_password(url)} has schema {HEAD}")
    return 0
