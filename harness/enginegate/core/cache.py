"""How a folder appears in the cache whole or not at all.

Everything kept here can be made again. Whoever makes something holds a lock on its name, works in a folder beside
it and renames that into place, so that a process killed at any moment leaves either the whole thing or nothing that
anybody would read, and several processes that want the same thing make it once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from enginegate.core.errors import DISK_FULL, ConfigError, EngineGateError, describe, edge
from enginegate.core.files import expanded
from enginegate.core.progress import Progress as Progress
from enginegate.core.progress import lasting
from enginegate.core.specs import DEFAULT_TIMEOUTS, Limit

#: Of whoever has no configuration: as long as a build may be silent.
_WAIT = Limit(DEFAULT_TIMEOUTS.build)
_TEMPORARY = ".tmp-"
#: How a file system says that it has no locks; older versions of filelock raise NotImplementedError.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
#: A library written in C++ may report a full disk as any exception; with less than this left, the disk is the reason.
_NEARLY_FULL_BYTES = 4 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where models, engines and reference scores are kept: $ENGINEGATE_CACHE, else the platform's cache folder.

    Raises ConfigError where that is something else than a folder, or there is no home to keep it in.
    """
    named = os.environ.get("ENGINEGATE_CACHE")
    if named:
        folder = expanded(named).absolute()
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(f"the cache {folder} is no folder", "point $ENGINEGATE_CACHE at one")
        return folder
    import platformdirs

    hint = "point $ENGINEGATE_CACHE at a folder, or set $HOME"
    with edge(ConfigError, "there is no folder for the cache", hint):
        folder = Path(platformdirs.user_cache_dir("enginegate"))
    if not folder.is_absolute():  # "~" that nobody could expand: taken as it is, it would be a folder of that name here
        raise ConfigError(
            f"there is no folder for the cache: {folder} is no whole path, so this user has no home folder",
            hint,
        )
    return folder


@contextmanager
def exclusive(target: Path, progress: Progress | None = None, limit: Limit = _WAIT) -> Iterator[None]:
    """Hold the lock on ``target``'s name, waiting for whoever holds it now. The system frees a dead process's lock.

    For those who write. What is only read needs none: a folder appears whole (see ``staged``), and a cache may be
    read-only or somebody else's.

    Args:
        target: what is about to be made, replaced or removed; it need not exist.
        progress: told once when there is somebody to wait for; without it, a held lock raises ``filelock.Timeout``.
        limit: of the whole wait, as another process's lock shows no progress.

    Raises:
        EngineGateError: the lock was held for longer than that.
        OSError: the folder cannot be written, or its file system knows no locks; see ``writing``.
    """
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress is None:
            raise
        waiting = f"waiting for another process that is making {target.name}"
        try:
            with lasting(progress, waiting):
                lock.acquire(timeout=limit.seconds)
        except Timeout as error:
            raise EngineGateError(
                f"another process has held the lock {lock.lock_file} for {limit.seconds:g} s",
                f"see whose it is (`fuser {lock.lock_file}`) and end that process if it hangs, or wait and try again; "
                + (f"{limit.hint}; " if limit.key else "")
                + "removing the file does not help",
            ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), lock.lock_file) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give an empty folder that replaces ``target``, synced to disk, when the block ends without an exception.

    Only under ``exclusive(target)``: folders that killed processes left for the same target are swept here.
    """
    sweep(target)
    folder = _temporary_for(target)
    folder.mkdir()
    try:
        yield folder
        _sync_tree(folder)
        if target.exists():
            discard(target)
        folder.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(target: Path) -> None:
    """Remove what killed processes left half made for ``target``. Only under ``exclusive(target)``."""
    for leftover in target.parent.glob(f"{target.name}{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def discard(target: Path) -> None:
    """Remove a folder so that no reader ever sees a part of it. Only under ``exclusive(target)``."""
    doomed = _temporary_for(target)
    target.rename(doomed)
    shutil.rmtree(doomed)


def leftover_targets(folder: Path) -> list[Path]:
    """The names in ``folder`` for which somebody died, or is at work now: what ``sweep`` may be called on."""
    names = {path.name.split(_TEMPORARY)[0] for path in folder.glob(f"*{_TEMPORARY}*") if path.is_dir()}
    return [folder / name for name in sorted(names)]


@contextmanager
def writing(folder: Path, kind: type[EngineGateError], what: str) -> Iterator[None]:
    """Around all that writes into the cache: ``explained``, and whatever else a lock or a disk raises is ``kind``."""
    hint = f"look at {folder}, or point $ENGINEGATE_CACHE at another folder"
    with edge(kind, f"{what} cannot be written to {folder}", hint), explained(folder, kind):
        yield


@contextmanager
def explained(folder: Path, kind: type[EngineGateError]) -> Iterator[None]:
    """Turn an exception that comes from ``folder`` being full or not writable into an error that says so.

    Inside ``staged``, so that the free space is looked at before the half-made folder is removed.
    """
    try:
        yield
    except kind:
        raise
    except Exception as error:
        diagnosis = _diagnose(error, folder)
        if diagnosis is None:
            raise
        raise kind(*diagnosis) from error


def _diagnose(error: BaseException, folder: Path) -> tuple[str, str] | None:
    """The problem and the hint where an exception means that ``folder`` is full or not writable, else None."""
    try:
        free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    except OSError:  # a folder that cannot even be looked at: its free space is no clue
        free = None
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        full = number in DISK_FULL or os.strerror(errno.ENOSPC) in describe(cause)
        if full or (number is None and free is not None and free < _NEARLY_FULL_BYTES):
            space = "unknown" if free is None else f"{free / 1e6:,.0f} MB"
            return (
                f"cannot write to {folder}: {os.strerror(number) if number else 'No space left on device'} "
                f"({space} free)",
                "make room there (`enginegate engines prune --keep 20GB` drops the engines used longest ago), "
                "or point $ENGINEGATE_CACHE at a larger disk",
            )
        if number in _READ_ONLY and isinstance(cause, OSError) and _within(cause.filename, folder):
            return (
                f"cannot write to {folder}: {os.strerror(number or 0)}",
                "make the folder writable, or point $ENGINEGATE_CACHE at one that is",
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _within(name: object, folder: Path) -> bool:
    """Whether the path that an OSError names lies in ``folder`` or is one of its parents (making the folder failed)."""
    if not isinstance(name, (str, bytes)):
        return False
    path = Path(os.fsdecode(name)).absolute()
    return path.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(path)


def _temporary_for(target: Path) -> Path:
    return target.with_name(f"{target.name}{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
