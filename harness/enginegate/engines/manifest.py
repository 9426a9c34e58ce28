"""What the engine store notes about an engine: its manifest, and the key that it is found by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from enginegate.core.cache import file_sha256
from enginegate.core.records import Stored
from enginegate.core.specs import EngineSpec, engine_id
from enginegate.models.checkpoint import Checkpoint

#: Raised when the meaning of a manifest's field or of a key changes; older entries are then never found again.
SCHEMA = 1


class FileEntry(Stored):
    """One file of an engine: bytes, and SHA-256 of the content."""

    size: int
    sha256: str


class Manifest(Stored):
    """One stored engine: what it was built from, by what, and every byte it consists of.

    Attributes:
        spec: the EngineSpec in full, as fields.
        versions: the backend's own statement of the libraries that decide what is built.
        architecture: always empty; a GPU's is in ``versions`` where it decides what is built. Kept, as it is in the
            manifests and keys of engines that are in caches already.
        checkpoint_source: source of the checkpoint as written in the config that built it.
        files: by path relative to the engine's folder, POSIX form.
        build_seconds: what the backend took.
        created: UTC, ISO 8601.
        checksum: SHA-256 of all the other fields, so that a manifest that changed is noticed too.
    """

    schema_version: int
    key: str
    spec: dict[str, Any]
    backend: str
    versions: str
    architecture: Literal[""] = ""
    checkpoint_digest: str
    checkpoint_source: str
    files: dict[str, FileEntry]
    build_seconds: float
    created: str
    checksum: str = Field(default="")

    @property
    def size_bytes(self) -> int:
        """Size of the engine on disk."""
        return sum(file.size for file in self.files.values())

    @property
    def label(self) -> str:
        """The engine's name for a person."""
        model, backend, precision = (str(self.spec.get(name, "?")) for name in ("model", "backend", "precision"))
        return engine_id(model, backend, precision, str(self.spec.get("variant", "")))

    def sealed(self) -> Manifest:
        """The same manifest with its checksum filled in."""
        return self.model_copy(update={"checksum": _digest(self.model_dump(exclude={"checksum"}))})


class DamagedEntry(Exception):  # noqa: N818 - no error of the suite: the store handles it by building again
    """An entry that is missing or cannot be trusted, and why."""


def engine_key(spec: EngineSpec, checkpoint: Checkpoint, backend_name: str, backend_version: str) -> str:
    """The name under which an engine is kept: SHA-256 over everything that decides what is built, and nothing else.

    Of the spec that is all but the model's name, the variant's and the path of the calibration passages: the digests of
    the checkpoint and of the passages stand for their contents, wherever they lie and whatever they are called.
    """
    build = asdict(spec)
    del build["model"], build["variant"], build["quantization"]["calibration"]
    return _digest(
        {
            "schema": SCHEMA,
            "checkpoint": checkpoint.digest,
            "spec": build,
            "backend": backend_name,
            "versions": backend_version,
            "architecture": "",
        }
    )


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check that it is whole. Raises DamagedEntry."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DamagedEntry(f"{path.name} is missing") from None
    except OSError as error:
        raise DamagedEntry(f"{path.name} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DamagedEntry(f"{path.name} is not a manifest: {error.errors()[0]['msg']}") from error
    if manifest.schema_version != SCHEMA:
        raise DamagedEntry(f"{path.name} has schema {manifest.schema_version}, not {SCHEMA}")
    if manifest.sealed() != manifest:
        raise DamagedEntry(f"{path.name} was changed after the build")
    return manifest


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Size and content hash of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(size=path.stat().st_size, sha256=file_sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compare_files(folder: Path, expected: Mapping[str, FileEntry]) -> list[str]:
    """What differs between a folder and the files it should hold; contents are read only where all sizes are right."""
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - present.keys())]
    problems += [f"{name} does not belong to the engine" for name in sorted(present.keys() - expected.keys())]
    for name in sorted(expected.keys() & present.keys()):
        size = present[name].stat().st_size
        if size != expected[name].size:
            problems.append(f"{name} is {size} bytes, not {expected[name].size}")
    if problems:
        return problems
    return [f"{name} has another content" for name in expected if file_sha256(present[name]) != expected[name].sha256]


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
