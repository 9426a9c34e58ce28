"""Which processes of the machine belong to this session.

A session is the process that began it (pytest, or the controller of pytest-xdist) and everything below that: workers,
engines in processes of their own, builds. Where the process that began it has named itself in the environment, all that
it starts inherit the name, also those that outlive the one that started them and so leave the tree; a process that was
forked and has run no program of its own keeps its parent's environment of old, and is found by the tree.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

#: PID namespaces in which everything is ours: of containers that workers of this session run in.
_namespaces: set[str] = set()

#: The environment variable: the process id of the one that began the session, and something that no other has.
SESSION = "ENGINEGATE_SESSION"


def begin_session() -> None:
    """Name this process as the one that began the session, unless it is part of one already."""
    if _first() is None:
        os.environ[SESSION] = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"


def adopt_namespace(name: str) -> None:
    """Take everything in a PID namespace for ours, as ``/proc/PID/ns/pid`` names it, unless it is our own."""
    if name and name != _namespace_of(os.getpid()):
        _namespaces.add(name)


def adopted() -> list[psutil.Process]:
    """The processes in adopted namespaces, which this machine sees under ids of its own."""
    if not _namespaces:
        return []
    return [each for each in psutil.process_iter() if _namespace_of(each.pid) in _namespaces]


def within(name: str) -> list[psutil.Process]:
    """The processes in an adopted namespace; none in another."""
    return [each for each in adopted() if _namespace_of(each.pid) == name]


def _namespace_of(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # gone, another user's, or another system
        return ""


def foreign(pids: Iterable[int]) -> list[int]:
    """Those of ``pids`` that do not belong to this session, in order.

    A process that cannot be looked at, such as one of another user or container, does not. Without a named session,
    ours are this process, those above it and those below it.
    """
    asked = sorted(pids)
    if not asked:
        return []
    first = _first()
    own = psutil.Process()
    family = {process.pid for process in (first or own).children(recursive=True)} | {(first or own).pid}
    if first is None:
        family |= {process.pid for process in own.parents()}
    family |= {process.pid for process in adopted()}
    return [pid for pid in asked if pid not in family and not (first and _inherits(pid))]


def _first() -> psutil.Process | None:
    """The process that began the session: this one, or one above it. None where none is named, or it is not above."""
    named = os.environ.get(SESSION, "").partition("-")[0]
    if not named:
        return None
    own = psutil.Process()
    return next((process for process in (own, *own.parents()) if str(process.pid) == named), None)


def _inherits(pid: int) -> bool:
    """Whether the process was started with this session's name in its environment."""
    with suppress(psutil.Error, OSError):
        return bool(psutil.Process(pid).environ().get(SESSION) == os.environ[SESSION])
    return False
