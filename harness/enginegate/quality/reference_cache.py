"""Scores of the quality reference are kept like an engine: under a key of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import ValidationError

import enginegate
from enginegate.config.loading import Config
from enginegate.core.files import write_atomically
from enginegate.core.records import Stored
from enginegate.quality.text import Answer

PACKAGE = Path(enginegate.__file__).parent
Kept = TypeVar("Kept", bound=Stored)


class Answers(Stored):
    """Greedy answers by item hash."""

    items: dict[str, Answer]


def dependency_digest(config: Config, *parts: object) -> str:
    """A digest of ``parts`` and of all that decides quality scores: data, sizes, and the code of three rooms."""
    quality = config.file.quality
    files = [config.resolve(name) for name in (quality.prompts, quality.articles, quality.passages, quality.questions)]
    code = sorted(file for room in ("quality", "engines", "models") for file in (PACKAGE / room).rglob("*.py"))
    digest = hashlib.sha256(json.dumps([quality.model_dump(), *parts], sort_keys=True, default=str).encode())
    for path in (*files, *code):
        for file in sorted(path.rglob("*.csv")) if path.is_dir() else [path]:
            digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()[:16]


def load_or_measure(path: Path, kind: type[Kept], measure: Callable[[], Kept]) -> Kept:
    """What ``path`` holds, else what ``measure`` gives, then written there in one step; a damaged file is replaced.

    Where two processes ask at once, one measures and the other waits for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            return kind.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            result = measure()
        write_atomically(path, result.model_dump_json())
        return result
