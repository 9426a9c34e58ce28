"""The site of a history: one page with every series, and beside it a file with the points of each.

The page holds what lists and sorts; the points of a series are loaded when it is looked at, so a history of many
thousand runs opens as quickly as a small one. A browser may open the site from a disk: nothing is fetched, what lies
beside the page is loaded as scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from enginegate.core.errors import RecordError, edge
from enginegate.core.files import round_floats, write_atomically
from enginegate.gates.change_points import ANCHOR
from enginegate.report.dashboard import history_charts
from enginegate.report.dashboard.markup import Html, Line, join, number, section, table, tag
from enginegate.report.dashboard.shell import filters, json_script, page
from enginegate.report.history import day, group_lines, groups, name_of, word
from enginegate.report.history import number as figure_text
from enginegate.storage.history.entries import HistoryRun, Point, Snapshot
from enginegate.verdicts.history import Examined, Finding, differences, show

PAGE, DATA = "index.html", "data"
#: By which a page of this suite is known, so that no other is written over.
_MARK = "<!-- enginegate history -->"
#: Figures of a small line beside a series, and its box.
_SPARKS, _WIDE, _HIGH = 60, 144, 26
#: How many versions' changes a page lists for one series.
_MOST_CHANGES = 200
_OUR_DATA = re.compile(r"(runs|[0-9a-f]{16})\.js")


def write_site(snapshot: Snapshot, examined: Sequence[Examined], folder: Path) -> list[Path]:
    """Write the page and its data into a folder; data of series that are no more go. The paths are returned.

    Raises RecordError where the folder holds another page, or cannot be written.
    """
    target, data = folder / PAGE, folder / DATA
    places = {run: place for place, run in enumerate(snapshot.runs)}
    written = {data / "runs.js": _script("runs", _runs(snapshot.runs.values()))}
    for each in examined:
        values = _series(each, snapshot.runs, places)
        written[data / f"{each.series.digest}.js"] = _script("series", each.series.digest, values)
    made = f"{_page(snapshot, examined).rstrip()}\n{_MARK}\n"
    hint = "name another folder with --html DIR"
    with edge(RecordError, f"the site cannot be written to {folder}", hint):
        if target.exists() and not target.read_text(encoding="utf-8", errors="replace").rstrip().endswith(_MARK):
            raise RecordError(f"{target} is no page of a history, and would be overwritten", hint)
        for path, text in written.items():
            write_atomically(path, text)
        write_atomically(target, made)
        for path in data.glob("*.js"):
            if path not in written and _OUR_DATA.fullmatch(path.name):
                path.unlink()
    return [target, *written]


def _script(name: str, *values: object) -> str:
    """A call of the page's own function, which takes what is in this file."""
    given = ",".join(json.dumps(round_floats(value), separators=(",", ":"), allow_nan=False) for value in values)
    return f"enginegateHistory.{name}({given});\n"


def _runs(runs: Iterable[HistoryRun]) -> dict[str, Any]:
    found = list(runs)
    return {
        "id": [run.id for run in found],
        "started": [run.started for run in found],
        "commit": [run.commit[:12] for run in found],
        "status": ["" if run.status == "complete" else run.status for run in found],
    }


def _series(one: Examined, runs: Mapping[str, HistoryRun], places: Mapping[str, int]) -> dict[str, Any]:
    points = one.series.points
    verdicts = sorted({point.verdict for point in points})
    return {
        "run": [places[point.run] for point in points],
        "value": [point.value for point in points],
        "low": [point.low for point in points],
        "high": [point.high for point in points],
        "verdict": [verdicts.index(point.verdict) for point in points],
        "verdicts": verdicts,
        "levels": _levels(one),
        "anchor": _anchor(one),
        "changes": [_change(finding) for finding in one.findings],
        "versions": _versions(points, runs),
    }


def _levels(one: Examined) -> list[dict[str, float]]:
    """The level between each two changes: first and last point, and the median of what lies between."""
    ends = sorted({finding.index for finding in one.findings if finding.kind != "drift"})
    found = []
    for first, end in zip([0, *ends], [*ends, len(one.series.points)], strict=True):
        inside = [value for place, value in zip(one.places, one.values, strict=True) if first <= place < end]
        if inside:
            found.append({"first": first, "last": end - 1, "value": median(inside)})
    return found


def _anchor(one: Examined) -> dict[str, float] | None:
    """The accepted level: where it begins, and the median of its first figures; None without any."""
    inside = one.values[one.anchor : one.anchor + ANCHOR]
    return {"first": one.places[one.anchor], "value": median(inside)} if inside else None


def _change(finding: Finding) -> dict[str, Any]:
    return {
        "index": finding.index,
        "kind": finding.kind,
        "word": "known" if finding.reason else word(finding),
        "alert": finding.alert,
        "label": show(finding.shift),
        "lines": list(group_lines([finding])),
    }


def _versions(points: Sequence[Point], runs: Mapping[str, HistoryRun]) -> list[dict[str, Any]]:
    """Where versions changed from one point to the next: the last of them. A commit alone is none."""
    found: list[dict[str, Any]] = []
    for place in range(1, len(points)):
        before, after = points[place - 1], points[place]
        first, second = runs[before.run], runs[after.run]
        if (
            before.version == after.version
            and first.environment == second.environment
            and first.enginegate == second.enginegate
        ):
            continue
        changed = [each for each in differences(runs, before, after) if each[0] not in ("commit", "build")]
        if changed:
            found.append({"index": place, "changed": changed})
    return found[-_MOST_CHANGES:]


def _state(one: Examined) -> tuple[str, str]:
    """What a series is called in the list, and the class of its badge."""
    if any(finding.alert for finding in one.findings):
        return "ALERT", "fail"
    if not one.values:
        return "no figures", "none"
    if not one.findings:
        return "steady", "pass"
    return f"{'known' if one.findings[-1].reason else word(one.findings[-1])} before", "open"


_ORDER = {"fail": 0, "open": 1, "pass": 2, "none": 3}
_SIGNS = {"fail": "✕", "open": "≠", "none": "–", "pass": "✓"}


def _place(one: Examined) -> tuple[int, bool, bool, str, str]:
    """Alerts first, then changes; among equals what no machine explains, and longer series than a single point."""
    by_machine = all(finding.suspect == "machine" for finding in one.findings)
    return _ORDER[_state(one)[1]], by_machine, len(one.values) < 2, name_of(one.series), one.series.key.machine


def _page(snapshot: Snapshot, examined: Sequence[Examined]) -> str:
    ordered = sorted(examined, key=_place)
    alerts = [finding for one in ordered for finding in one.findings if finding.alert]
    machines = {one.series.key.machine for one in ordered}
    runs = list(snapshot.runs.values())
    when = f"{day(runs[0])} to {day(runs[-1])}" if runs else "empty"
    told = groups(alerts)
    title = f"{len(told)} alert{'' if len(told) == 1 else 's'}" if told else "no alerts"
    tiles = [
        ("Alerts", str(len(told)), "changes to the worse that hold among all series"),
        ("Series", number(float(len(ordered)), 0), "one thing measured in one way on one machine"),
        ("Runs", number(float(len(runs)), 0), when),
        ("Machines", str(len(machines)), "never on one line together"),
    ]
    header = join(
        [
            tag("p", f"History, {when}", class_="eyebrow"),
            tag("h1", f"History of {number(float(len(runs)), 0)} runs: {title}"),
            tag("ul", *(tag("li", tag("b", value), name, tag("small", f" · {what}")) for name, value, what in tiles),
                class_="tiles"),
        ]
    )  # fmt: skip
    parts = [("series", "Series", _list(ordered, snapshot.runs))]
    if told:
        parts.insert(0, ("alerts", "Alerts", _alerts(told)))
    body = [_filters(ordered), *(content for _, _, content in parts[:-1]), _detail(), parts[-1][2]]
    charts = {"full": history_charts.series(binned=False), "binned": history_charts.series(binned=True)}
    return page(
        f"enginegate history: {title}",
        header,
        [*((key, name) for key, name, _ in parts[:-1]), ("detail", "Chart"), ("series", "Series")],
        body,
        (),
        scripts=("page.js", "history.js"),
        more=json_script("history-charts", charts),
        beside=True,
    )


def _alerts(told: Sequence[Sequence[Finding]]) -> Html:
    parts = []
    for group in told:
        first, *rest = group_lines(group)
        series = group[0].series
        link = tag("a", first.removeprefix("ALERT").strip(), href=f"#series={series.digest}")
        parts.append(tag("article", tag("h3", _sign("ALERT", "fail"), " ", link),
                         tag("pre", "\n".join(rest), class_="mono")))  # fmt: skip
    return section(
        "alerts",
        "Alerts",
        "New changes to the worse and drifts that hold among all series at once; the newest first.",
        *parts,
    )


def _sign(words: str, kind: str) -> Html:
    return tag("span", tag("span", _SIGNS[kind], aria_hidden="true"), f" {words}", class_=f"badge {kind}")


def _detail() -> Html:
    return section(
        "detail",
        "One series",
        "Choose a series in the list. Lines are levels between changes; the dashed one is the accepted level.",
        tag("div", id="detail-body", aria_live="polite"),
    )


def _filters(ordered: Sequence[Examined]) -> Html:
    values = {
        name: sorted({str(getattr(one.series.key, name)) for one in ordered} - {""})
        for name in ("machine", "backend", "precision", "metric", "workload")
    }
    states = list(dict.fromkeys(_state(one)[0] for one in ordered))
    return filters({**values, "state": states}, "Find a series")


def _list(ordered: Sequence[Examined], runs: Mapping[str, HistoryRun]) -> Html:
    columns = [
        "Series",
        "Workload",
        "Metric",
        "State",
        "Last value #",
        "Trend",
        "From the accepted level",
        "Last change",
    ]
    columns += ["Points #", "Last run"]
    return section(
        "series",
        "Every series",
        "A series is one thing, measured in one way on one machine. Machines, models and settings are never mixed.",
        table(f"{len(ordered)} series", columns, [_line(one, runs) for one in ordered], key="all-series"),
    )


def _line(one: Examined, runs: Mapping[str, HistoryRun]) -> Line:
    key, digest = one.series.key, one.series.digest
    last = one.findings[-1] if one.findings else None
    state, kind = _state(one)
    change = f"{word(last)} {show(last.shift)}, {day(last.after)[:10]}" if last is not None else ""
    point = one.series.points[-1]
    return Line(
        [
            join([tag("a", key.engine, href=f"#series={digest}"), tag("small", key.machine, class_="below")]),
            key.workload,
            key.metric,
            _sign(state, kind),
            figure_text(one.values[-1] if one.values else None, key.unit),
            _spark(one),
            show(one.from_anchor) if one.from_anchor is not None else "",
            change,
            str(len(one.series.points)),
            day(runs[point.run])[:10],
        ],
        {
            "machine": key.machine,
            "backend": key.backend,
            "precision": key.precision,
            "metric": key.metric,
            "workload": key.workload,
            "state": state,
            "unit": key.unit,
        },
        digest,
    )


def _spark(one: Examined) -> Html:
    """The whole series as a small line: medians of as many points as fit."""
    values = one.values
    if len(values) < 2:
        return Html("")
    step = -(-len(values) // _SPARKS)
    shown = [median(values[place : place + step]) for place in range(0, len(values), step)]
    low, high = min(shown), max(shown)
    span = high - low or 1.0
    across = _WIDE / max(1, len(shown) - 1)
    path = " ".join(
        f"{across * place:.1f},{_HIGH - 2 - (_HIGH - 4) * (value - low) / span:.1f}"
        for place, value in enumerate(shown)
    )
    return tag(
        "svg",
        tag("path", d=f"M{path}"),
        class_="spark",
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def site_lines(snapshot: Snapshot, examined: Sequence[Examined]) -> Iterator[str]:
    """What was written, in a sentence."""
    alerts = sum(any(finding.alert for finding in one.findings) for one in examined)
    yield f"{len(examined)} series of {len(snapshot.runs)} runs, {alerts} with an alert"
