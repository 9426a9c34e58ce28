"""Around the run record: what names and dates it, several workers' records as one, and what is written beside it."""

from __future__ import annotations

import datetime
import functools
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

from enginegate.core.errors import RecordError, edge
from enginegate.core.records import AttemptEntry, RunRecord, VerdictEntry

Entry = TypeVar("Entry")
Status = Literal["complete", "partial"]


@dataclass
class WorkerRecords:
    """What xdist workers measured and concluded, by model: of those that ended, and what crashed ones had noted."""

    ended: dict[str, list[RunRecord]] = field(default_factory=dict)
    cut: dict[str, list[RunRecord]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RunRecord]:
        return chain.from_iterable((*self.ended.values(), *self.cut.values()))

    def add(self, part: Iterable[str], *, crashed: bool = False) -> None:
        """Add a worker's records, in JSON."""
        by_model = self.cut if crashed else self.ended
        for text in part:
            record = RunRecord.model_validate_json(text)
            by_model.setdefault(record.model.name, []).append(record)

    def merged(self, record_id: Callable[[str], str], status: Status, warnings: Sequence[str]) -> list[RunRecord]:
        """One record for each model; ``record_id`` gives its id by the model's name."""
        return [
            merge_records(self.ended.get(name, []), record_id(name), status, warnings, self.cut.get(name, []))
            for name in dict.fromkeys([*self.ended, *self.cut])
        ]


def merge_records(
    ended: Sequence[RunRecord], record_id: str, status: Status, warnings: Iterable[str], cut: Sequence[RunRecord] = ()
) -> RunRecord:
    """The records of several xdist workers as one; what two of them measured is kept once.

    ``cut``: what crashed workers had noted. A test of theirs may have run again in another worker, as
    pytest-rerunfailures has it: then what they had concluded of it is an earlier attempt.
    """
    parts = [*cut, *ended]
    complete = status == "complete" and all(part.status == "complete" for part in parts)
    verdicts, attempts = _last_attempts(ended, cut)
    return parts[0].model_copy(
        update={
            "id": record_id,
            "finished": now(),
            "status": "complete" if complete else "partial",
            "engines": _union((part.engines for part in parts), lambda entry: entry.id),
            "arenas": _union((part.arenas for part in parts), lambda entry: entry.workload),
            "races": _union((part.races for part in parts), lambda entry: entry.head.engine),
            "memory": _union((part.memory for part in parts), lambda entry: (entry.engine, entry.workload)),
            "quality": _union((part.quality for part in parts), lambda entry: (entry.engine, entry.metric)),
            "kv_caches": _union((part.kv_caches for part in parts), lambda entry: (entry.reference, entry.workload)),
            "sweeps": _union((part.sweeps for part in parts), lambda entry: entry.engine),
            "serving": _union((part.serving for part in parts), lambda entry: entry.engine),
            "techniques": _union((part.techniques for part in parts), lambda entry: entry.key),
            "verdicts": verdicts,
            "attempts": attempts,
            "warnings": [*warnings, *(line for part in parts for line in part.warnings)],
        }
    )


def _last_attempts(
    ended: Sequence[RunRecord], cut: Sequence[RunRecord]
) -> tuple[list[VerdictEntry], list[AttemptEntry]]:
    verdicts = [verdict for part in ended for verdict in part.verdicts]
    attempts = [attempt for part in ended for attempt in part.attempts]
    for part in reversed(cut):
        again = {verdict.test for verdict in verdicts}
        tests = dict.fromkeys(verdict.test for verdict in part.verdicts if verdict.test in again)
        earlier = [
            AttemptEntry(test=test, verdicts=[verdict for verdict in part.verdicts if verdict.test == test])
            for test in tests
        ]
        verdicts = [*(verdict for verdict in part.verdicts if verdict.test not in again), *verdicts]
        attempts = [*part.attempts, *earlier, *attempts]
    return verdicts, attempts


def write_reports(record: RunRecord, path: Path) -> None:
    """Write the reports beside the record's file. Raises RecordError."""
    problem = f"the reports of {record.id} cannot be written to {path.parent}"
    with edge(RecordError, problem, f"the record is whole: `enginegate report {path.parent}` writes them again"):
        from enginegate.report import write_report

        write_report([record], path.parent)


def add_to_history(record: RunRecord, path: Path, url: str) -> None:
    """Add a run to the history. Raises RecordError."""
    with edge(RecordError, f"{record.id} cannot be added to the history", "the record is whole: nothing else is lost"):
        from enginegate.storage.history.store import append

        append(record, url, str(path))


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def run_id() -> str:
    """A new run's id: the time, and a few random digits."""
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


@functools.cache
def commit(folder: Path) -> str:
    """The commit of the checkout that holds ``folder``, marked where files differ from it; else empty."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def _union(groups: Iterable[Sequence[Entry]], key: Callable[[Entry], object]) -> list[Entry]:
    """All entries, the first of each key."""
    found: dict[object, Entry] = {}
    for group in groups:
        for entry in group:
            found.setdefault(key(entry), entry)
    return list(found.values())
