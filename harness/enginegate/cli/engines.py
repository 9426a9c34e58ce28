"""``enginegate engines``: what the engine store holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, add_engines, add_json, columns, command, print_json, say, show_bytes, size

if TYPE_CHECKING:
    from enginegate.engines.store import EngineStore

#: Subcommands of ``engines``, each declared by one function.
Declare = Callable[[Subparsers], None]


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand and its own subcommands."""
    parser = command(subparsers, "engines", "manage the built engines", "enginegate engines ls")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for declare in ACTIONS:
        declare(actions)


def _add_ls(actions: Subparsers) -> None:
    parser = command(
        actions,
        "ls",
        "list built engines, and environments of live bases, the one used last first",
        "enginegate engines ls --json",
    )
    add_json(parser)
    parser.set_defaults(handler=list_engines)


def _add_prune(actions: Subparsers) -> None:
    parser = command(
        actions,
        "prune",
        "remove the engines and the environments of live bases used longest ago, until the rest fits",
        "enginegate engines prune --keep 20GB",
    )
    parser.add_argument(
        "--keep", type=size, required=True, metavar="SIZE", help="bytes to keep at most, e.g. 20GB; 0 for none"
    )
    add_json(parser)
    parser.set_defaults(handler=prune)


def _add_verify(actions: Subparsers) -> None:
    parser = command(
        actions,
        "verify",
        "read every stored engine and compare it with its manifest; exit 1 where one is damaged",
        "enginegate engines verify",
    )
    add_json(parser)
    parser.set_defaults(handler=verify)


def _add_build(actions: Subparsers) -> None:
    parser = command(
        actions,
        "build",
        "build engines into the store, as pytest would when it first needs them",
        "enginegate engines build --precision int8_wo,int4_awq",
    )
    add_engines(parser)
    add_json(parser)
    parser.set_defaults(handler=build)


ACTIONS: tuple[Declare, ...] = (_add_ls, _add_build, _add_prune, _add_verify)


def _store() -> EngineStore:
    from enginegate.core.cache import cache_folder
    from enginegate.engines.store import EngineStore

    return EngineStore(cache_folder())


def list_engines(arguments: argparse.Namespace) -> int:
    """Print the entries of the store."""
    from enginegate.core.cache import cache_folder
    from enginegate.engines.process.environments import environments

    store = _store()
    entries, pythons = store.ls(), environments(cache_folder())
    if arguments.json:
        print_json(
            [
                *(
                    {
                        "path": str(entry.path),
                        "last_used": entry.last_used,
                        "manifest": entry.manifest.model_dump(mode="json"),
                    }
                    for entry in entries
                ),
                *({**asdict(each), "path": str(each.path)} for each in pythons),
            ]
        )
        return 0
    if damaged := store.unlisted(entries):
        say(f"{damaged} damaged: see enginegate engines verify")
    if not entries and not pythons:
        say("no engines built yet")
        return 0
    rows = [["ENGINE", "SIZE", "BUILT IN", "LAST USED", "KEY"]]
    for entry in entries:
        manifest = entry.manifest
        used = datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
        rows.append(
            [manifest.label, show_bytes(manifest.size_bytes), f"{manifest.build_seconds:.1f} s", used, entry.key[:16]]
        )
    for each in pythons:
        used = datetime.fromtimestamp(each.last_used).strftime("%Y-%m-%d %H:%M")
        rows.append([f"environment of {each.lock}", show_bytes(each.size_bytes), "", used, each.key[:16]])
    say("\n".join(columns(rows)))
    total = sum(entry.manifest.size_bytes for entry in entries)
    say(f"{len(entries)} engine(s), {show_bytes(total)}")
    if pythons:
        say(f"{len(pythons)} environment(s), {show_bytes(sum(each.size_bytes for each in pythons))}")
    return 0


def build(arguments: argparse.Namespace) -> int:
    """Build what is not in the store yet."""
    from enginegate.config.project import find_project
    from enginegate.core.cache import cache_folder
    from enginegate.plan.selection import names, select
    from enginegate.report.progress import shown_on_stderr
    from enginegate.session.files import ModelFiles

    project = find_project()
    selection = select(
        models=names(arguments.model),
        configs=names(arguments.config),
        engines=names(arguments.engine),
        precisions=names(arguments.precision),
        folder=project.root / "configs",
        default=project.model,
    )
    files: dict[str, ModelFiles] = {}
    built = []
    with shown_on_stderr() as progress:
        for candidate in selection.candidates:
            config = candidate.config
            if config.name not in files:
                tested = {each.spec.backend for each in selection.candidates if each.config.name == config.name}
                files[config.name] = ModelFiles(config, cache_folder(), progress, tested)
            entry = files[config.name].build(candidate.spec)
            built.append({"engine": candidate.id, "path": str(entry.path), "size_bytes": entry.manifest.size_bytes})
            if not arguments.json:
                say(f"{candidate.id}  {show_bytes(entry.manifest.size_bytes)}  {entry.path}")
    if arguments.json:
        print_json(built)
    return 0


def prune(arguments: argparse.Namespace) -> int:
    """Remove what does not fit."""
    from enginegate.core.cache import cache_folder
    from enginegate.engines.process.environments import prune_environments

    store = _store()
    removed = store.prune(arguments.keep)
    left = arguments.keep - sum(entry.manifest.size_bytes for entry in store.ls())
    pythons = prune_environments(cache_folder(), max(0, left))
    if arguments.json:
        print_json([*map(asdict, removed), *({**asdict(each), "path": str(each.path)} for each in pythons)])
        return 0
    for entry in removed:
        say(f"removed {entry.label or entry.key}  {show_bytes(entry.size_bytes)}")
    for each in pythons:
        say(f"removed the environment of {each.lock}  {show_bytes(each.size_bytes)}")
    say(f"{len(removed)} engine(s) removed, {show_bytes(sum(entry.size_bytes for entry in removed))} freed")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check every byte of the store; 1 where something is damaged."""
    store = _store()
    problems = store.verify()
    if arguments.json:
        print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            say(f"damaged: {problem.label or problem.key}: {problem.reason}")
        say(
            f"{len(problems)} damaged engine(s); each is built again when it is next asked for"
            if problems
            else f"{len(store.ls())} engine(s), all as they were built"
        )
    return 1 if problems else 0
