"""The rows of a file of data, each with the place that an error names: JSON Lines, JSON, CSV with a header, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from enginegate.core.errors import ConfigError, edge

#: By what a file's name ends in; any other is read as JSON Lines.
FORMATS = {".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class Row:
    """One row. ``number``: where it is in the file, ``line 7``; ``values``: by column."""

    path: Path
    number: str
    values: Mapping[str, Any]

    @property
    def place(self) -> str:
        """What an error names: ``FILE, line 7``."""
        return f"{self.path}, {self.number}"


def read_rows(path: Path, kind: str | None = None) -> Iterator[Row]:
    """The rows of a file in order. Blank lines are none.

    Args:
        path: the file.
        kind: ``jsonl``, ``json``, ``csv`` or ``parquet``; None for what the file's name ends in.

    Raises:
        ConfigError: it is missing, or not of that kind, as it is read.
    """
    if not path.exists():
        raise ConfigError(f"data file {path} does not exist", "check the path in the configuration")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", "name a file of data in it")
    yield from _READERS[kind or FORMATS.get(path.suffix.lower(), "jsonl")](path)


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError where it is missing or no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"data file {path} does not exist", "check the path in the configuration") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data file {path} cannot be read: {error}", "give a readable UTF-8 text file") from error


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = from_json(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {number}: Invalid JSON: {error}", "write one JSON object a line"
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}, line {number}: this is no JSON object", "write one JSON object a line")
        yield Row(path, f"line {number}", values)


def _json(path: Path) -> Iterator[Row]:
    hint = "give a list of JSON objects, or say format: jsonl where each line is one"
    try:
        rows = from_json(read_text(path))
    except ValueError as error:
        raise ConfigError(f"{path}: Invalid JSON: {error}", hint) from error
    if not isinstance(rows, list):
        raise ConfigError(f"{path} holds no list", hint)
    for number, values in enumerate(rows, start=1):
        if not isinstance(values, dict):
            raise ConfigError(f"{path}, row {number}: this is no JSON object", hint)
        yield Row(path, f"row {number}", values)


def _csv(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise ConfigError(f"{path}, line 1: two columns are called {twice!r}", "give each column a name of its own")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise ConfigError(
                    f"{path}, line {reader.line_num}: {len(values)} values, where the header has {len(header)} columns",
                    "repair the line: a value with a comma or a line break stands in quotes",
                )
            yield Row(path, f"line {reader.line_num}", dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}", "repair the CSV file") from error


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{path} is Parquet, which needs the library pyarrow, and that cannot be imported: {error}",
            'pip install "enginegate[data]", or give the data as JSON Lines',
        ) from error
    with edge(ConfigError, f"{path} cannot be read as a Parquet file", "give one, or say what format it has"):
        table = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(path, f"row {number}", values)


_READERS = {"jsonl": _json_lines, "json": _json, "csv": _csv, "parquet": _parquet}


def read_mmlu(folder: Path, split: str) -> Iterator[Row]:
    """The rows of the original MMLU: ``SUBJECT_{split}.csv`` without a header, in ``folder`` or in ``split`` inside.

    Raises ConfigError where there are none, or a line is not a question, four choices and a letter.
    """
    pattern = f"*_{split}.csv"
    files = sorted(folder.glob(pattern)) or sorted((folder / split).glob(pattern))
    if not files:
        raise ConfigError(
            f"{folder} has no file {pattern}, in itself or in {split}/",
            "name a file of questions, or the data folder of the original MMLU",
        )
    for file in files:
        reader = csv.reader(io.StringIO(read_text(file), newline=""))
        subject = file.name.removesuffix(pattern[1:])
        try:
            for row in reader:
                number = f"line {reader.line_num}"
                if len(row) != 6 or row[5].strip() not in ("A", "B", "C", "D"):
                    raise ConfigError(
                        f"{file}, {number}: not a question, four choices and a letter A to D",
                        "use the CSV files as MMLU publishes them, without a header",
                    )
                values = {"question": row[0], "subject": subject, "choices": row[1:5], "answer": row[5]}
                yield Row(file, number, values)
        except csv.Error as error:
            raise ConfigError(f"{file}, line {reader.line_num}: {error}", "repair the CSV file") from error
