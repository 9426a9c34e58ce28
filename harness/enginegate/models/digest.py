"""The digest of a checkpoint: one SHA-256 over the names and contents of its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from enginegate.core.cache import Progress, file_sha256
from enginegate.core.files import write_atomically

#: Reading this many bytes takes about a second from a warm cache, so it is announced.
_ANNOUNCE_BYTES = 1 << 30


def folder_digest(folder: Path, *, cache: Path | None, progress: Progress) -> str:
    """SHA-256 over the relative names and contents of a folder's files, hidden ones apart.

    The digest is that of the lines ``name NUL sha256-of-content LF``, sorted by name, names in POSIX form. The
    content hashes are kept in ``cache`` with each file's size and times, and a file is read again when one of those
    moved. The change time is among them because no program can set it: a file whose modification time was put back
    is still noticed.

    Args:
        folder: the checkpoint; symbolic links to files are followed.
        cache: the cache folder; one that cannot be written only means that files are read again next time. None
            for a folder that is about to be renamed, of which nothing is worth noting.
        progress: told when more than a gigabyte has to be read.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _visible_files(folder)}
    stamps = {name: _stamp(path) for name, path in files.items()}
    notes = (
        cache / "digests" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json" if cache else None
    )
    known = _read_notes(notes) if notes else {}
    hashes = {name: content for name, (stamp, content) in known.items() if stamps.get(name) == stamp}
    unread = sorted(files.keys() - hashes.keys())
    size = sum(files[name].stat().st_size for name in unread)
    if size > _ANNOUNCE_BYTES:
        progress(f"hashing {size / 1e9:.1f} GB of {folder}")
    hashes |= {name: file_sha256(files[name]) for name in unread}
    if notes and (unread or known.keys() != files.keys()):
        with suppress(OSError):  # a read-only or full cache costs time on the next call, nothing else
            write_atomically(notes, json.dumps({name: [stamps[name], hashes[name]] for name in files}))
    lines = "".join(f"{name}\0{content}\n" for name, content in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _visible_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_notes(path: Path) -> dict[str, tuple[str, str]]:
    """The notes of an earlier call; none where there are none, or where they are damaged."""
    try:
        return {name: (stamp, content) for name, (stamp, content) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
