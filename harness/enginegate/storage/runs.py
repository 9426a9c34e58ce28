"""Run records on disk: written whole, found by name, checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from enginegate.core.errors import RecordError
from enginegate.core.files import first_problem, round_floats, to_json, write_atomically
from enginegate.core.records import SCHEMA, RunRecord

#: The name of a run's record inside its folder.
RECORD_NAME = "run.json"


def save_record(record: RunRecord, folder: Path) -> Path:
    """Write ``<folder>/<record id>/run.json`` and return its path. Raises RecordError."""
    path = folder / record.id / RECORD_NAME
    try:
        write_atomically(path, to_json(round_floats(record.model_dump(mode="python"))))
    except OSError as error:
        raise RecordError(
            f"run record {path} cannot be written: {error.strerror or error}",
            "free some space there, or name another folder with --runs DIR",
        ) from error
    return path


def load_record(path: Path) -> RunRecord:
    """Read a run record from its file, or from the folder that holds it. Raises RecordError."""
    from pydantic import ValidationError

    file = path / RECORD_NAME if path.is_dir() else path
    data = _read(file)
    if not isinstance(data, dict) or "schema_version" not in data:
        raise RecordError(f"{file} is JSON, but not a run record", f"name the {RECORD_NAME} of a run, or its folder")
    if data["schema_version"] != SCHEMA:
        raise RecordError(
            f"run record {file} has schema version {data['schema_version']}; this enginegate reads version {SCHEMA}",
            "read it with the enginegate that wrote it, or record a new run",
        )
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        raise RecordError(
            f"run record {file} is damaged: {first_problem(error)}", "restore the file, or record a new run"
        ) from error


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordError(
            f"there is no run record at {file}", "run pytest first, or name the run's folder or its run.json"
        ) from error
    except OSError as error:
        raise RecordError(f"run record {file} cannot be read: {error.strerror or error}", "check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(
            f"run record {file} is not valid JSON ({error}); it may be cut off",
            "restore the file, or record a new run",
        ) from error


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
    if not Path(name).exists() and inside.is_file():
        return inside
    return Path(name)
