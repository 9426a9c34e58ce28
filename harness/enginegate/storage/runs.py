"""Run records on disk: written whole, found by name, checked when read."""

from __future__ import annotations

from pathlib import Path

from enginegate.core.errors import RecordError, edge
from enginegate.core.files import expanded, round_floats, to_json, write_atomically
from enginegate.core.records import SCHEMA, RunRecord
from enginegate.storage.migration import RECORD
from enginegate.storage.reading import Format

#: The name of a run's record inside its folder.
RECORD_NAME = "run.json"

FORMAT = Format(RunRecord, "run record", SCHEMA, RECORD, RecordError, "restore it, or record a new run")


def save_record(record: RunRecord, folder: Path) -> Path:
    """Write ``<folder>/<record id>/run.json`` and return its path. Raises RecordError."""
    path = folder / record.id / RECORD_NAME
    hint = "free some space there, or name another folder with --runs DIR"
    with edge(RecordError, f"run record {path} cannot be written", hint):
        write_atomically(path, to_json(round_floats(record.model_dump(mode="python"))))
    return path


def load_record(path: Path) -> RunRecord:
    """Read a run record from its file, or from the folder that holds it. Raises RecordError."""
    file = path / RECORD_NAME if path.is_dir() else path
    record = FORMAT.read(file)
    if record is None:
        raise RecordError(
            f"there is no run record at {file}", "run pytest first, or name the run's folder or its run.json"
        )
    return record


def latest_record(runs: Path) -> Path:
    """The record in ``runs`` that was written last. Raises RecordError where there is none."""
    records = sorted(runs.glob(f"*/{RECORD_NAME}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
    if not records:
        raise RecordError(f"there is no run in {runs}", "run pytest first, or name the runs folder with --runs DIR")
    return records[-1]


def find_record(name: str, runs: Path) -> Path:
    """The record that a command line names: a file, a run's folder, a run id inside ``runs``, or ``latest``."""
    if name == "latest" and not Path(name).exists():
        return latest_record(runs)
    inside = runs / name / RECORD_NAME
    given = expanded(name)
    with edge(RecordError, f"the run {name!r} cannot be looked for", "name a run's folder, its run.json or its id"):
        return inside if not given.exists() and inside.is_file() else given
