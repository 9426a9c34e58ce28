"""What goes into a history and comes out of it: runs with their engines and figures, whole series, notes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from enginegate.core.records import RunRecord
from enginegate.storage.history.identity import SeriesKey, series_keys
from enginegate.storage.summary import measurements

#: Where a run came from that a session of this suite measured.
SESSION = "enginegate"


@dataclass(frozen=True)
class HistoryEngine:
    """An engine of a run: which one, and which build of it. ``version``: its libraries, as its backend says them."""

    engine: str
    backend: str
    precision: str
    variant: str
    runtime_digest: str
    engine_key: str
    version: str
    role: str


@dataclass(frozen=True)
class Figure:
    """One figure of a run, and the series that it is a point of. None where it is not a number."""

    key: SeriesKey
    value: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class HistoryRun:
    """A run, without what it measured.

    Attributes:
        id: of the run; a run that is written again replaces the earlier one.
        started: ISO 8601, UTC where a session wrote it.
        commit: of the checkout, or of the head that was named; "" where there is none.
        machine: key of the machine's fingerprint.
        model: its configuration's name.
        status: ``complete`` or ``partial``.
        record: where the run's record lies; "" where there is none.
        origin: ``enginegate``, or the format that it was imported from; "" where that was not kept.
        schema: of the record; 0 where there is none.
        enginegate: the version that measured it.
        environment: Python, kernel, GPU driver and libraries, by name.
    """

    id: str
    started: str
    commit: str
    machine: str
    model: str
    status: str
    record: str = ""
    origin: str = ""
    schema: int = 0
    enginegate: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """All of one run."""

    run: HistoryRun
    engines: tuple[HistoryEngine, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Note:
    """A change that is known: from ``run`` on, the series is expected at another level, for ``reason``."""

    series: str
    run: str
    reason: str
    written: str


class Point(NamedTuple):
    """One run's figure in a series. ``engine_key``, ``version``: the build, and its libraries; "" where not known."""

    run: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str
    engine_key: str
    version: str


@dataclass(frozen=True)
class Series:
    """One thing that was measured, over the runs, oldest first. ``role``: of its engine in the newest run."""

    key: SeriesKey
    points: tuple[Point, ...]
    role: str = ""

    @property
    def digest(self) -> str:
        """Its name."""
        return self.key.digest


@dataclass(frozen=True)
class Snapshot:
    """What a history held at one moment: runs by id, series by digest in the order of their names, notes."""

    runs: Mapping[str, HistoryRun]
    series: Mapping[str, Series]
    notes: tuple[Note, ...]


def entry_of(record: RunRecord, location: str = "") -> Entry:
    """What a history keeps of a run. Raises RecordError, MeasurementError for times that are none."""
    figures = measurements(record)
    return Entry(
        HistoryRun(
            id=record.id,
            started=record.started,
            commit=record.commit,
            machine=record.fingerprint.key,
            model=record.model.name,
            status=record.status,
            record=location,
            origin=SESSION,
            schema=record.schema_version,
            enginegate=record.enginegate,
            environment=environment_of(record.fingerprint.context),
        ),
        tuple(
            HistoryEngine(
                entry.id,
                entry.backend,
                entry.precision,
                entry.variant,
                entry.runtime_digest,
                entry.key,
                entry.version,
                entry.role,
            )
            for entry in record.engines
        ),
        tuple(
            Figure(key, finite(item.value), finite(item.low), finite(item.high), item.verdict)
            for key, item in zip(series_keys(record, figures), figures, strict=True)
        ),
    )


def environment_of(context: Mapping[str, Any]) -> dict[str, str]:
    """What of a machine's context a change may come from, by name: kernel, Python, GPU driver, libraries."""
    found = {name: str(context[name]) for name in ("kernel", "python") if context.get(name)}
    gpus = context.get("gpus")
    drivers = {str(gpu["driver"]) for gpu in gpus or () if isinstance(gpu, Mapping) and gpu.get("driver")}
    if drivers:
        found["driver"] = ", ".join(sorted(drivers))
    libraries = context.get("libraries")
    if isinstance(libraries, Mapping):
        found |= {str(name): str(version) for name, version in libraries.items()}
    return found


def finite(value: float | None) -> float | None:
    """The number; None where it is none."""
    return float(value) if value is not None and math.isfinite(value) else None


def as_json(entry: Entry) -> dict[str, Any]:
    """A run as one JSON object, from which ``from_json`` makes the same entry."""
    run = entry.run
    return {
        "run": {**vars(run), "environment": dict(run.environment)},
        "engines": [vars(engine) for engine in entry.engines],
        "figures": [
            {
                **{name: value for name, value in figure.key.row().items() if name not in ("digest", "machine")},
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "verdict": figure.verdict,
            }
            for figure in entry.figures
        ],
    }


def canonical(entry: Entry) -> str:
    """An entry as text: two entries are the same where their texts are."""
    plain = as_json(ordered(entry))
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def ordered(entry: Entry) -> Entry:
    """The same entry, its engines and figures in the order of their names."""
    return replace(
        entry,
        engines=tuple(sorted(entry.engines, key=lambda engine: engine.engine)),
        figures=tuple(sorted(entry.figures, key=lambda each: (each.key.engine, each.key.workload, each.key.metric))),
    )
