"""A folder of somebody else, and no more rights to it than any user has, although the tests may run as root."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The user whom every system has, and who runs no tests.
_SOMEBODY = 65534
#: Version 3 of the kernel's interface: two words of 32 capabilities. Of the first: root's rights to the files of others
#: (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER).
_VERSION = 0x20080522
_RIGHTS = 0b1110


@contextmanager
def belonging_to_somebody(folder: Path, mode: int = 0o755) -> Iterator[None]:
    """Meanwhile a folder and all in it are somebody else's, with this mode (of files: without the right to execute).

    A common user cannot give files away: there they stay the user's own, who may not write them.
    """
    root = os.geteuid() == 0
    paths = [folder, *sorted(folder.rglob("*"))]
    kept = [(path, path.stat()) for path in paths]
    for path, status in reversed(kept):
        path.chmod((mode if root else mode & 0o555) & (0o777 if path.is_dir() else 0o666))
        if root:
            os.chown(path, _SOMEBODY, _SOMEBODY)
        del status
    try:
        yield
    finally:
        for path, status in kept:
            if root:
                os.chown(path, status.st_uid, status.st_gid)
            path.chmod(status.st_mode & 0o777)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Meanwhile this thread may do with files what any user may: root's rights are put aside, and taken back."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of either word

    def call(name: str) -> None:
        if getattr(libc, name)(header, held):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call("capget")
    before = held[0]
    held[0] = before & ~_RIGHTS
    call("capset")
    try:
        yield
    finally:
        held[0] = before
        call("capset")
