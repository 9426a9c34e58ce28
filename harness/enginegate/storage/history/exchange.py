"""Histories as files: JSON Lines and Parquet, and whatever file holds runs, told by what is in it.

JSON Lines: each line one object with its ``kind``, a ``run`` with its engines and figures, or a ``note``. Parquet: one
row for each figure, with its run and engine; an engine or run without figures has a row without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from enginegate.core.errors import EngineGateError, RecordError, edge
from enginegate.core.files import first_problem, write_atomically
from enginegate.storage.history import foreign
from enginegate.storage.history.entries import NOTES, Entry, Note, as_json, entry_of, from_json
from enginegate.storage.runs import RECORD_NAME, load_record

_AGAIN = "restore the file, or export it again"
#: Endings of the files that a history is exported to.
LINES, PARQUET = ".jsonl", ".parquet"
#: Where notes lie in a Parquet file.
_NOTES_KEY = b"enginegate_notes"


@dataclass(frozen=True)
class Found:
    """What a file holds."""

    entries: tuple[Entry, ...]
    notes: tuple[Note, ...] = ()


def export(entries: Sequence[Entry], notes: Sequence[Note], path: Path) -> None:
    """Write a history to a ``.jsonl`` or ``.parquet`` file, whole or not at all. Raises RecordError."""
    with edge(RecordError, f"{path} cannot be written", "name another file"):
        if path.suffix == LINES:
            write_atomically(path, "".join(f"{line}\n" for line in _lines(entries, notes)))
        elif path.suffix == PARQUET:
            _write_parquet(entries, notes, path)
        else:
            raise RecordError(f"{path} names no format", f"end its name in {LINES} or {PARQUET}")


def _lines(entries: Sequence[Entry], notes: Sequence[Note]) -> Iterator[str]:
    for entry in entries:
        yield json.dumps({"kind": "run", **as_json(entry)}, ensure_ascii=False, allow_nan=False)
    for note in notes:
        yield json.dumps({"kind": "note", **vars(note)}, ensure_ascii=False)


def files_in(place: Path) -> list[Path]:
    """The files with runs that a path names: itself; of a folder its run records, else its JSON files of other tools.

    Raises RecordError where there are none.
    """
    if not place.is_dir():
        return [place]
    with edge(RecordError, f"the folder {place} cannot be read", "look at its permissions"):
        records = sorted(place.rglob(RECORD_NAME))
        others = sorted(path for path in place.rglob("*.json") if path.name not in foreign.ASV_OTHERS)
    if not records and not others:
        raise RecordError(f"there are no runs in {place}", f"name a folder with {RECORD_NAME} files, or the files")
    return records or others


def read_file(path: Path, told: foreign.Told) -> Found:
    """The runs of a file: an export, a run record, or what another tool wrote. Raises RecordError.

    ``told``: what the file itself does not say.
    """
    with edge(RecordError, f"{path} cannot be read", _AGAIN):
        if not path.exists():
            raise RecordError(f"there is no file {path}", "correct its name")
        try:
            match path.suffix:
                case ".jsonl":
                    return _read_lines(path)
                case ".parquet":
                    return _read_parquet(path)
                case ".csv":
                    return Found(tuple(foreign.results_table(path, told)))
                case ".json":
                    return Found((_read_json(path),))
        except ValidationError as error:
            raise RecordError(f"{path} is no export of a history: {first_problem(error)}", _AGAIN) from error
        except ValueError as error:
            raise RecordError(f"{path} cannot be used: {error}", _AGAIN) from error
    raise RecordError(
        f"{path}: files that end in {path.suffix or 'nothing'} are not known",
        f"name a run.json, a {LINES} or {PARQUET} export, pytest-benchmark's or asv's JSON, or a benchmark_results.csv",
    )


def _read_lines(path: Path) -> Found:
    entries, notes = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("it is no JSON object")
            kind = value.pop("kind", None)
            if kind == "run":
                entries.append(from_json(value))
            elif kind == "note":
                notes += NOTES.validate_python([value])
            else:
                raise ValueError(f"its kind is {kind!r}, which is neither run nor note")
        except ValidationError as error:
            raise RecordError(f"line {number} of {path} cannot be used: {first_problem(error)}", _AGAIN) from error
        except (ValueError, RecursionError) as error:
            raise RecordError(f"line {number} of {path} cannot be used: {error}", _AGAIN) from error
    return Found(tuple(entries), tuple(notes))


def _read_json(path: Path) -> Entry:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        if "schema_version" in content and "fingerprint" in content:
            return entry_of(load_record(path), str(path))
        if "benchmarks" in content and "machine_info" in content:
            return foreign.pytest_benchmark(content)
        if "commit_hash" in content and "results" in content:
            return foreign.asv(content, path)
    raise ValueError("it is neither a run record, nor a file of pytest-benchmark or asv with results")


_ENGINE_COLUMNS = ("backend", "precision", "variant", "runtime_digest", "engine_key", "version", "role")
_FIGURE_COLUMNS = (
    "series", "model_digest", "series_backend", "series_precision", "series_variant", "series_runtime_digest",
    "workload", "metric", "unit", "method", "verdict",
)  # fmt: skip
_NUMBER_COLUMNS = ("value", "low", "high")


def _rows(entry: Entry) -> Iterator[dict[str, Any]]:
    plain = {f"run_{name}" if name == "id" else name: value for name, value in vars(entry.run).items()}
    plain["environment"] = json.dumps(dict(entry.run.environment), sort_keys=True, ensure_ascii=False)
    engines = {each.engine: vars(each) for each in entry.engines}
    bare = set(engines)
    for figure in entry.figures:
        row = figure.key.row()
        bare.discard(figure.key.engine)
        yield {
            **plain,
            **engines.get(figure.key.engine, {}),
            "engine": figure.key.engine,
            "series": row["digest"],
            **{f"series_{name}": row[name] for name in ("backend", "precision", "variant", "runtime_digest")},
            **{name: row[name] for name in ("model_digest", "workload", "metric", "unit", "method")},
            **{name: getattr(figure, name) for name in (*_NUMBER_COLUMNS, "verdict")},
        }
    for name in sorted(bare):
        yield {**plain, **engines[name]}
    if not entry.figures and not entry.engines:
        yield plain


def _write_parquet(entries: Sequence[Entry], notes: Sequence[Note], path: Path) -> None:
    pyarrow, parquet = _pyarrow()
    text, number = pyarrow.string(), pyarrow.float64()
    run = [
        ("run_id", text), ("started", text), ("commit", text), ("machine", text), ("model", text), ("status", text),
        ("record", text), ("origin", text), ("schema", pyarrow.int64()), ("enginegate", text), ("environment", text),
    ]  # fmt: skip
    schema = pyarrow.schema(
        [
            *run,
            ("engine", text),
            *((name, text) for name in (*_ENGINE_COLUMNS, *_FIGURE_COLUMNS)),
            *((name, number) for name in _NUMBER_COLUMNS),
        ],
        metadata={_NOTES_KEY: json.dumps([vars(note) for note in notes], ensure_ascii=False)},
    )
    rows = [row for entry in entries for row in _rows(entry)]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read_parquet(path: Path) -> Found:
    _, parquet = _pyarrow()
    table = parquet.read_table(path)
    notes = json.loads((table.schema.metadata or {}).get(_NOTES_KEY, b"[]"))
    wanted = {"run_id", "environment", "engine", "metric", *_ENGINE_COLUMNS, *_FIGURE_COLUMNS, *_NUMBER_COLUMNS}
    lacking = sorted(wanted - set(table.column_names))
    if lacking:
        raise ValueError(f"it is no export of a history: it has no column {lacking[0]}")
    runs: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        run = runs.setdefault(row["run_id"], {"run": _run_of(row), "engines": {}, "figures": []})
        if row["role"] is not None:
            run["engines"][row["engine"]] = {name: row[name] for name in ("engine", *_ENGINE_COLUMNS)}
        if row["metric"] is not None:
            run["figures"].append(
                {
                    "engine": row["engine"],
                    **{name: row[f"series_{name}"] for name in ("backend", "precision", "variant", "runtime_digest")},
                    **{name: row[name] for name in ("model_digest", "workload", "metric", "unit", "method")},
                    **{name: row[name] for name in (*_NUMBER_COLUMNS, "verdict")},
                }
            )
    return Found(
        tuple(from_json({**run, "engines": list(run["engines"].values())}) for run in runs.values()),
        tuple(NOTES.validate_python(notes)),
    )


def _run_of(row: dict[str, Any]) -> dict[str, Any]:
    names = ("started", "commit", "machine", "model", "status", "record", "origin", "schema", "enginegate")
    return {"id": row["run_id"], **{name: row[name] for name in names}, "environment": json.loads(row["environment"])}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RecordError(
            "Parquet needs pyarrow, which is not installed", f"pip install 'enginegate[history]', or use {LINES}"
        ) from error
    return pyarrow, parquet


def read_all(places: Sequence[Path], told: foreign.Told) -> tuple[list[tuple[Path, Found]], list[EngineGateError]]:
    """What all files of some paths hold, and the errors of those that cannot be used."""
    found, broken = [], []
    for place in places:
        try:
            files = files_in(place)
        except EngineGateError as error:
            broken.append(error)
            continue
        for file in files:
            try:
                found.append((file, read_file(file, told)))
            except EngineGateError as error:
                broken.append(error)
    return found, broken
