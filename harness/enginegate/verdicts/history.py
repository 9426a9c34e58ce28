"""What changed in a history: each series' changes with what else changed there, and which of them are alerts.

An alert is a change to the worse that is new, or one that still shows against the anchor, the level of the first
figures; and that holds among all series at once: see ``gates.change_points``. What a person annotated with a reason is
known, and no alert: the anchor moves there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from enginegate.gates.change_levels import FALSE_DRIFTS
from enginegate.gates.change_points import (
    ANCHOR,
    SHARES,
    Array,
    Change,
    NewLevel,
    difference,
    discoveries,
    drift,
    drift_rate,
    newest,
    rate,
    robust_size,
    segment,
)
from enginegate.storage.history.entries import HistoryRun, Note, Point, Series, Snapshot

Kind = Literal["change", "new level", "drift"]
#: Points around a change that its control is taken over, on either side.
CONTROL = 20
#: A noted change and a found one this many points apart are the same.
NEAR = 2
#: By ratio over the reference, the times that it is made of.
ABSOLUTE = {"speedup": "latency", "ttft": "ttft_seconds", "itl": "itl_seconds"}
_LESS_IS_BETTER = ("perplexity.", "divergence.", "flips")
_MORE_IS_BETTER = ("accuracy", "cloze.", "letters.", "similarity.", "summaries.", "lm_eval:")


@dataclass(frozen=True)
class Shift:
    """How far a level moved, with its 95 % interval: a ratio less one (0.08: 8 % more), or in the series' own unit."""

    size: float
    low: float
    high: float
    relative: bool

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Beside:
    """Another engine of the same machine around the same runs; ``moved``: it moved along, at least half as far."""

    engine: str
    role: str
    shift: Shift
    moved: bool


@dataclass(frozen=True)
class Finding:
    """A change of one series.

    Attributes:
        series: the series.
        kind: of the past, a level that has just begun, or a drift from the anchor.
        index: the first of the series' figures at the new level.
        shift: how far it moved.
        worse: True, False, or None where more is neither.
        rate: how often unchanged series show so much, per series and night; 0 for a change of the past.
        alert: whether it is one.
        before, after: the last run of the old level, and the first of the new one.
        reason: why, where a person said so.
        own: for a ratio, how the engine's own time moved.
        beside: the fleet control: the reference first, then other engines.
        differences: what changed between the two runs beside the figures: name, before, after.
    """

    series: Series
    kind: Kind
    index: int
    shift: Shift
    worse: bool | None
    rate: float
    alert: bool
    before: HistoryRun
    after: HistoryRun
    reason: str
    own: Shift | None
    beside: tuple[Beside, ...]
    differences: tuple[tuple[str, str, str], ...]

    @property
    def control(self) -> str:
        """The fleet control in a sentence."""
        if not self.beside:
            return "no other engine was measured beside it"
        reference = [each for each in self.beside if each.role.endswith("reference")]
        others = [each for each in self.beside if not each.role.endswith("reference")]
        parts = []
        if reference:
            moved = "moved along" if reference[0].moved else "did not move along"
            parts.append(f"the reference {moved} ({show(reference[0].shift)})")
        if others:
            moved_others = sum(each.moved for each in others)
            parts.append(f"{moved_others} of {len(others)} other engines moved along")
        return ", ".join(parts)

    @property
    def suspect(self) -> str:
        """Where to look first: ``machine`` where most of what ran beside it moved along, else ``engine``; or ""."""
        if not self.beside:
            return ""
        return "machine" if sum(each.moved for each in self.beside) * 2 > len(self.beside) else "engine"


@dataclass(frozen=True)
class Examined:
    """One series with what was found in it.

    Attributes:
        series: the series.
        places: indices into its points of the figures that are numbers.
        values: those figures.
        findings: changes, oldest first.
        anchor: index into ``values`` of the first figure of the accepted level.
        from_anchor: how far the last figures lie from that level; None where there are too few.
        spread: standard deviation of a figure within its level, relative where shifts are.
    """

    series: Series
    places: tuple[int, ...]
    values: tuple[float, ...]
    findings: tuple[Finding, ...]
    anchor: int
    from_anchor: Shift | None
    spread: float | None


def worse_when(metric: str, unit: str) -> int:
    """1 where more is worse, -1 where less is, 0 where it is not known."""
    if unit in ("seconds", "bytes"):
        return 1
    if unit in ("tokens/s", "requests/s", "x"):
        return -1
    if metric.startswith(_LESS_IS_BETTER):
        return 1
    return -1 if metric.startswith(_MORE_IS_BETTER) else 0


def show(shift: Shift) -> str:
    """A shift with its interval, as text."""
    if shift.relative:
        return f"{100 * shift.size:+.1f} % [{100 * shift.low:+.1f}, {100 * shift.high:+.1f}]"
    return f"{shift.size:+.4g} [{shift.low:+.4g}, {shift.high:+.4g}]"


class _Figures:
    """The numbers of a series on the scale in which levels are compared: logs of what is positive, but for scores."""

    def __init__(self, series: Series) -> None:
        self.series = series
        numbered = [(place, point) for place, point in enumerate(series.points) if point.value is not None]
        self.places = tuple(place for place, _ in numbered)
        self.points: tuple[Point, ...] = tuple(point for _, point in numbered)
        self.plain = tuple(float(point.value) for _, point in numbered if point.value is not None)
        self.relative = series.key.unit != "score" and all(value > 0 for value in self.plain)
        self.values: Array = np.log(self.plain) if self.relative and self.plain else np.asarray(self.plain, np.float64)
        self.rising = worse_when(series.key.metric, series.key.unit)

    @cached_property
    def place_of_run(self) -> dict[str, int]:
        """Index of each run among the numbers."""
        return {point.run: number for number, point in enumerate(self.points)}

    def shift(self, change: Change) -> Shift:
        """A change of the values as people read it."""
        if not self.relative:
            return Shift(change.size, change.low, change.high, False)
        size, low, high = (math.expm1(min(each, 700.0)) for each in (change.size, change.low, change.high))
        return Shift(size, low, high, True)


@dataclass
class _Candidate:
    """What was found in one series before it is known what holds among all."""

    figures: _Figures
    past: list[Change]
    fresh: NewLevel | None
    drift: Change | None
    noted: dict[int, str]
    anchor: int

    @property
    def start(self) -> int:
        """Where the last level began that is known, or older than one that has just begun."""
        return max([0, *self.noted, *(change.index for change in self.past if not self.is_young(change))])

    def is_young(self, change: Change) -> bool:
        """Whether a change is as young as what ``newest`` looks for, which then decides if it is an alert."""
        return len(self.figures.values) - change.index <= max(SHARES)


def examine(snapshot: Snapshot) -> list[Examined]:
    """Every series of a history. Alerts hold among all that are given: give all of the history."""
    notes: dict[str, list[Note]] = {}
    for note in snapshot.notes:
        notes.setdefault(note.series, []).append(note)
    candidates = [_candidate(_Figures(series), notes.get(digest, ())) for digest, series in snapshot.series.items()]
    windows = np.asarray([each.fresh.window if each.fresh is not None else 0 for each in candidates])
    fresh_rates = rate(np.asarray([_score(each) for each in candidates], np.float64), windows)
    drift_rates = drift_rate(np.asarray([_drift_p(each) for each in candidates], np.float64))
    alerts, drifts = discoveries(fresh_rates), discoveries(drift_rates, FALSE_DRIFTS)
    fleet = _Fleet(candidates)
    return [
        _examined(snapshot, candidate, fleet, float(rate_), bool(alert), float(slow), bool(drifted))
        for candidate, rate_, alert, slow, drifted in zip(
            candidates, fresh_rates, alerts, drift_rates, drifts, strict=True
        )
    ]


def _candidate(figures: _Figures, notes: Iterable[Note]) -> _Candidate:
    noted = {figures.place_of_run[note.run]: note.reason for note in notes if note.run in figures.place_of_run}
    past = segment(figures.values)
    anchor = max(noted, default=0)
    found = _Candidate(figures, past, None, None, noted, anchor)
    found.fresh = _fresh(figures, found.start)
    found.drift = drift(figures.values, anchor)
    return found


def _fresh(figures: _Figures, start: int) -> NewLevel | None:
    """The new level to the worse at the end; of both directions the surer where neither is known to be worse."""
    sides = [figures.rising > 0] if figures.rising else [True, False]
    found = [level for side in sides if (level := newest(figures.values, start, side)) is not None]
    return min(found, key=lambda level: level.score, default=None)


def _score(candidate: _Candidate) -> float:
    if candidate.fresh is None:
        return math.inf
    return candidate.fresh.score * (1 if candidate.figures.rising else 2)


def _drift_p(candidate: _Candidate) -> float:
    """The one-sided p of a drift to the worse, twice it where either way may be; infinite without one."""
    found = candidate.drift
    if found is None:
        return math.inf
    if not candidate.figures.rising:
        return found.p
    worse = (found.size > 0) == (candidate.figures.rising > 0)
    return found.p / 2 if worse else 1 - found.p / 2


class _Fleet:
    """What was measured beside what: by machine, workload and metric."""

    def __init__(self, candidates: Sequence[_Candidate]) -> None:
        self._places: dict[tuple[str, str, str], list[_Figures]] = {}
        for each in candidates:
            key = each.figures.series.key
            self._places.setdefault((key.machine, key.workload, key.metric), []).append(each.figures)

    def beside(self, figures: _Figures, change: Change) -> tuple[Shift | None, tuple[Beside, ...]]:
        """The engine's own absolute shift, where its figure is a ratio, and those of the others around a change."""
        key = figures.series.key
        metric = ABSOLUTE.get(key.metric, key.metric)
        old = {point.run for point in figures.points[max(change.before, change.index - CONTROL) : change.index]}
        new = {point.run for point in figures.points[change.index : min(change.after, change.index + CONTROL)]}
        own, others = None, []
        for other in self._places.get((key.machine, key.workload, metric), ()):
            if other is figures:
                continue
            found = _around(other, old, new)
            if found is None:
                continue
            if _same_engine(other.series, figures.series):
                own = other.shift(found) if metric != key.metric else own
                continue
            others.append((other, found))
        by_ratio = metric != key.metric
        # A ratio that falls by as much as a time rises is what it would be if the machine had moved alone.
        size = -change.size if by_ratio else change.size
        rows = [
            Beside(
                other.series.key.engine,
                other.series.role,
                other.shift(found),
                (found.low > 0 or found.high < 0) and found.size * size > 0 and abs(found.size) >= abs(size) / 2,
            )
            for other, found in others
        ]
        return own, tuple(sorted(rows, key=lambda row: (not row.role.endswith("reference"), row.engine)))


def _same_engine(first: Series, second: Series) -> bool:
    names = ("engine", "backend", "precision", "variant", "runtime_digest", "model_digest")
    return all(getattr(first.key, name) == getattr(second.key, name) for name in names)


def _around(figures: _Figures, old: set[str], new: set[str]) -> Change | None:
    """The difference between two sets of runs; None where they hold too few of its figures."""
    before = [value for point, value in zip(figures.points, figures.values, strict=True) if point.run in old]
    after = [value for point, value in zip(figures.points, figures.values, strict=True) if point.run in new]
    if len(before) < 2 or not after or len(before) + len(after) < 4:
        return None
    joined = np.asarray([*before, *after], np.float64)
    return robust_size(difference(joined, 0, len(before), len(joined)), joined)


def _examined(
    snapshot: Snapshot, candidate: _Candidate, fleet: _Fleet, rate_: float, alert: bool, slow: float, drifted: bool
) -> Examined:
    figures, past, fresh, slowly = candidate.figures, candidate.past, candidate.fresh, candidate.drift
    places: list[tuple[Kind, Change, float, bool]] = []
    if fresh is not None and alert:
        past = [each for each in past if not (candidate.is_young(each) and each.size * fresh.change.size > 0)]
        places = [("new level", fresh.change, rate_, True)]
    elif slowly is not None and drifted:
        steps = [each for each in past if each.index > candidate.anchor and each.size * slowly.size > 0]
        if steps:  # what was never accepted stays an alert as long as it shows
            largest = max(steps, key=lambda each: abs(each.size))
            past = [each for each in past if each is not largest]
            places = [("change", largest, slow, True)]
        else:
            places = [("drift", slowly, slow, True)]
    places += [("change", change, 0.0, False) for change in past]
    places.sort(key=lambda place: place[1].index)
    findings = tuple(_finding(snapshot, candidate, fleet, *place) for place in places)
    level = figures.values[candidate.start :]
    spread = float(np.std(level, ddof=1)) if len(level) > 2 else None
    return Examined(
        figures.series,
        figures.places,
        figures.plain,
        findings,
        candidate.anchor,
        figures.shift(slowly) if slowly is not None else None,
        spread,
    )


def _finding(
    snapshot: Snapshot, candidate: _Candidate, fleet: _Fleet, kind: Kind, change: Change, rate_: float, alert: bool
) -> Finding:
    figures = candidate.figures
    before = figures.points[ANCHOR - 1 + change.before if kind == "drift" else change.index - 1]
    after = figures.points[change.index]
    own, beside = fleet.beside(figures, change) if kind != "drift" else _drift_control(fleet, figures, change)
    worse = None if not figures.rising else (change.size > 0) == (figures.rising > 0)
    reason = next((why for place, why in candidate.noted.items() if abs(place - change.index) <= NEAR), "")
    return Finding(
        series=figures.series,
        kind=kind,
        index=figures.places[change.index],
        shift=figures.shift(change),
        worse=worse,
        rate=rate_,
        alert=alert and worse is not False and not reason,
        before=snapshot.runs[before.run],
        after=snapshot.runs[after.run],
        reason=reason,
        own=own,
        beside=beside,
        differences=tuple(differences(snapshot.runs, before, after)),
    )


def _drift_control(fleet: _Fleet, figures: _Figures, change: Change) -> tuple[Shift | None, tuple[Beside, ...]]:
    """The control of a drift: the anchor's runs against the last ones."""
    joined = _Figures(
        Series(
            figures.series.key,
            (*figures.points[change.before : change.before + ANCHOR], *figures.points[-ANCHOR:]),
            figures.series.role,
        )
    )
    return fleet.beside(joined, Change(ANCHOR, 0, 2 * ANCHOR, change.size, change.low, change.high, change.p))


def differences(runs: Mapping[str, HistoryRun], before: Point, after: Point) -> Iterable[tuple[str, str, str]]:
    """What a change between two figures may come from: name, and what it was before and after."""
    pairs = [
        ("build", before.engine_key[:12], after.engine_key[:12]),
        ("engine libraries", before.version, after.version),
    ]
    return [*(each for each in pairs if each[1] != each[2]), *run_differences(runs[before.run], runs[after.run])]


def run_differences(before: HistoryRun, after: HistoryRun) -> list[tuple[str, str, str]]:
    """The same of two runs: commit, enginegate, the record's schema, and the environment."""
    pairs = [
        ("commit", before.commit, after.commit),
        ("enginegate", before.enginegate, after.enginegate),
        ("record schema", str(before.schema or ""), str(after.schema or "")),
    ]
    names = sorted({*before.environment, *after.environment})
    pairs += [(name, before.environment.get(name, ""), after.environment.get(name, "")) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]
