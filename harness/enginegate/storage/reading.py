"""Reading JSON from disk, strictly: one way for records, baselines, audits and other tools' files. It fails closed."""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from enginegate.core.errors import EngineGateError
from enginegate.core.files import first_problem
from enginegate.core.records import Stored
from enginegate.storage.migration import Step, migrate

Kind = TypeVar("Kind", bound=Stored)

#: Bytes beyond which a file is not read, packed or unpacked: the largest record kept here has one MB.
MAX_BYTES = 256 * 2**20
_GZIP = b"\x1f\x8b"
#: Whole numbers of 64 bits, with a sign or without; and the most characters that one has.
_WHOLE, _LONGEST_WHOLE = range(-(2**63), 2**64), 20


def read_strictly(path: Path) -> Any:
    """The JSON in a file: UTF-8, UTF-16 or UTF-32, with or without a byte order mark, or any of that packed by gzip.

    NaN and infinity, which are no JSON but are written by many, become None. Whole numbers beyond 64 bits become
    floats.

    Raises:
        OSError: it is not there, is a folder, or cannot be read.
        ValueError: it is empty, too large or no JSON, nests too deeply, names one key of an object twice, or has a
            number that no float holds.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if data.startswith(_GZIP):
        data = _unpacked(data)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 2**20} MiB")
    if not data.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(
            data.decode(json.detect_encoding(data)),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=lambda _: None,
        )
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _unpacked(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            return packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"what gzip packed is damaged: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"{repeated(key for key, _ in pairs)!r} is there twice in one object")
    return found


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:24]} is a number that no float holds")
    return value


def _int(text: str) -> int | float:
    if len(text) > _LONGEST_WHOLE:  # Python refuses to read thousands of digits
        return _float(text)
    value = int(text)
    return value if value in _WHOLE else float(value)


def repeated(names: Iterable[object]) -> object | None:
    """The first name that is there twice, or None."""
    seen: set[object] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def table_problem(columns: Sequence[str], items: Mapping[str, Sequence[float]]) -> str | None:
    """What is wrong with the layout of per-item numbers, or None: each item has one number for each column."""
    twice = repeated(columns)
    if twice is not None:
        return f"column {twice} is there twice"
    odd = next((item for item, row in items.items() if len(row) != len(columns)), None)
    return None if odd is None else f"item {odd} has {len(items[odd])} numbers, not {len(columns)}"


@dataclass(frozen=True)
class Format(Generic[Kind]):
    """One kind of file.

    Attributes:
        kind: the model that its content must fit.
        what: its name in messages, e.g. ``baseline``.
        schema: the version that is read.
        steps: how older versions become that one.
        error: what is raised.
        hint: what to do about a file that cannot be used.
        problem: what is wrong with a content whose every field fits, or None: what is there twice, say.
    """

    kind: type[Kind]
    what: str
    schema: int
    steps: Mapping[int, Step]
    error: type[EngineGateError]
    hint: str
    problem: Callable[[Kind], str | None] = lambda _: None

    def read(self, path: Path) -> Kind | None:
        """The file's content, migrated where it is of an older schema; None where there is no file.

        Raises ``error`` where it cannot be read, is damaged, or is of a schema that this version does not know.
        """
        try:
            content = read_strictly(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.error(
                f"{self.what} {path} cannot be read: {error.strerror or error}", "check the path and its permissions"
            ) from error
        except ValueError as error:
            raise self.error(f"{self.what} {path} is not valid JSON ({error}); it may be cut off", self.hint) from error
        return self.validated(content, path)

    def validated(self, content: Any, path: Path) -> Kind:
        """What ``read_strictly`` found at ``path``, as ``read`` gives it. Raises ``error``.

        A number must be a number: neither ``true`` nor a text is one.
        """
        from pydantic import ValidationError

        if not isinstance(content, dict) or "schema_version" not in content:
            raise self.error(f"{path} is JSON, but not a {self.what}", self.hint)
        try:
            content = migrate(content, self.steps)
            if content["schema_version"] != self.schema:
                raise self.error(
                    f"{self.what} {path} has schema version {str(content['schema_version'])[:40]}; this enginegate"
                    f" reads versions up to {self.schema}",
                    f"read it with the enginegate that wrote it; else {self.hint}",
                )
            found = self.kind.model_validate_json(json.dumps(content), strict=True)
            problem = self.problem(found)
        except (ValueError, RecursionError) as error:
            what = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise self.error(f"{self.what} {path} is damaged: {what}", self.hint) from error
        if problem is not None:
            raise self.error(f"{self.what} {path} is damaged: {problem}", self.hint)
        return found
