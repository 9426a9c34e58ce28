"""One pass over a checkpoint's bytes: the digest of its names and contents, and weights that are no numbers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.cache import Progress, file_sha256
from enginegate.core.errors import ModelError
from enginegate.core.files import write_atomically
from enginegate.core.progress import Step
from enginegate.models.loading import is_table, shown
from enginegate.models.tensors import read_tensors
from enginegate.models.weights import weight_files

#: Reading this many bytes takes about a second from a warm cache, so it is announced.
_ANNOUNCE_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
#: By element type: the unsigned integer of its width, all bits but the sign, and the smallest such pattern that is
#: infinite or no number. One comparison a value, and no conversion, finds what is not finite.
_NOT_FINITE = {
    "F64": ("<u8", (1 << 63) - 1, 0x7FF0 << 48),
    "F32": ("<u4", (1 << 31) - 1, 0x7F800000),
    "F16": ("<u2", (1 << 15) - 1, 0x7C00),
    "BF16": ("<u2", (1 << 15) - 1, 0x7F80),
    "F8_E5M2": ("u1", (1 << 7) - 1, 0x7C),
    "F8_E4M3": ("u1", (1 << 7) - 1, 0x7F),
    "F8_E8M0": ("u1", (1 << 8) - 1, 0xFF),
}


@dataclass(frozen=True)
class FileContent:
    """What one file holds.

    Attributes:
        sha256: of its bytes.
        not_finite: by tensor, how many of its values are NaN or infinite; only those that have some.
    """

    sha256: str
    not_finite: Mapping[str, int]


def folder_digest(folder: Path, *, cache: Path | None, progress: Progress) -> str:
    """SHA-256 over the relative names and contents of a folder's files, hidden ones apart.

    The digest is that of the lines ``name NUL sha256-of-content LF``, sorted by name, names in POSIX form. What a file
    holds is kept in ``cache`` with its size and times, and it is read again when one of those moved. The change time
    is among them because no program can set it: a file whose modification time was put back is still noticed.

    Args:
        folder: the checkpoint; symbolic links to files are followed.
        cache: the cache folder; one that cannot be written only means that files are read again next time. None
            for a folder that is about to be renamed, of which nothing is worth noting.
        progress: told when more than a gigabyte has to be read.

    Raises:
        ModelError: weights of the model are NaN or infinite.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _visible_files(folder)}
    contents = _contents(folder, files, cache, progress)
    _check_finite(folder, contents)
    lines = "".join(f"{name}\0{content.sha256}\n" for name, content in sorted(contents.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_digest(file: Path, *, cache: Path, progress: Progress) -> str:
    """SHA-256 of one file's content, kept in ``cache`` as those of a folder's files are. Raises OSError."""
    return _contents(file, {file.name: file}, cache, progress)[file.name].sha256


def _contents(place: Path, files: Mapping[str, Path], cache: Path | None, progress: Progress) -> dict[str, FileContent]:
    """What each file holds, read only where its size or times are not those that were noted for ``place``."""
    stamps = {name: _stamp(path) for name, path in files.items()}
    notes = (
        cache / "digests" / f"{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:32]}.json" if cache else None
    )
    known = _read_notes(notes) if notes else {}
    contents = {name: content for name, (stamp, content) in known.items() if stamps.get(name) == stamp}
    unread = sorted(files.keys() - contents.keys())
    size = sum(files[name].stat().st_size for name in unread)
    done = 0
    for name in unread:
        if size > _ANNOUNCE_BYTES:
            progress(Step(f"hashing {place}", f"{done / 1e9:.1f} of {size / 1e9:.1f} GB", share=done / size))
        contents[name] = read_content(files[name])
        done += files[name].stat().st_size
    if notes and (unread or known.keys() != files.keys()):
        kept = {name: [stamps[name], content.sha256, dict(content.not_finite)] for name, content in contents.items()}
        with suppress(OSError):  # a read-only or full cache costs time on the next call, nothing else
            write_atomically(notes, json.dumps(kept))
    return contents


def read_content(path: Path) -> FileContent:
    """Read a file once, for its hash and, where it is safetensors, for what is not finite in it."""
    try:
        tensors = read_tensors(path) if path.suffix == ".safetensors" else {}
    except ModelError:  # no weights of the model, or its check says what is wrong with it
        tensors = {}
    if not tensors:
        return FileContent(file_sha256(path), {})
    sha256 = hashlib.sha256()
    not_finite = {}
    buffer = bytearray(_CHUNK_BYTES)
    with path.open("rb", buffering=0) as file:
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
            count = 0
            for part in _parts(file, buffer, tensor.begin - file.tell()):
                sha256.update(part)  # the header, before the first
            for part in _parts(file, buffer, tensor.end - tensor.begin):
                sha256.update(part)
                count += _count_not_finite(part, tensor.dtype)
            if count:
                not_finite[name] = count
        while size := file.readinto(buffer):
            sha256.update(memoryview(buffer)[:size])
    return FileContent(sha256.hexdigest(), not_finite)


def _parts(file: Any, buffer: bytearray, size: int) -> Iterator[memoryview]:
    """The next ``size`` bytes of a file in parts of whole values. A file that was cut meanwhile ends them early."""
    view = memoryview(buffer)
    while size > 0:
        filled, wanted = 0, min(size, len(view))
        while filled < wanted and (count := file.readinto(view[filled:wanted])):
            filled += count
        if not filled:
            return
        yield view[:filled]
        size -= filled


def _count_not_finite(part: memoryview, dtype: str) -> int:
    if dtype not in _NOT_FINITE:
        return 0
    width, magnitude, smallest = _NOT_FINITE[dtype]
    kind = np.dtype(width)
    bits = np.frombuffer(part[: len(part) // kind.itemsize * kind.itemsize], dtype=kind)
    bits = bits & kind.type(magnitude)
    # Hardly ever is there one, and a maximum needs no memory of its own.
    return int((bits >= smallest).sum()) if bits.size and bits.max() >= smallest else 0


def _check_finite(folder: Path, contents: Mapping[str, FileContent]) -> None:
    """Raise ModelError where the model's own weights are not finite; an adapter beside them is nobody's concern."""
    if not any(content.not_finite for content in contents.values()):
        return
    own = sorted(file.relative_to(folder).as_posix() for file in weight_files(folder))
    found = [
        f"{tensor} in {name}: {count}"
        for name in own
        for tensor, count in sorted(contents[name].not_finite.items())
        if not is_table(tensor)
    ]
    if found:
        raise ModelError(
            f"{folder} has weights that are NaN or infinite, in {len(found)} tensors ({shown(found)})",
            "fetch the checkpoint again; where it was converted or trained so, the numbers overflowed: make it anew in "
            "bf16 or fp32",
        )


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


def _read_notes(path: Path) -> dict[str, tuple[str, FileContent]]:
    """The notes of an earlier call; none where there are none, or where they are damaged or of an older kind."""
    try:
        return {
            name: (stamp, FileContent(content, dict(not_finite)))
            for name, (stamp, content, not_finite) in json.loads(path.read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
