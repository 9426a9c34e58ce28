"""Being somebody else for a while, so that the rights of a folder count although the tests may run as root."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The user whom every system has and who owns nothing.
_NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Meanwhile this process may do no more than any user may: root's rights are put aside, and taken back."""
    if os.geteuid():
        yield
        return
    group = os.getegid()
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextmanager
def folder_of_all() -> Iterator[Path]:
    """A folder that everybody can read: those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="enginegate-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            set_modes(folder, 0o755)


def set_modes(folder: Path, mode: int) -> None:
    """Give a folder and those in it ``mode``, and the files in them the same without the right to execute."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o666)
