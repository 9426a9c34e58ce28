"""Scores of the quality reference are kept like an engine: under a key of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

import enginegate
from enginegate.config.loading import Config
from enginegate.core.cache import Progress, exclusive, writing
from enginegate.core.errors import StoreError
from enginegate.core.files import write_atomically
from enginegate.core.records import Stored
from enginegate.quality.sets import resolve_sets
from enginegate.quality.text import Answer

PACKAGE = Path(enginegate.__file__).parent
Kept = TypeVar("Kept", bound=Stored)


class Answers(Stored):
    """Greedy answers by item hash."""

    items: dict[str, Answer]


@cache
def code_digest(*rooms: str) -> str:
    """A digest of the package's own code in these rooms; read once, as the code that runs does not change."""
    digest = hashlib.sha256()
    for file in sorted(file for room in rooms for file in (PACKAGE / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def dependency_digest(config: Config, *parts: object, progress: Progress = lambda _: None) -> str:
    """A digest of ``parts`` and of all that decides quality scores: data, sizes, and the code of three rooms.

    Data that are not on this disk yet are fetched. Raises ConfigError.
    """
    data = resolve_sets(config, progress)
    code = code_digest("quality", "engines", "models")
    known = json.dumps([config.file.quality.model_dump(), data, code, *parts], sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def load_or_measure(
    path: Path, kind: type[Kept], measure: Callable[[], Kept], progress: Progress = lambda _: None
) -> Kept:
    """What ``path`` holds, else what ``measure`` gives, then written there in one step; a damaged file is replaced.

    Where two processes ask at once, one measures and the other waits for it. A cache that cannot be written is read
    all the same; what it lacks is measured each time, and ``progress`` is told.
    """
    if (kept := _kept(path, kind)) is not None:
        return kept
    with ExitStack() as held:
        try:
            with writing(path.parent, StoreError, path.name):
                held.enter_context(exclusive(path, progress))
        except StoreError as error:
            progress(f"warning: {error.problem}: what is measured now is not kept")
            return measure()
        if (kept := _kept(path, kind)) is not None:
            return kept
        result = measure()
        try:
            with writing(path.parent, StoreError, path.name):
                write_atomically(path, result.model_dump_json())
        except StoreError as error:
            progress(f"warning: {error.problem}: what was measured is not kept")
        return result


def _kept(path: Path, kind: type[Kept]) -> Kept | None:
    """What a file holds; None where it cannot be read, or is damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
