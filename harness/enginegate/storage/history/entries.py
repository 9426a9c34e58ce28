"""What goes into a history and comes out of it: runs with their engines and figures, whole series, notes."""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict, TypeAdapter

from enginegate.core.records import RunRecord
from enginegate.storage.history.identity import SeriesKey, series_keys
from enginegate.storage.summary import measurements

#: Where a run came from that a session of this suite measured.
SESSION = "enginegate"

#: Of what is read from a file, nothing that is not known.
_CHECKED = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class HistoryEngine:
    """An engine of a run: which one, and which build of it. ``version``: its libraries, as its backend says them."""

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

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

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

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

    __pydantic_config__: ClassVar[ConfigDict] = _CHECKED

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


def from_json(value: Mapping[str, Any]) -> Entry:
    """The entry of a JSON object, as ``as_json`` makes it. Raises ValueError for any other."""
    if set(value) != {"run", "engines", "figures"}:
        raise ValueError(f"it has {', '.join(sorted(value)) or 'nothing'} in place of run, engines and figures")
    run = _RUN.validate_python(value["run"])
    figures = []
    for number, each in enumerate(_ROWS.validate_python(value["figures"])):
        try:
            middle, low, high = (_NUMBER.validate_python(each[name]) for name in _NUMBERS)
            key = _KEY.validate_python({"machine": run.machine, **{k: v for k, v in each.items() if k not in _VALUES}})
            figures.append(Figure(key, middle, low, high, _TEXT.validate_python(each["verdict"])))
        except KeyError as error:
            raise ValueError(f"figure {number} has no {error}") from error
    return checked(Entry(run, tuple(_ENGINES.validate_python(value["engines"])), tuple(figures)))


def checked(entry: Entry) -> Entry:
    """The entry. Raises ValueError where something is in it twice, of which one would hide the other."""
    names: list[tuple[str, ...]] = [(each.engine,) for each in entry.engines]
    names += [(each.key.engine, each.key.workload, each.key.metric) for each in entry.figures]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{' '.join(filter(None, twice))} of run {entry.run.id} is there twice")
    if not entry.run.id:
        raise ValueError("the run has no id")
    if entry.run.status not in ("complete", "partial"):
        raise ValueError(f"the status of run {entry.run.id} is {entry.run.status!r}, neither complete nor partial")
    try:
        datetime.datetime.fromisoformat(entry.run.started.replace("Z", "+00:00"))
    except ValueError as error:
        raise ValueError(f"run {entry.run.id} started at {entry.run.started!r}, which is no time") from error
    return entry


_NUMBERS = ("value", "low", "high")
_VALUES = frozenset((*_NUMBERS, "verdict"))
_RUN = TypeAdapter(HistoryRun)
_ENGINES = TypeAdapter(list[HistoryEngine])
_ROWS = TypeAdapter(list[dict[str, Any]])
_KEY = TypeAdapter(SeriesKey)
_NUMBER: TypeAdapter[float | None] = TypeAdapter(float | None, config=ConfigDict(strict=True, allow_inf_nan=False))
_TEXT = TypeAdapter(str)
#: Notes of a file.
NOTES = TypeAdapter(list[Note])


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
