"""``enginegate power``: what the speed gate could see, with each engine of a run as the reference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import Subparsers, add_json, add_runs, columns, command, fraction, print_json

if TYPE_CHECKING:
    from harness.audit import PairPower
    from harness.records import RunRecord

_METRICS = ("speedup", "ttft", "itl")


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "power",
        "what the speed gate could see on a run's machine, with each engine as the reference",
        "enginegate power latest --metric itl --margin 1% --tolerated 3%",
    )
    parser.add_argument("run", metavar="RUN", help="a folder, a run.json, an id, or 'latest'")
    parser.add_argument("--metric", default="speedup", choices=_METRICS, help="whose times (default %(default)s)")
    parser.add_argument("--margin", type=fraction, metavar="SHARE", help="as gates.speed.margin (default: the run's)")
    parser.add_argument(
        "--tolerated", type=fraction, metavar="SHARE", help="as gates.speed.tolerated (default: the run's)"
    )
    add_json(parser)
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Resample the run's blocks through the gate, and print one table for each workload."""
    from harness.records_io import find_record, load_record

    record = load_record(find_record(arguments.run, Path(arguments.runs)))
    powers = list(_powers(record, arguments))
    if arguments.json:
        print_json([_row(workload, pair) for workload, pairs in powers for pair in pairs])
        return 0
    for workload, pairs in powers:
        print("\n".join(_lines(workload, pairs, arguments.metric, record.model.name)))
    if not powers:
        print("the run timed nothing")
    return 0


def _powers(record: RunRecord, arguments: argparse.Namespace) -> Iterator[tuple[str, list[PairPower]]]:
    from harness.audit import pair_powers
    from harness.errors import ConfigError
    from harness.gates.sequential import SpeedPolicy

    stored = record.config.get("gates", {}).get("speed", {})
    given = {"margin": arguments.margin, "tolerated": arguments.tolerated}
    shares = {name: stored[name] for name in ("margin", "tolerated", "beta") if name in stored}
    shares |= {name: share for name, share in given.items() if share is not None}
    try:
        policy = SpeedPolicy(**shares)
    except ValueError as error:
        raise ConfigError(str(error), "give --margin and --tolerated") from error
    for arena in record.arenas:
        yield arena.workload, pair_powers(arena, arguments.metric, policy)


def _lines(workload: str, pairs: list[PairPower], metric: str, model: str) -> Iterator[str]:
    policy = pairs[0].policy
    yield (
        f"{workload} {metric}, {pairs[0].blocks} blocks: the smallest slowdown that a gate with margin "
        f"{policy.margin:.1%}, tolerated {policy.tolerated:.1%} fails with 90 % power"
    )
    names = list(dict.fromkeys(pair.reference for pair in pairs))
    cells = {(pair.engine, pair.reference): pair.cell for pair in pairs}
    short = [name.removeprefix(f"{model}-") for name in names]
    rows = [["over", *short]]
    rows += [
        [label, *(cells.get((name, over), "") for over in names)] for name, label in zip(names, short, strict=True)
    ]
    yield from (f"  {line.rstrip()}" for line in columns(rows))


def _row(workload: str, pair: PairPower) -> dict[str, Any]:
    return {
        "workload": workload,
        "engine": pair.engine,
        "reference": pair.reference,
        "blocks": pair.blocks,
        "noise": pair.result.noise,
        "smallest_seen": pair.smallest_seen,
        "false_alarms": pair.result.false_alarms.value,
        "power": {f"{power.slowdown:g}": power.fails.value for power in pair.result.powers},
    }
