"""Reads what can be compared: a run record, or a pytest-benchmark JSON file that has its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.storage.reading import read_strictly
from enginegate.storage.runs import FORMAT, record_file
from enginegate.storage.summary import paired_log_ratios

#: The one metric of a pytest-benchmark file that has samples.
TIME = "time"
_SAVE_SAMPLES = "save the samples: pytest --benchmark-json FILE, or --benchmark-save-data with --benchmark-autosave"
_SAVE_AGAIN = "save the file again, and leave it as pytest-benchmark writes it"
#: Seconds that no sample is below or above: a thousandth of what any clock resolves, and thirty years.
SHORTEST, LONGEST = 1e-13, 1e9
#: JSON's types in words.
_NAMES = {bool: "true or false", str: "text", list: "a list", dict: "an object", type(None): "null"}


@dataclass(frozen=True)
class Series:
    """Positive samples of one benchmark: seconds, or ratios over the reference, of which more is better.

    Attributes:
        samples: of one session.
        higher_is_better: whether more is better.
        group: what margins may be given for together: pytest-benchmark's group, or the workload; may be empty.
        timer: the clock that was read, where the file tells.
    """

    samples: tuple[float, ...]
    higher_is_better: bool
    group: str = ""
    timer: str = ""


@dataclass(frozen=True)
class StoredSession:
    """One session, read from a file.

    Attributes:
        name: the file, as it was given.
        machine: what tells one kind of machine from another, as far as the file knows; empty where it says nothing.
        series: (benchmark, metric) to samples.
        record: the run record, where it is one.
        surroundings: what else the file tells of where it ran, by name; a difference is worth a warning.
    """

    name: str
    machine: str
    series: Mapping[tuple[str, str], Series]
    record: RunRecord | None = field(default=None, repr=False)
    surroundings: Mapping[str, str] = field(default_factory=dict)

    def is_same(self, other: StoredSession) -> bool:
        """Whether the other is this very session, or a shard of it: the same run, or the same samples throughout."""
        if self.record is not None and other.record is not None:
            return bool(self.record.runs & other.record.runs) and self.record.model.name == other.record.model.name
        return bool(self.series) and self._samples() == other._samples()

    @property
    def names(self) -> frozenset[str]:
        """What may be renamed: the benchmarks of a pytest-benchmark file, the engines of a record."""
        if self.record is None:
            return frozenset(benchmark for benchmark, _ in self.series)
        return frozenset(entry.id for entry in self.record.engines)

    def _samples(self) -> dict[tuple[str, str], tuple[float, ...]]:
        return {key: series.samples for key, series in self.series.items()}


def load_session(path: Path) -> StoredSession:
    """Read a run record, its folder, or a pytest-benchmark file. Raises RecordError."""
    path = record_file(path)
    try:
        content = read_strictly(path)
    except FileNotFoundError as error:
        raise RecordError(
            f"there is no session at {path}", "name a run or a file of pytest --benchmark-json"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RecordError(
            f"{path} cannot be read as JSON: {reason}", "give a run record or a file of pytest --benchmark-json"
        ) from error
    if isinstance(content, dict) and "benchmarks" in content:
        return _from_pytest_benchmark(str(path), content)
    return from_record(str(path), FORMAT.validated(content, path))


def from_record(name: str, record: RunRecord) -> StoredSession:
    """The ratios of every engine over the reference. The reference is part of a benchmark's name."""
    series = {}
    for arena in record.arenas:
        for engine in arena.contestants:
            if engine == arena.reference or not arena.blocks:
                continue
            for metric, ratios in paired_log_ratios(arena, engine).items():
                benchmark = f"{engine} {arena.workload} over {arena.reference}"
                samples = tuple(math.exp(ratio) for ratio in ratios)
                series[benchmark, metric] = Series(samples, True, arena.workload)
    return StoredSession(name, record.fingerprint.key, series, record)


def renamed(session: StoredSession, names: Mapping[str, str]) -> StoredSession:
    """The session with other names for what ``names`` has: benchmarks, or engines of a record.

    Raises RecordError where two things would have one name.
    """
    present = {old: new for old, new in names.items() if old in session.names}
    if not present:
        return session
    kept = session.names - present.keys()
    for old, new in present.items():
        if new in kept or list(present.values()).count(new) > 1:
            raise RecordError(
                f"{session.name} would have two of the name {new!r} if {old!r} were renamed to it",
                "leave that --renamed out, or the session",
            )
    if session.record is not None:
        return from_record(session.name, _engines_renamed(session.record, present))
    series = {(present.get(benchmark, benchmark), metric): each for (benchmark, metric), each in session.series.items()}
    return replace(session, series=series)


def _engines_renamed(record: RunRecord, names: Mapping[str, str]) -> RunRecord:
    def now(engine: str) -> str:
        return names.get(engine, engine)

    arenas = []
    for arena in record.arenas:
        blocks = [
            block.model_copy(
                update={"rounds": [turn.model_copy(update={"engine": now(turn.engine)}) for turn in block.rounds]}
            )
            for block in arena.blocks
        ]
        update = {"reference": now(arena.reference), "contestants": [*map(now, arena.contestants)], "blocks": blocks}
        arenas.append(arena.model_copy(update=update))
    return record.model_copy(
        update={
            "engines": [entry.model_copy(update={"id": now(entry.id)}) for entry in record.engines],
            "arenas": arenas,
            "memory": [entry.model_copy(update={"engine": now(entry.engine)}) for entry in record.memory],
            "quality": [entry.model_copy(update={"engine": now(entry.engine)}) for entry in record.quality],
        }
    )


def _from_pytest_benchmark(name: str, data: dict[str, Any]) -> StoredSession:
    benchmarks = data["benchmarks"]
    if not isinstance(benchmarks, list) or not all(isinstance(each, dict) for each in benchmarks):
        raise RecordError(f"the benchmarks of {name} are no list of benchmarks", "save the file again")
    series: dict[tuple[str, str], Series] = {}
    for number, benchmark in enumerate(benchmarks):
        title = benchmark.get("fullname")
        if not isinstance(title, str) or not title:
            raise RecordError(f"benchmark {number} of {name} has no fullname", _SAVE_AGAIN)
        if (title, TIME) in series:
            raise RecordError(
                f"{name} has two entries of {title}, of which one would hide the other",
                "give each benchmark a name of its own, or compare files of one session each",
            )
        options = benchmark.get("options")
        timer = options.get("timer") if isinstance(options, dict) else None
        group = benchmark.get("group")
        series[title, TIME] = Series(
            _times(name, title, benchmark.get("stats")),
            False,
            group if isinstance(group, str) else "",
            timer if isinstance(timer, str) else "",
        )
    machine, surroundings = _machine(name, data.get("machine_info"))
    return StoredSession(name, machine, series, surroundings=surroundings)


def _times(name: str, title: str, stats: object) -> tuple[float, ...]:
    """The samples of one benchmark: positive numbers. Raises RecordError."""
    if not isinstance(stats, dict) or stats.get("data") is None:
        raise RecordError(f"{title} in {name} has no data: its samples were not saved", _SAVE_SAMPLES)
    samples = stats["data"]
    if not isinstance(samples, list):
        raise RecordError(f"the samples of {title} in {name} are not a list of numbers", _SAVE_AGAIN)
    if not samples:
        raise RecordError(
            f"{title} in {name} has no samples", "run it with timing enabled: not under xdist or --benchmark-disable"
        )
    for number, sample in enumerate(samples):
        if isinstance(sample, bool) or not isinstance(sample, int | float):
            what = _NAMES.get(type(sample), "something else")
            raise RecordError(
                f"the samples of {title} in {name} are not a list of numbers: number {number} is {what}"
                + (", which NaN and infinity are read as" if sample is None else ""),
                _SAVE_AGAIN,
            )
        if not SHORTEST <= sample <= LONGEST:
            raise RecordError(
                f"sample {number} of {title} in {name} is {sample:g} s, which no run takes",
                f"times lie between {SHORTEST:g} and {LONGEST:g} s; measure it with a finer timer, or leave it out",
            )
    return tuple(float(sample) for sample in samples)


def _machine(name: str, info: object) -> tuple[str, dict[str, str]]:
    """The kind of machine (system, architecture, processor, number of CPUs), and what else is told of where it ran.

    Raises RecordError where it is laid out otherwise than pytest-benchmark does.
    """
    if info is None:
        return "", {}
    if not isinstance(info, dict):
        raise RecordError(
            f"machine_info of {name} is {_NAMES.get(type(info), 'a number')}, not an object: it does not say on which"
            " machine it ran",
            _SAVE_AGAIN,
        )
    cpu = info.get("cpu")
    if isinstance(cpu, str):  # as a project's own hook may have it
        cpu = {"brand_raw": cpu}
    if cpu is not None and not isinstance(cpu, dict):
        raise RecordError(
            f"machine_info.cpu of {name} is {_NAMES.get(type(cpu), 'a number')}, not an object", _SAVE_AGAIN
        )
    cpu = cpu or {}
    count = cpu.get("count")
    parts = [info.get("system"), info.get("machine"), cpu.get("brand_raw") or cpu.get("brand")]
    parts.append(None if count is None else f"{count} CPUs")
    python = [info.get("python_implementation"), info.get("python_version")]
    surroundings = {"node": [info.get("node")], "Python": python}
    return _words(parts), {what: _words(found) for what, found in surroundings.items()}


def _words(parts: list[object]) -> str:
    return " ".join(str(part) for part in parts if part is not None and part != "")
