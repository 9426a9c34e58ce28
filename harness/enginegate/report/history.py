"""What a history says, as lines for people and as values for a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from enginegate.storage.history.entries import HistoryRun, Series, Snapshot
from enginegate.verdicts.history import Examined, Finding, show
from enginegate.verdicts.reproduce import bisect, reproduce, reservations

#: Metrics by which a group of changes is told, the first that is among them.
_LEADING = ("speedup", "latency", "throughput", "itl", "ttft", "peak_memory")
#: How many differences of libraries are told in a line.
_MOST = 8
_BARS = "▁▂▃▄▅▆▇█"


def day(run: HistoryRun) -> str:
    """When a run began, to the minute."""
    return run.started[:16].replace("T", " ")


def name_of(series: Series) -> str:
    """A series in a few words."""
    key = series.key
    return " ".join(filter(None, (key.engine, key.workload, key.metric)))


def number(value: float | None, unit: str) -> str:
    """A figure with its unit."""
    if value is None:
        return "none"
    if unit == "seconds":
        return f"{value:.4g} s" if value >= 1 else f"{1000 * value:.4g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.4g} {unit}".strip() if unit != "score" else f"{value:.4g}"


def sparkline(values: Sequence[float], most: int = 60) -> str:
    """The last values as bars, the lowest to the highest."""
    shown = list(values)[-most:]
    low, high = min(shown), max(shown)
    if high == low:
        return _BARS[3] * len(shown)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in shown)


def groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Changes of one engine on one machine that begin with the same run, the leading metric first; newest first."""
    found: dict[tuple[str, str, str], list[Finding]] = {}
    for each in findings:
        found.setdefault((each.series.key.engine, each.series.key.machine, each.after.id), []).append(each)
    ordered = sorted(found.values(), key=lambda group: (group[0].after.started, group[0].after.id), reverse=True)
    return [sorted(group, key=_leading) for group in ordered]


def _leading(finding: Finding) -> tuple[bool, int, str]:
    metric = finding.series.key.metric
    place = _LEADING.index(metric) if metric in _LEADING else len(_LEADING)
    return finding.worse is not True, place, name_of(finding.series)


def word(finding: Finding) -> str:
    """What a change is called."""
    if finding.worse is None:
        return "changed"
    return "worse" if finding.worse else "better"


def group_lines(group: Sequence[Finding]) -> Iterator[str]:
    """A change that may show in several series: when, how far, between what, and what ran beside it."""
    lead = group[0]
    alert = any(each.alert for each in group)
    kind = {"change": "changed", "new level": "has a new level", "drift": "drifted from its anchor"}[lead.kind]
    yield f"{'ALERT  ' if alert else ''}{lead.series.key.engine} on {lead.series.key.machine} {kind}"
    yield f"  {day(lead.before)} → {day(lead.after)}, runs {lead.before.id} → {lead.after.id}"
    for each in group:
        label = " ".join(filter(None, (each.series.key.workload, each.series.key.metric)))
        own = f"; its own time {show(each.own)}" if each.own is not None else ""
        yield f"  {word(each):<7}  {label}: {show(each.shift)}{own}  (series {each.series.digest})"
    yield f"  fleet    {lead.control}{_where(lead)}"
    yield from (f"  between  {line}" for line in _differences(lead))
    for reason in dict.fromkeys(each.reason for each in group if each.reason):
        yield f"  known    {reason}"
    yield f"  again    {reproduce(lead)}"
    if bisect(lead):
        yield f"  search   {bisect(lead)}"
    yield from (f"  note     {line}" for line in reservations(lead))


def _where(finding: Finding) -> str:
    return {
        "machine": ": look at the machine first",
        "engine": ": look at the engine first",
        "": "",
    }[finding.suspect]


def _differences(finding: Finding) -> Iterator[str]:
    if not finding.differences:
        yield "the same commit, build and libraries"
    for name, old, new in finding.differences[:_MOST]:
        yield f"{name}: {old or 'none'} → {new or 'none'}"
    if len(finding.differences) > _MOST:
        yield f"and {len(finding.differences) - _MOST} more (--json tells all)"


def finding_row(finding: Finding) -> dict[str, Any]:
    """A change as JSON."""
    key = finding.series.key
    return {
        "series": finding.series.digest,
        **{name: value for name, value in key.row().items() if name != "digest"},
        "kind": finding.kind,
        "alert": finding.alert,
        "worse": finding.worse,
        "shift": vars(finding.shift),
        "false_alarms_per_night": finding.rate,
        "before": _run(finding.before),
        "after": _run(finding.after),
        "differences": [{"name": name, "before": old, "after": new} for name, old, new in finding.differences],
        "reason": finding.reason,
        "own": vars(finding.own) if finding.own is not None else None,
        "fleet": [{**vars(each), "shift": vars(each.shift)} for each in finding.beside],
        "control": finding.control,
        "suspect": finding.suspect,
        "reproduce": reproduce(finding),
        "bisect": bisect(finding),
        "notes": reservations(finding),
    }


def _run(run: HistoryRun) -> dict[str, Any]:
    return {"run": run.id, "started": run.started, "commit": run.commit, "record": run.record}


def series_row(examined: Examined) -> dict[str, Any]:
    """A series as JSON, without its points."""
    series = examined.series
    return {
        **series.key.row(),
        "role": series.role,
        "points": len(series.points),
        "last": examined.values[-1] if examined.values else None,
        "from_anchor": vars(examined.from_anchor) if examined.from_anchor is not None else None,
        "changes": len(examined.findings),
        "alerts": sum(each.alert for each in examined.findings),
    }


def table_cells(examined: Examined, snapshot: Snapshot) -> list[str]:
    """A series as a line of ``history ls``."""
    series = examined.series
    last = examined.findings[-1] if examined.findings else None
    change = f"{word(last)} {show(last.shift)} at {day(last.after)[:10]}" if last is not None else ""
    if last is not None and (last.alert or last.reason):
        change = f"{'ALERT ' if last.alert else 'known: '}{change}"
    return [
        series.digest,
        name_of(series),
        series.key.machine,
        str(len(series.points)),
        day(snapshot.runs[series.points[-1].run])[:10],
        number(examined.values[-1] if examined.values else None, series.key.unit),
        show(examined.from_anchor) if examined.from_anchor is not None else "",
        change,
    ]


def point_lines(examined: Examined, snapshot: Snapshot, most: int) -> Iterator[str]:
    """The last points of a series, each change before the point that it begins with."""
    series, unit = examined.series, examined.series.key.unit
    begins = {each.index: each for each in examined.findings}
    first = max(0, len(series.points) - most) if most else 0
    if first:
        yield f"  … {first} earlier points"
    for place, point in enumerate(series.points[first:], first):
        if place in begins:
            found = begins[place]
            reason = f" ({found.reason})" if found.reason else ""
            yield f"  ── {'ALERT ' if found.alert else ''}{word(found)} {show(found.shift)}{reason}"
        run = snapshot.runs[point.run]
        interval = f" [{number(point.low, unit)}, {number(point.high, unit)}]" if point.low is not None else ""
        figure = f"{number(point.value, unit)}{interval}  {point.verdict}"
        yield f"  {day(run)}  {run.commit[:12] or '-':<12}  {figure}".rstrip()
