"""``enginegate history ls | show | diff | blame | annotate``: one question, one command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import (
    Subparsers,
    add_history,
    add_json,
    columns,
    command,
    count,
    history_url,
    print_json,
    printable,
    say,
)

if TYPE_CHECKING:
    from enginegate.storage.history.entries import HistoryRun, Series, Snapshot
    from enginegate.storage.history.store import Wanted
    from enginegate.verdicts.history import Examined

_FILTERS = {
    "engine": "a part of the engine's name",
    "machine": "a part of the machine's name",
    "metric": "such as latency, speedup or cloze.accuracy",
    "workload": "such as b1-i64-o64",
    "precision": "such as int4_awq",
    "backend": "such as openvino",
}


def add_questions(below: Subparsers) -> None:
    """Declare the questions."""
    ls = command(below, "ls", "list series, with the last change of each", "enginegate history ls --alerts")
    ls.add_argument("--alerts", action="store_true", help="only series with an alert; exit 1 where there is one")
    _add_filters(ls)
    ls.set_defaults(handler=_ls)
    show = command(below, "show", "show the points and changes of one series", "enginegate history show 3f9a")
    show.add_argument("series", nargs="?", default="", metavar="SERIES", help="the beginning of a series' digest")
    show.add_argument("--last", type=count, default=30, metavar="N", help="points to show (default: 30; 0: all)")
    _add_filters(show)
    show.set_defaults(handler=_show)
    diff = command(
        below, "diff", "what two runs have otherwise: figures, versions, commit", "enginegate history diff RUN-A RUN-B"
    )
    diff.add_argument("before", metavar="RUN", help="a run's id, or its beginning")
    diff.add_argument("after", metavar="RUN", help="likewise; 'latest' is the newest")
    _add_filters(diff)
    diff.set_defaults(handler=_diff)
    blame = command(
        below,
        "blame",
        "when did an engine change, by how much, between which commits and versions, and did the reference move",
        "enginegate history blame int4_awq --machine h200",
    )
    blame.add_argument("what", nargs="?", default="", metavar="ENGINE", help="a part of the engine's name")
    blame.add_argument("--all", action="store_true", help="changes to the better, too")
    blame.add_argument("--last", type=count, default=5, metavar="N", help="changes to tell (default: 5; 0: all)")
    _add_filters(blame)
    blame.set_defaults(handler=_blame)
    annotate = command(
        below,
        "annotate",
        "say why a level changed: from that run on it is the accepted one, and no alert",
        'enginegate history annotate RUN "OpenVINO 2026.5, by intention" --engine int4_awq',
    )
    annotate.add_argument("run", metavar="RUN", help="the first run of the new level: its id, or its beginning")
    annotate.add_argument("reason", metavar="REASON", help="why")
    annotate.add_argument("--series", default="", help="the beginning of a series' digest")
    _add_filters(annotate, json=False)
    annotate.set_defaults(handler=_annotate)
    for each in (ls, show, diff, blame, annotate):
        add_history(each)


def _add_filters(parser: argparse.ArgumentParser, json: bool = True) -> None:
    for name, what in _FILTERS.items():
        parser.add_argument(f"--{name}", default="", metavar=name.upper(), help=f"only this {name}: {what}")
    if json:
        add_json(parser)


def _wanted(arguments: argparse.Namespace, series: str = "", engine: str = "") -> Wanted:
    from enginegate.storage.history.store import Wanted

    given = {name: str(getattr(arguments, name)) for name in _FILTERS}
    return Wanted(**{**given, "engine": engine or given["engine"]}, series=series)


def _asked(arguments: argparse.Namespace, wanted: Wanted) -> tuple[Snapshot, list[Examined]]:
    """The whole history, since what is an alert holds among all of its series; and those that are wanted.

    Raises RecordError where none is.
    """
    from enginegate.core.errors import RecordError
    from enginegate.storage.history.store import load
    from enginegate.verdicts.history import examine

    snapshot = load(history_url(arguments))
    found = [each for each in examine(snapshot) if _is_wanted(each.series, wanted)]
    if not found:
        asked = ", ".join(f"{name} {value!r}" for name, value in vars(wanted).items() if value) or "anything"
        raise RecordError(
            f"the history has no series of {asked}", "`enginegate history ls` lists its series; correct the name"
        )
    return snapshot, found


def _is_wanted(series: Series, wanted: Wanted) -> bool:
    key = series.key
    parts = ((key.engine, wanted.engine), (key.machine, wanted.machine))
    whole = ("metric", "workload", "precision", "backend")
    return (
        all(part.lower() in text.lower() for text, part in parts)
        and all(getattr(wanted, name) in ("", getattr(key, name)) for name in whole)
        and series.digest.startswith(wanted.series)
    )


def _ls(arguments: argparse.Namespace) -> int:
    from enginegate.report.history import series_row, table_cells

    snapshot, found = _asked(arguments, _wanted(arguments))
    alerts = [each for each in found if any(finding.alert for finding in each.findings)]
    shown = alerts if arguments.alerts else found
    if arguments.json:
        print_json([series_row(each) for each in shown])
    elif shown:
        heading = ["series", "what", "machine", "points", "last run", "last", "from anchor", "last change"]
        cells = [heading, *([printable(cell) for cell in table_cells(each, snapshot)] for each in shown)]
        say("\n".join(line.rstrip() for line in columns(cells)))
    if not arguments.json:
        say(f"{len(found)} series of {len(snapshot.runs)} runs, {len(alerts)} with an alert")
    return int(bool(alerts)) if arguments.alerts else 0


def _show(arguments: argparse.Namespace) -> int:
    from enginegate.core.errors import RecordError
    from enginegate.report.history import finding_row, group_lines, name_of, point_lines, series_row, sparkline

    snapshot, found = _asked(arguments, _wanted(arguments, series=arguments.series))
    if len(found) > 1:
        first = ", ".join(f"{each.series.digest} ({name_of(each.series)})" for each in found[:3])
        raise RecordError(f"{len(found)} series are meant: {first} …", "name one by its digest, or by more options")
    (one,) = found
    if arguments.json:
        points = [{**point._asdict(), "started": snapshot.runs[point.run].started} for point in one.series.points]
        row = {**series_row(one), "points": points, "changes": [finding_row(each) for each in one.findings]}
        print_json(row)
        return 0
    key = one.series.key
    say(f"{name_of(one.series)} on {key.machine}  (series {one.series.digest})")
    say(f"  {key.method}; model {key.model_digest[:12] or 'not known'}; settings {key.runtime_digest or 'not known'}")
    if one.values:
        say(f"  {sparkline(one.values)}")
    say("\n".join(printable(line) for line in point_lines(one, snapshot, arguments.last)))
    for finding in one.findings:
        say("\n".join(printable(line) for line in group_lines([finding])))
    return 0


def _blame(arguments: argparse.Namespace) -> int:
    from enginegate.report.history import finding_row, group_lines, groups

    _, found = _asked(arguments, _wanted(arguments, engine=arguments.what))
    findings = [each for one in found for each in one.findings if arguments.all or each.worse is not False]
    told = groups(findings)
    if arguments.json:
        print_json([finding_row(each) for group in told for each in group])
        return 0
    for group in told[: arguments.last or None]:
        say("\n".join(printable(line) for line in group_lines(group)) + "\n")
    points = sum(len(one.series.points) for one in found)
    rest = f", {arguments.last} of them told" if 0 < arguments.last < len(told) else ""
    kind = "changes" if arguments.all else "changes to the worse"
    say(f"{len(told)} {kind}{rest}, in {len(found)} series of {points} points")
    return 0


def find_run(snapshot: Snapshot, name: str) -> HistoryRun:
    """A run by its id, the beginning of that, or ``latest``. Raises RecordError."""
    from enginegate.core.errors import RecordError

    runs = list(snapshot.runs.values())
    if name == "latest" and runs:
        return runs[-1]
    if name in snapshot.runs:
        return snapshot.runs[name]
    found = [run for run in runs if run.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RecordError(
            f"{len(found)} runs begin with {name!r}: {', '.join(run.id for run in found[:3])} …", "write more of the id"
        )
    raise RecordError(f"the history has no run {name!r}", "`enginegate history show SERIES --json` lists runs")


def _diff(arguments: argparse.Namespace) -> int:
    snapshot, found = _asked(arguments, _wanted(arguments))
    before, after = find_run(snapshot, arguments.before), find_run(snapshot, arguments.after)
    rows = [row for one in found if (row := _compared(one, before.id, after.id)) is not None]
    versions = _versions(before, after)
    if arguments.json:
        print_json({"before": before.id, "after": after.id, "differences": versions, "figures": rows})
        return 0
    say(f"{before.id} ({before.started[:16]}) → {after.id} ({after.started[:16]})")
    for each in versions:
        say(printable(f"  {each['name']}: {each['before'] or 'none'} → {each['after'] or 'none'}"))
    say("\n".join(_figure_lines(rows)))
    return 0


def _compared(one: Examined, before: str, after: str) -> dict[str, Any] | None:
    """A series' figures in two runs; None where it is in neither."""
    points = {point.run: point for point in one.series.points if point.run in (before, after)}
    if not points:
        return None
    old, new = (points[run].value if run in points else None for run in (before, after))
    change = new / old - 1 if old and new is not None else None
    relative = one.spread is not None and one.series.key.unit != "score"
    return {
        "series": one.series.digest,
        "engine": one.series.key.engine,
        "workload": one.series.key.workload,
        "metric": one.series.key.metric,
        "unit": one.series.key.unit,
        "before": old,
        "after": new,
        "change": change,
        "usual_spread": one.spread if relative else None,
    }


def _figure_lines(rows: list[dict[str, Any]]) -> list[str]:
    from enginegate.report.history import number

    cells = [["what", "before", "after", "change", "usual spread"]]
    for row in rows:
        name = " ".join(filter(None, (row["engine"], row["workload"], row["metric"])))
        change = f"{100 * row['change']:+.1f} %" if row["change"] is not None else ""
        spread = f"{100 * row['usual_spread']:.1f} %" if row["usual_spread"] is not None else ""
        figures = (number(row[side], row["unit"]) for side in ("before", "after"))
        cells.append([printable(cell) for cell in (name, *figures, change, spread)])
    only = sum(row["before"] is None or row["after"] is None for row in rows)
    return [
        *(line.rstrip() for line in columns(cells)),
        f"{len(rows)} series, {only} of them in one of the two runs alone; the spread is of one run within its level",
    ]


def _versions(before: HistoryRun, after: HistoryRun) -> list[dict[str, str]]:
    from enginegate.verdicts.history import run_differences

    found = [{"name": name, "before": old, "after": new} for name, old, new in run_differences(before, after)]
    machines = (before.machine, after.machine)
    if machines[0] != machines[1]:
        found.insert(0, {"name": "machine", "before": machines[0], "after": machines[1]})
    return found


def _annotate(arguments: argparse.Namespace) -> int:
    from enginegate.core.errors import RecordError
    from enginegate.storage.history.store import annotate, load, note_now

    if not arguments.reason.strip():
        raise RecordError("a note needs a reason", "say why the level changed")
    url, wanted = history_url(arguments), _wanted(arguments, series=arguments.series)
    snapshot = load(url)
    run = find_run(snapshot, arguments.run)
    series = [
        each
        for each in snapshot.series.values()
        if _is_wanted(each, wanted) and any(point.run == run.id for point in each.points)
    ]
    if not series:
        raise RecordError(f"run {run.id} has no figure in the series that are meant", "correct the names")
    annotate(url, [note_now(each.digest, run.id, arguments.reason.strip()) for each in series])
    say(f"noted for {len(series)} series: from run {run.id} on, {arguments.reason.strip()}")
    return 0
