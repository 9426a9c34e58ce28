"""Reading and writing run records: rounded, laid out for review, written atomically, checked when read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RecordError
from harness.records import SCHEMA, RunRecord

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Significant digits that are kept of every stored float: 100 ns in a second, far below what a clock resolves here.
DIGITS = 7

#: The name of a run's record inside its folder.
RECORD_NAME = "run.json"


def round_floats(value: Any, digits: int = DIGITS) -> Any:
    """The same JSON-able value with every float rounded to ``digits`` significant digits. Idempotent."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: round_floats(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item, digits) for item in value]
    return value


def to_json(value: Any) -> str:
    """JSON with one line for each innermost list or object, so that a diff shows one item a line."""
    return "".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if not any(isinstance(child, dict | list | tuple) for child in children):
        yield json.dumps(value, ensure_ascii=False)
        return
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    entries = value.items() if isinstance(value, dict) else ((None, child) for child in value)
    yield opening
    for number, (key, child) in enumerate(entries):
        yield ("," if number else "") + f"\n{indent} " + ("" if key is None else f"{json.dumps(key)}: ")
        yield from _lines(child, indent + " ")
    yield f"\n{indent}{closing}"


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` holds either its old content or all of the new. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's complaints as ``where: what``, and how many more there are."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg']}{rest}"


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
