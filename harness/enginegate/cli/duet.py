"""``enginegate duet``: engines raced against a live base, without pytest; the verdicts are the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import (
    Subparsers,
    add_engines,
    add_json,
    add_runs,
    command,
    complain,
    fraction,
    print_json,
    say,
    say_printed,
)

#: What a race times.
SPEED_METRICS = ("speedup", "ttft", "itl")

if TYPE_CHECKING:
    from enginegate.core.progress import Progress
    from enginegate.core.records import VerdictEntry
    from enginegate.plan.judging import Judging
    from enginegate.session.gate_session import GateSession
    from enginegate.storage.audits import AnyAudit


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "duet",
        "race engines against a live base, launched anew again and again",
        "enginegate duet --base python:/opt/old/bin/python --precision int8_wo",
    )
    parser.add_argument(
        "--base",
        required=True,
        metavar="WHAT",
        help="git:REF, lock:FILE, python:PATH, exec:COMMAND, config:FILE or accepted",
    )
    parser.add_argument(
        "--head",
        default="",
        metavar="WHAT",
        help="what is raced against it, in the same words; without: this checkout in this Python",
    )
    add_engines(parser)
    parser.add_argument("--batch-size", default="", help="batch sizes of the timed work, comma separated")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="for all rounds together")
    parser.add_argument(
        "--metric", default="", metavar="NAMES", help="of speedup, ttft and itl, comma separated (default: all)"
    )
    for name, what in (
        ("margin", "a slowdown that is no failure"),
        ("tolerated", "a slowdown that must not pass"),
        ("alpha", "false FAILs, of all gates together"),
        ("beta", "false PASSes of each gate"),
    ):
        parser.add_argument(
            f"--{name}", type=fraction, metavar="SHARE", help=f"{what}, such as 2%% (default: the configuration's)"
        )
    parser.add_argument(
        "--looks", default="", metavar="COUNTS", help="launches after which it is judged (default: the configuration's)"
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="judge nothing: the base is a copy of this environment, and tells how launches spread and what is seen",
    )
    parser.add_argument("--strict", action="store_true", help="exit 3 where a verdict is inconclusive")
    add_json(parser)
    add_runs(parser)
    parser.epilog = (
        f"{parser.epilog}\n\nexit codes: 0 nothing regressed, 1 a regression, 2 bad input or a race that broke off,"
        "\n            3 with --strict: something inconclusive"
    )
    parser.set_defaults(handler=run)


def race(arguments: argparse.Namespace) -> tuple[GateSession, list[str], list[AnyAudit]]:
    """Race, judge and write the record; gives the session, what broke off, and the audits."""
    from enginegate.machine.termination import as_ever, finish_undisturbed, interrupt_when_terminated
    from enginegate.report.progress import shown_on_stderr

    taken = interrupt_when_terminated()
    try:
        with shown_on_stderr() as progress:
            session = _session(arguments, progress)
            try:
                broken, audits = _raced(session, audit=arguments.audit)
            except KeyboardInterrupt:
                session.ended_early = True
                raise
            finally:
                progress.settle()
                if taken:
                    finish_undisturbed()
                session.close()
                session.finish(complete=not session.errors)
                if session.ended_early:
                    for record, path in session.saved:
                        complain(f"enginegate: the race is not finished; run {record.id}: {path.parent}")
    finally:
        if taken:
            as_ever()
    return session, broken, audits


def run(arguments: argparse.Namespace) -> int:
    """Race, judge, write the record, print."""
    session, broken, audits = race(arguments)
    if arguments.audit:
        return _tell_audits(arguments, session, audits, broken)
    verdicts = [entry for record, _ in session.saved for entry in record.verdicts]
    if arguments.json:
        print_json(_as_json(session, verdicts, broken))
    else:
        from enginegate.report.terminal import print_screen

        for record, _ in session.saved:
            if record.verdicts:
                say_printed(partial(print_screen, record), 80)
        _say_end(session, broken)
    statuses = {entry.status for entry in verdicts}
    if "FAIL" in statuses:
        return 1
    if broken or not verdicts:
        return 2
    return 3 if arguments.strict and statuses != {"PASS"} else 0


def _raced(session: GateSession, *, audit: bool) -> tuple[list[str], list[AnyAudit]]:
    """Race every engine, and judge or audit its gates; gives what broke off, and the audits."""
    from enginegate.core.errors import EngineGateError

    broken: list[str] = []
    audits: list[AnyAudit] = []
    for candidate in session.selection.candidates:
        try:
            if audit:
                audits += _audited(session, candidate)
            else:
                _judge(session, candidate)
        except EngineGateError as error:
            broken.append(f"{candidate.id}: {error.problem}")
            session.record_error(candidate.id, error.problem)
    return broken, audits


def _session(arguments: argparse.Namespace, progress: Progress) -> GateSession:
    """A session as pytest would have it, with a test for every engine, workload and speed metric."""
    from enginegate.config.project import find_project
    from enginegate.core.errors import ConfigError
    from enginegate.measure.ratios import timed_metrics
    from enginegate.plan.against import read_against
    from enginegate.plan.options import Options
    from enginegate.plan.plan import PlannedTest
    from enginegate.plan.selection import names
    from enginegate.session.gate_session import GateSession

    sizes = names(arguments.batch_size)
    if any(not size.isdecimal() or int(size) == 0 for size in sizes):
        raise ConfigError(f"--batch-size {arguments.batch_size!r} is not a list of whole numbers", "for example 1,8")
    if arguments.time_budget is not None and not 0 < arguments.time_budget < float("inf"):
        raise ConfigError(f"--time-budget {arguments.time_budget} is no number of seconds", "for example 300")
    project = find_project()
    options = Options(
        root=project.root,
        models=names(arguments.model),
        default_model=project.model,
        configs=tuple(Path(name) for name in names(arguments.config)),
        engines=names(arguments.engine),
        precisions=names(arguments.precision),
        batch_sizes=tuple(map(int, sizes)),
        baselines=project.baselines,
        require_baseline=True,
        strict=arguments.strict,
        time_budget=arguments.time_budget,
        runs=arguments.runs or project.runs,
        history=None if arguments.head else "",  # a run of another checkout is none of this one
        audit=arguments.audit,
        require_gpu=False,
        against=read_against(arguments.base, "--base"),
        head=read_against(arguments.head, "--head"),
        judging=_judging(arguments),
    )
    metrics = names(arguments.metric) or SPEED_METRICS
    unknown = [name for name in metrics if name not in SPEED_METRICS]
    if unknown:
        raise ConfigError(f"--metric {unknown[0]!r} is none", f"write one of {', '.join(SPEED_METRICS)}")
    session = GateSession(options, tuple(sys.argv[1:]), progress)
    session.make_plan(
        [
            PlannedTest(f"duet[{candidate.id}-b{size}-{metric}]", candidate, workload, metric, 1)
            for candidate in session.selection.candidates
            for size in session.selection.batch_sizes[candidate.config.name]
            for workload in [candidate.config.workload(size)]
            for metric in timed_metrics(workload.output_len)
            if metric in metrics
        ]
    )
    return session


def _judging(arguments: argparse.Namespace) -> Judging:
    """What the options say of the gate. Raises ConfigError."""
    from enginegate.core.errors import ConfigError
    from enginegate.plan.judging import Judging
    from enginegate.plan.selection import names

    looks = names(arguments.looks)
    if any(not look.isdecimal() for look in looks):
        raise ConfigError(f"--looks {arguments.looks!r} is not a list of whole numbers", "for example 4,6,8")
    return Judging(
        arguments.margin, arguments.tolerated, arguments.alpha, arguments.beta, tuple(map(int, looks)) or None
    )


def _judge(session: GateSession, candidate: Any) -> None:
    """Race one engine and conclude each of its gates; a new one, which is said, has none.

    Raises EngineGateError where the race broke off.
    """
    from enginegate.verdicts.judge import judge

    model = candidate.config.name
    if session.race_against_base(candidate) is None:
        return
    gates = session.gates_of(candidate)
    for test in session.plan.tests:
        if test.candidate.id == candidate.id and test.workload is not None and test.metric is not None:
            inputs = gates.with_remarks(gates.speed(test.workload, test.metric), test.workload)
            verdict = judge(inputs, session.record(model, "partial"))
            session.conclude(model, test.test, test.workload.id, verdict, inputs)


def _as_json(session: GateSession, verdicts: Sequence[VerdictEntry], broken: Sequence[str]) -> dict[str, Any]:
    """What ``--json`` prints. ``head`` is empty for this checkout in this Python."""
    options = session.options
    sides = {"versions", "python", "key"}
    return {
        "base": str(options.against),
        "head": str(options.head or ""),
        "races": [
            {
                "engine": race.head.engine,
                "head": race.head.model_dump(include=sides),
                "base": race.base.model_dump(include=sides),
                "launches": len(race.launches),
                "stopped": race.stopped,
            }
            for record, _ in session.saved
            for race in record.races
        ],
        "verdicts": [entry.model_dump(exclude={"inputs"}) for entry in verdicts],
        "warnings": session.warnings,
        "errors": list(broken),
    }


def _audited(session: GateSession, candidate: Any) -> list[AnyAudit]:
    """Race one engine against its copy, and audit each of its gates."""
    sizes = session.selection.batch_sizes[candidate.config.name]
    return [gate for size in sizes for gate in session.audit(candidate, size)]


def _tell_audits(
    arguments: argparse.Namespace, session: GateSession, audits: Sequence[AnyAudit], broken: Sequence[str]
) -> int:
    from enginegate.storage.audits import AuditedLaunches
    from enginegate.verdicts.audit import CHANCE, shortcoming
    from enginegate.verdicts.launch_audit import report

    found = [line for gate in audits if (line := shortcoming(gate, CHANCE / len(audits))) is not None]
    if arguments.json:
        rows = [gate.model_dump(mode="json") for gate in audits]
        print_json({"audits": rows, "shortcomings": found, "errors": list(broken)})
    else:
        for gate in audits:
            if isinstance(gate, AuditedLaunches):
                say("\n".join(report(gate)))
        _say_end(session, [*found, *broken])
    return 2 if broken else int(bool(found))


def _say_end(session: GateSession, problems: Sequence[str]) -> None:
    for line in dict.fromkeys([*session.warnings, *problems]):
        say(f"warning: {line}")
    for record, path in session.saved:
        say(f"run {record.id}: {path.parent}")
