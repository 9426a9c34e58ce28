"""Run records on disk: written whole, found by name, checked when read."""

from __future__ import annotations

import os
from pathlib import Path

from enginegate.core.errors import RecordError, edge
from enginegate.core.files import expanded, round_floats, to_json, write_atomically
from enginegate.core.records import SCHEMA, RunRecord
from enginegate.storage.migration import RECORD
from enginegate.storage.reading import Format, repeated, table_problem

#: The name of a run's record inside its folder.
RECORD_NAME = "run.json"


def _problem(record: RunRecord) -> str | None:
    """What is there twice, of which one would hide the other, or is laid out otherwise than its columns; or None."""
    named: dict[str, list[object]] = {
        "engine": [entry.id for entry in record.engines],
        "the race at": [entry.workload for entry in record.arenas],
        "memory of": [f"{entry.engine} at {entry.workload}" for entry in record.memory],
        "quality:": [f"{entry.metric} of {entry.engine}" for entry in record.quality],
    }
    for arena in record.arenas:
        named[f"at {arena.workload}, engine"] = list(arena.contestants)
        for number, block in enumerate(arena.blocks):
            named[f"in block {number} at {arena.workload}, a round of"] = [turn.engine for turn in block.rounds]
    for what, names in named.items():
        twice = repeated(names)
        if twice is not None:
            return f"{what} {twice} is there twice"
    libraries = record.fingerprint.context.get("libraries", {})
    if not isinstance(libraries, dict) or not all(isinstance(version, str) for version in libraries.values()):
        return "fingerprint.context.libraries is no object of names to versions"
    for engine in record.engines:
        devices = engine.spec.get("tensor_parallel", 1)
        if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
            return f"spec.tensor_parallel of {engine.id} is no number of devices"
    for entry in record.quality:
        problem = table_problem(entry.columns, entry.items)
        if problem is not None:
            return f"{entry.metric} of {entry.engine}: {problem}"
    return None


FORMAT = Format(RunRecord, "run record", SCHEMA, RECORD, RecordError, "restore it, or record a new run", _problem)


def save_record(record: RunRecord, folder: Path) -> Path:
    """Write ``<folder>/<record id>/run.json`` and return its path. Raises RecordError."""
    path = folder / record.id / RECORD_NAME
    hint = "look at that folder, or name another one with --runs DIR"
    with edge(RecordError, f"run record {path} cannot be written", hint):
        write_atomically(path, to_json(round_floats(record.model_dump(mode="python"))))
    return path


def load_record(path: Path) -> RunRecord:
    """Read a run record from its file, or from the folder that holds it. Raises RecordError."""
    file = record_file(path)
    record = FORMAT.read(file)
    if record is None:
        raise RecordError(
            f"there is no run record at {file}", "run pytest first, or name the run's folder or its run.json"
        )
    return record


def record_file(path: Path) -> Path:
    """The file of a run that is named by it or by its folder."""
    return path / RECORD_NAME if os.path.isdir(path) else path  # noqa: PTH112 - Path.is_dir raises for some names


def latest_record(runs: Path) -> Path:
    """The record in ``runs`` that was written last. Raises RecordError where there is none."""
    records = sorted(runs.glob(f"*/{RECORD_NAME}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
    if not records:
        raise RecordError(f"there is no run in {runs}", "run pytest first, or name the runs folder with --runs DIR")
    return records[-1]


def find_record(name: str, runs: Path) -> Path:
    """The record that a command line names: a file, a run's folder, a run id inside ``runs``, or ``latest``."""
    # Those of os.path say no, where those of Path raise: a name that is too long, a folder that may not be entered.
    given = expanded(name)
    if os.path.exists(given):  # noqa: PTH110
        return given
    if name == "latest":
        return latest_record(runs)
    inside = runs / name / RECORD_NAME
    return inside if os.path.isfile(inside) else given  # noqa: PTH113
