"""``enginegate power``: what the speed gate could see, with each engine of a run as the reference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import (
    Subparsers,
    add_json,
    add_runs,
    columns,
    command,
    count,
    fraction,
    print_json,
    runs_folder,
    say,
)

if TYPE_CHECKING:
    from enginegate.core.records import ArenaEntry
    from enginegate.gates.sequential import SpeedPolicy
    from enginegate.verdicts.power import PairPower, RacePower

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
    parser.add_argument(
        "--alpha",
        type=fraction,
        metavar="SHARE",
        help="false FAILs of one gate (default: the run's budget, as it was shared)",
    )
    parser.add_argument(
        "--sessions",
        type=count,
        default=0,
        metavar="N",
        help="stored sessions that would judge (default: none, a ratio known exactly)",
    )
    add_json(parser)
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Resample the run's blocks through the gate, and print one table for each workload."""
    from enginegate.storage.runs import find_record, load_record
    from enginegate.verdicts.power import pair_powers, race_powers, run_policy

    record = load_record(find_record(arguments.run, runs_folder(arguments)))
    policy = run_policy(
        record, arguments.metric, margin=arguments.margin, tolerated=arguments.tolerated, alpha=arguments.alpha
    )
    rows: list[dict[str, Any]] = []
    for arena in record.arenas:
        pairs = pair_powers(arena, arguments.metric, policy, sessions=arguments.sessions)
        rows += [_row(arena.workload, pair) for pair in pairs]
        if not arguments.json:
            say("\n".join(_lines(arena, pairs, arguments.metric, policy, record.model.name)))
    for workload in dict.fromkeys(name for race in record.races for each in race.launches for name in each.blocks):
        races = race_powers(
            record,
            workload,
            arguments.metric,
            margin=arguments.margin,
            tolerated=arguments.tolerated,
            alpha=arguments.alpha,
        )
        rows += [{"workload": workload, **asdict(race)} for race in races]
        if races and not arguments.json:
            say("\n".join(_race_lines(workload, arguments.metric, races)))
    if arguments.json:
        print_json(rows)
    elif not record.arenas and not record.races:
        say("the run timed nothing")
    return 0


def _lines(arena: ArenaEntry, pairs: list[PairPower], metric: str, policy: SpeedPolicy, model: str) -> Iterator[str]:
    from enginegate.gates.audit import FEWEST_BLOCKS, SEEN, judged_against

    blocks = len(arena.blocks)
    if not pairs:
        few = f"at least {FEWEST_BLOCKS} are needed" if blocks < FEWEST_BLOCKS else "one engine alone has no ratio"
        yield f"{arena.workload}: {blocks} blocks of {len(arena.contestants)} engine(s); {few}"
        return
    looks = ", ".join(map(str, policy.looks))
    yield (
        f"{arena.workload} {metric}, {blocks} blocks: the smallest slowdown that a gate fails with {SEEN:.0%} power "
        f"(margin {policy.margin:.1%}, tolerated {policy.tolerated:.1%}, alpha {policy.alpha:.2g}, looks at {looks}), "
        f"against {judged_against(pairs[0].result.baseline_sessions)}"
    )
    cells = {(pair.engine, pair.reference): _cell(pair) for pair in pairs}
    short = [name.removeprefix(f"{model}-") for name in arena.contestants]
    rows = [["over", *short]]
    for name, label in zip(arena.contestants, short, strict=True):
        rows.append([label, *(cells.get((name, over), "") for over in arena.contestants)])
    yield from (f"  {line.rstrip()}" for line in columns(rows))
    yield from (f"  {warning}" for warning in dict.fromkeys(_warnings(pairs)))


def _race_lines(workload: str, metric: str, races: list[RacePower]) -> Iterator[str]:
    yield f"{workload} {metric} against the live base, launches resampled: share of races that FAIL, by true slowdown"
    slowdowns = [power.slowdown for power in races[0].powers]
    rows = [["engine", "launches", "spread", *(f"{slowdown:.0%}" for slowdown in slowdowns)]]
    for race in races:
        shares = [f"{power.fails:.0%}" for power in race.powers]
        rows.append([race.engine, str(race.launches), f"{race.spread:.1%}", *shares])
    yield from (f"  {line.rstrip()}" for line in columns(rows))


def _cell(pair: PairPower) -> str:
    from enginegate.verdicts.power import SLOWDOWNS

    return f"> {SLOWDOWNS[-1]:.0%}" if pair.smallest_seen is None else f"{pair.smallest_seen:.0%}"


def _warnings(pairs: list[PairPower]) -> Iterator[str]:
    for pair in pairs:
        yield from pair.result.warnings


def _row(workload: str, pair: PairPower) -> dict[str, Any]:
    return {
        "workload": workload,
        "engine": pair.engine,
        "reference": pair.reference,
        "blocks": pair.result.blocks,
        "sessions": pair.result.baseline_sessions,
        "noise": pair.result.noise,
        "smallest_seen": pair.smallest_seen,
        "false_alarms": pair.result.false_alarms.value,
        "power": {f"{power.slowdown:g}": power.fails.value for power in pair.result.powers},
        "warnings": list(pair.result.warnings),
    }
