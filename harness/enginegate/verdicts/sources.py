"""Reads what can be compared: a run record, or a pytest-benchmark JSON file that has its samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.storage.runs import RECORD_NAME, load_record
from enginegate.storage.summary import paired_log_ratios

#: The one metric of a pytest-benchmark file that has samples.
TIME = "time"


@dataclass(frozen=True)
class Series:
    """Positive samples of one benchmark: seconds, or ratios over the reference, of which more is better."""

    samples: tuple[float, ...]
    higher_is_better: bool


@dataclass(frozen=True)
class StoredSession:
    """One session, read from a file.

    Attributes:
        name: the file, as it was given.
        machine: what tells one machine from another, as far as the file knows.
        series: (benchmark, metric) to samples.
        record: the run record, where it is one.
    """

    name: str
    machine: str
    series: Mapping[tuple[str, str], Series]
    record: RunRecord | None = field(default=None, repr=False)

    def is_same(self, other: StoredSession) -> bool:
        """Whether the other is this very session: the same run, or the same samples throughout."""
        if self.record is not None and other.record is not None:
            return self.record.id == other.record.id and self.record.model.name == other.record.model.name
        return bool(self.series) and self.series == other.series


def load_session(path: Path) -> StoredSession:
    """Read a run record, its folder, or a pytest-benchmark file. Raises RecordError."""
    if path.is_dir() or path.name == RECORD_NAME:
        return from_record(str(path), load_record(path))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(
            f"there is no session at {path}", "name a run or a file of pytest --benchmark-json"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(
            f"{path} cannot be read as JSON: {error}", "give a run record or a file of pytest --benchmark-json"
        ) from error
    if isinstance(data, dict) and "benchmarks" in data:
        return _from_pytest_benchmark(str(path), data)
    return from_record(str(path), load_record(path))


def from_record(name: str, record: RunRecord) -> StoredSession:
    """The ratios of every engine over the reference. The reference is part of a benchmark's name."""
    series = {}
    for arena in record.arenas:
        for engine in arena.contestants:
            if engine == arena.reference or not arena.blocks:
                continue
            for metric, ratios in paired_log_ratios(arena, engine).items():
                benchmark = f"{engine} {arena.workload} over {arena.reference}"
                series[benchmark, metric] = Series(tuple(math.exp(ratio) for ratio in ratios), True)
    return StoredSession(name, record.fingerprint.key, series, record)


def _from_pytest_benchmark(name: str, data: dict[str, Any]) -> StoredSession:
    series = {}
    if not isinstance(data["benchmarks"], list) or not all(isinstance(each, dict) for each in data["benchmarks"]):
        raise RecordError(f"the benchmarks of {name} are no list of benchmarks", "save the file again")
    for number, benchmark in enumerate(data["benchmarks"]):
        try:
            title, stats = str(benchmark["fullname"]), benchmark["stats"]
            samples = stats["data"]
        except (KeyError, TypeError) as error:
            raise RecordError(
                f"benchmark {number} of {name} has no {error}",
                "save the samples: pytest --benchmark-json FILE, or --benchmark-save-data with --benchmark-autosave",
            ) from error
        if not isinstance(samples, list) or not all(isinstance(sample, int | float) for sample in samples):
            raise RecordError(f"the samples of {title} in {name} are not a list of numbers", "save the file again")
        if not samples:
            raise RecordError(
                f"{title} in {name} has no samples",
                "run it with timing enabled: not under xdist or --benchmark-disable",
            )
        series[title, TIME] = Series(tuple(float(sample) for sample in samples), False)
    machine = data.get("machine_info") or {}
    cpu = machine.get("cpu") or {}
    return StoredSession(name, " ".join(str(part) for part in (machine.get("machine"), cpu.get("brand_raw"))), series)
