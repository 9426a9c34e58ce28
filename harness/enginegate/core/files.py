"""Files and JSON: floats rounded, text laid out for review, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.core.errors import ConfigError, EngineGateError, edge

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Significant digits that are kept of every stored float: 100 ns in a second, far below what a clock resolves here.
DIGITS = 7
#: Characters of a line of JSON beyond which an object with named numbers in it is laid out over several.
_LONGEST_LINE = 480


def round_floats(value: Any, digits: int = DIGITS) -> Any:
    """The same JSON-able value with every float rounded to ``digits`` significant digits. Idempotent.

    What is not finite becomes None: JSON knows neither NaN nor infinity.
    """
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: round_floats(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item, digits) for item in value]
    return value


def to_json(value: Any) -> str:
    """JSON with one line for each innermost list or object, so that a diff shows one item a line.

    An object may have a few named numbers in it and still be one line: a round with its figures.

    Raises ValueError for a number that is not finite: no JSON may hold one (see ``round_floats``).
    """
    return "".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    nested = [child for child in children if isinstance(child, dict | list | tuple)]
    if not nested or (isinstance(value, dict) and all(_is_figures(child) for child in nested)):
        line = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if not nested or len(line) <= _LONGEST_LINE:
            yield line
            return
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    entries = value.items() if isinstance(value, dict) else ((None, child) for child in value)
    yield opening
    for number, (key, child) in enumerate(entries):
        yield ("," if number else "") + f"\n{indent} " + ("" if key is None else f"{json.dumps(key)}: ")
        yield from _lines(child, indent + " ")
    yield f"\n{indent}{closing}"


def _is_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(child, float) for child in value.values())


def expanded(path: str | Path) -> Path:
    """A path as people write it: ``~`` and ``~name`` are home folders. Raises ConfigError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{str(path)!r} begins in a home folder that nobody knows: {error}", "write the whole path, or set $HOME"
        ) from error


def read_json(path: Path, kind: type[EngineGateError], hint: str) -> dict[str, Any]:
    """The JSON object in a file. Raises ``kind`` with ``hint`` where it is missing, unreadable or no object."""
    with edge(kind, f"{path} cannot be read", hint):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise kind(f"{path} is missing", hint) from None
    if not isinstance(content, dict):
        raise kind(f"{path} is not a JSON object", hint)
    return content


def write_atomically(path: Path, text: str) -> None:
    """Write ``text``, its line endings as they are, so that ``path`` holds its old content or all of the new.

    A file that is there keeps its mode. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's complaints as ``where: what``, and how many more there are."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg']}{rest}"
