"""The engine store: every engine is built once, kept by its content, and checked before it is used.

``<root>/engines/<key>/`` holds ``engine/`` (what the backend wrote), ``manifest.json`` and ``last_used``, an empty
file whose modification time says when the engine was last asked for and whose lock says that a process uses it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import Timeout

from enginegate.core.cache import Progress, discard, exclusive, explained, leftover_targets, staged, sweep, writing
from enginegate.core.errors import EngineError, StoreError, edge
from enginegate.core.files import read_json, write_atomically
from enginegate.core.progress import lasting
from enginegate.core.specs import EngineSpec, engine_id
from enginegate.engines.base import Backend
from enginegate.engines.manifest import (
    SCHEMA,
    DamagedEntry,
    Manifest,
    compare_files,
    describe_files,
    engine_key,
    read_manifest,
)
from enginegate.engines.process.building import build_limit
from enginegate.engines.registry import version
from enginegate.engines.requests import eos_token_ids
from enginegate.models.checkpoint import Checkpoint

_KEY = re.compile(r"[0-9a-f]{64}")
_ENGINE, _MANIFEST, _LAST_USED = "engine", "manifest.json", "last_used"


@dataclass(frozen=True)
class StoreEntry:
    """One engine in the store.

    Attributes:
        path: folder of the engine's files, what ``Backend.load`` takes.
        manifest: what it was built from.
        last_used: seconds since the epoch.
    """

    path: Path
    manifest: Manifest
    last_used: float

    @property
    def key(self) -> str:
        """The name of the entry."""
        return self.manifest.key


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one entry. ``label`` is empty where the manifest cannot be trusted."""

    key: str
    label: str
    reason: str


@dataclass(frozen=True)
class Removed:
    """One entry that was removed, and the bytes that this freed. ``label`` as in Problem."""

    key: str
    label: str
    size_bytes: int


class EngineStore:
    """Engines kept below a cache folder, shared by any number of processes.

    An engine that this object gave out counts as in use, and no process prunes it, until ``close`` or the end of the
    process. For one thread; every process makes its own.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root.absolute() / "engines"
        self._in_use: dict[str, int] = {}

    def get(self, spec: EngineSpec, checkpoint: Checkpoint, backend: Backend, *, progress: Progress) -> StoreEntry:
        """The engine for a spec, built now where it is not there or is damaged.

        Every byte is compared with the manifest each time: reading costs less than loading the engine, and nothing
        else notices a byte that changed while the file's size and times did not.

        Args:
            spec: what to build.
            checkpoint: what to build it from.
            backend: what builds it.
            progress: told when something is built, waited for or found damaged.

        Raises:
            StoreError: the cache is full or not writable.
            EngineGateError: another process was building it for longer than ``build_limits`` says.
            EngineError: the backend could not build it, whatever its library raised, or wrote nothing.
        """
        key = engine_key(spec, checkpoint, backend.name, version(backend))
        with suppress(DamagedEntry):  # looked at again under the lock: another process may build or fix it now
            return self._take(key)
        target = self._folder / key
        with writing(self._folder, StoreError, f"the engine {spec.id}"), exclusive(target, progress, build_limit()):
            try:
                return self._take(key)
            except DamagedEntry as reason:
                if target.exists():
                    progress(f"warning: the stored engine {spec.id} is damaged ({reason}): building it again")
            building = lasting(progress, f"building {spec.id}", self._seconds_of_last_build(spec))
            with staged(target) as folder, explained(self._folder, StoreError), building:
                _build(folder, key, spec, checkpoint, backend, progress)
            try:
                return self._take(key)
            except DamagedEntry as reason:
                raise StoreError(
                    f"the engine {spec.id} changed on disk while it was stored: {reason}",
                    f"check the disk that holds {self._folder}, or point $ENGINEGATE_CACHE at another one",
                ) from reason

    def ls(self) -> list[StoreEntry]:
        """Every entry whose manifest can be trusted, the one used last first. Contents are not read."""
        entries = []
        for key in self._keys():
            with suppress(DamagedEntry):
                entries.append(self._entry(key))
        return sorted(entries, key=lambda entry: -entry.last_used)

    def unlisted(self, listed: Sequence[StoreEntry]) -> int:
        """How many entries ``ls``, which gave ``listed``, left out, as their manifests cannot be trusted."""
        return len(self._keys()) - len(listed)

    def verify(self) -> list[Problem]:
        """What is wrong with the entries; reads every byte of the store."""
        problems = []
        for key in self._keys():
            label = ""
            try:
                entry = self._entry(key)
                label = entry.manifest.label
                _check_contents(entry)
            except DamagedEntry as reason:
                problems.append(Problem(key, label, str(reason)))
        return problems

    def prune(self, keep_bytes: int) -> list[Removed]:
        """Remove the entries used longest ago until the rest fits in ``keep_bytes``.

        Entries whose manifest cannot be trusted go in any case, and so does what killed builds left. Entries in use
        or being built stay, and count.

        Raises:
            StoreError: the cache is not writable.
        """
        with writing(self._folder, StoreError, "what is left of the engines"):
            for target in leftover_targets(self._folder):
                with suppress(Timeout), exclusive(target):
                    sweep(target)
            known = {entry.key: entry for entry in self.ls()}
            sizes = {key: _size(self._folder / key) for key in self._keys()}
            total = sum(sizes.values())
            removed = []
            for key in sorted(sizes, key=lambda key: known[key].last_used if key in known else 0.0):
                if (key not in known or total > keep_bytes) and self._discard_unless_used(key):
                    total -= sizes[key]
                    removed.append(Removed(key, known[key].manifest.label if key in known else "", sizes[key]))
            return removed

    def remove(self, key: str) -> Removed:
        """Remove one entry. Raises StoreError where there is none of that key, it is in use, or cannot be removed."""
        if key not in self._keys():
            raise StoreError(f"no engine {key} in {self._folder}", "see `enginegate engines ls`")
        label = next((entry.manifest.label for entry in self.ls() if entry.key == key), "")
        size = _size(self._folder / key)
        with writing(self._folder, StoreError, f"the end of the engine {key}"):
            if not self._discard_unless_used(key):
                raise StoreError(f"the engine {key} is in use or being built", "wait for the process that uses it")
        return Removed(key, label, size)

    def close(self) -> None:
        """Declare every engine that this object gave out as no longer in use."""
        while self._in_use:
            os.close(self._in_use.popitem()[1])

    def _keys(self) -> list[str]:
        with edge(StoreError, f"the engine store {self._folder} cannot be read"):
            if not self._folder.is_dir():
                return []
            return sorted(path.name for path in self._folder.iterdir() if _KEY.fullmatch(path.name) and path.is_dir())

    def _seconds_of_last_build(self, spec: EngineSpec) -> float | None:
        """What an engine of the same name took when one was last built here; None where none was."""
        label = engine_id(spec.model, spec.backend, spec.precision)
        like = [entry.manifest for entry in self.ls() if entry.manifest.label == label]
        return max(like, key=lambda manifest: manifest.created).build_seconds if like else None

    def _entry(self, key: str) -> StoreEntry:
        """One entry by its manifest alone. Raises DamagedEntry."""
        folder = self._folder / key
        manifest = read_manifest(folder / _MANIFEST)
        if manifest.key != key:
            raise DamagedEntry(f"its manifest is of another engine, {manifest.key}")
        try:
            last_used = (folder / _LAST_USED).stat().st_mtime
        except OSError as error:
            raise DamagedEntry(f"{_LAST_USED}: {error.strerror}") from error
        return StoreEntry(folder / _ENGINE, manifest, last_used)

    def _take(self, key: str) -> StoreEntry:
        """One entry, its contents checked, marked as used now and in use from now on. Raises DamagedEntry.

        Needs no writable cache.
        """
        marker = self._folder / key / _LAST_USED
        descriptor = _lock_shared(marker)
        try:
            entry = self._entry(key)
            _check_contents(entry)
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(OSError):  # a read-only cache is still good to read from
            os.utime(marker)
        if key in self._in_use:
            os.close(self._in_use[key])
        self._in_use[key] = descriptor
        return entry

    def _discard_unless_used(self, key: str) -> bool:
        """Remove an entry and say True, or leave it and say False where it is in use or being built."""
        target = self._folder / key
        try:
            with exclusive(target), _locked_alone(target / _LAST_USED):
                discard(target)
        except (Timeout, BlockingIOError):
            return False
        return True


def _build(
    folder: Path, key: str, spec: EngineSpec, checkpoint: Checkpoint, backend: Backend, progress: Progress
) -> None:
    """Fill an entry's folder: the engine first, then the manifest that describes it."""
    engine = folder / _ENGINE
    engine.mkdir()
    started = time.monotonic()
    hint = "build it alone (`enginegate engines build`), and look into the library's log"
    with edge(EngineError, f"the backend {backend.name} could not build {spec.id}", hint):
        backend.build(spec, checkpoint, engine, progress)
    _keep_ends(checkpoint, engine)
    seconds = time.monotonic() - started
    files = describe_files(engine)
    if not files:
        raise EngineError(f"the backend {backend.name} built {spec.id} without writing a file")
    manifest = Manifest(
        schema_version=SCHEMA,
        key=key,
        spec=asdict(replace(spec, variant="")),  # the files are those of every variant that is built alike
        backend=backend.name,
        versions=version(backend),
        checkpoint_digest=checkpoint.digest,
        checkpoint_source=checkpoint.source,
        files=files,
        build_seconds=seconds,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    ).sealed()
    (folder / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / _LAST_USED).touch()


def _keep_ends(checkpoint: Checkpoint, engine: Path) -> None:
    """Tell the engine the tokens that end an answer where the tokenizer alone names them: no engine reads that."""
    if not checkpoint.end_ids or eos_token_ids(checkpoint.path):
        return
    file = engine / "generation_config.json"
    kept = read_json(file, EngineError, "build it again") if file.is_file() else {}
    # In a new file: the one that is there may be a link to the checkpoint's.
    write_atomically(file, json.dumps({**kept, "eos_token_id": list(checkpoint.end_ids)}) + "\n")


def _check_contents(entry: StoreEntry) -> None:
    """Compare an engine's files with its manifest. Raises DamagedEntry."""
    try:
        problems = compare_files(entry.path, entry.manifest.files)
    except OSError as error:
        raise DamagedEntry(f"{error.filename or entry.path} cannot be read: {error.strerror}") from error
    if problems:
        raise DamagedEntry("; ".join(problems[:3]) + (f"; {len(problems) - 3} more" if len(problems) > 3 else ""))


def _lock_shared(marker: Path) -> int:
    """Open an entry's marker and lock it as one of its users. Raises DamagedEntry where there is no such entry."""
    while True:
        try:
            descriptor = os.open(marker, os.O_RDONLY)
        except OSError as error:
            raise DamagedEntry(f"{marker.name}: {error.strerror}") from error
        try:
            with suppress(OSError):  # a file system without locks: nobody can be told that the entry is in use
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_ino == marker.stat().st_ino:
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise DamagedEntry(f"{marker.name}: {error.strerror}") from error
        os.close(descriptor)  # the entry was replaced between the opening and the lock


@contextmanager
def _locked_alone(marker: Path) -> Iterator[None]:
    """Hold an entry's marker against every user. Raises BlockingIOError where there is one."""
    try:
        descriptor = os.open(marker, os.O_RDONLY)
    except FileNotFoundError:
        yield  # a damaged entry, which nobody can use
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
