"""A process of its own: what a build or an engine patches, allocates or leaves in the environment goes with it.

Each child leads a session, and so a process group, of its own. It is ended with everything that it started, and no wait
for it is without a limit.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from multiprocessing import connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import enginegate
from enginegate.core.errors import EngineError, EngineGateError
from enginegate.core.specs import Limit

if TYPE_CHECKING:
    import psutil  # imported where it is used: a child in another Python, which may lack it, imports this module

#: Seconds that processes have between SIGTERM and SIGKILL.
GRACE_SECONDS = 5.0
#: Seconds that the system has to carry out a SIGKILL; a process that waits for a driver can take that long.
_KILL_SECONDS = 10.0
#: Of what a child that failed has printed, so many last lines are shown.
_LOG_LINES = 15
_SET_PARENT_DEATH_SIGNAL = 1
_HANDED_OVER = "enginegate hands over "
#: Holds one word for each child above a process, so that it is known as theirs wherever it went.
_MARKS = "ENGINEGATE_CHILD"

#: For ``python -c``; "" is the working directory. Only what is built in may be imported before that is gone.
_RUN_MODULE = """
import sys
if sys.version_info < (3, 10):
    sys.exit("enginegate needs Python 3.10 or later, this is " + sys.version.split()[0])
if sys.path[0] == "":
    del sys.path[0]
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


class ChildProcess:
    """A child process, which ends with everything that it started.

    Args:
        command: what to run.
        log: open file that takes what it prints. A pipe would be read to its end, and a process that the child left
            behind holds that.
        stdin: open file that it reads, or ``subprocess.DEVNULL``.
        stdout: where its standard output goes; None for ``log``.
        python: the Python in ``command``, see ``child_environment``.
        environment: variables besides.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: IO[bytes],
        stdin: IO[bytes] | socket.socket | int = subprocess.DEVNULL,
        stdout: socket.socket | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._mark = uuid4().hex
        marks = f"{os.environ.get(_MARKS, '')} {self._mark}".strip()
        self._popen = subprocess.Popen(
            command,
            stdin=stdin if isinstance(stdin, int) else stdin.fileno(),
            stdout=(stdout or log).fileno(),
            stderr=log,
            env={**child_environment(python), **(environment or {}), _MARKS: marks},
            start_new_session=True,
        )
        _guard.watch(self.pid)
        self._seen: list[psutil.Process] = []
        #: Becomes readable when the child ends; None where the system has no such thing.
        self.ended: int | None = None
        if sys.platform == "linux":
            with suppress(OSError):
                self.ended = os.pidfd_open(self.pid)

    @property
    def pid(self) -> int:
        """The child's process id; also that of its group and its session."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """What the child ended with, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait up to ``seconds`` for the child's end; gives its ``status``. Sleeps all the while."""
        if self.ended is not None:
            connection.wait([self.ended], seconds)
            return self.status
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self.status

    def end(self, patience: float = 0.0) -> None:
        """End the child and all that it started: SIGTERM, and SIGKILL after ``GRACE_SECONDS``.

        Args:
            patience: seconds that the child has to end by itself before.

        Returns when nothing of it is left. Raises EngineError where the system cannot end a process. An interruption
        meanwhile is raised afterwards, and shortens the grace.
        """
        import psutil

        self._seen = self._others()  # when it is gone, nobody knows any more who descended from it
        interrupted: KeyboardInterrupt | None = None
        left: list[int] = []
        try:
            self.wait(patience)
        except KeyboardInterrupt as interruption:
            interrupted = interruption
        for sent, seconds in (
            (signal.SIGTERM, GRACE_SECONDS),
            (signal.SIGKILL, _KILL_SECONDS),
            (signal.SIGKILL, _KILL_SECONDS),  # what was started between the look and the first
        ):
            others = self._others()
            if self.status is not None and not others:
                break
            self._popen.send_signal(sent)
            for other in others:
                with suppress(psutil.Error):
                    other.send_signal(sent)
            try:
                self._await_all(others, seconds)
            except KeyboardInterrupt as interruption:
                interrupted = interruption
        else:
            left = [other.pid for other in self._others()] + ([self.pid] if self.status is None else [])
        if self.ended is not None:
            os.close(self.ended)
            self.ended = None
        if not left:
            _guard.forget(self.pid)
        if interrupted is not None:
            raise interrupted
        if left:
            raise EngineError(
                f"processes {', '.join(map(str, left))} do not end, also when killed",
                "they hang in the system, often in a device's driver; see dmesg",
            )

    def _await_all(self, others: Sequence[psutil.Process], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.wait(seconds)
        while any(map(_alive, others)) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _others(self) -> list[psutil.Process]:
        """Running processes that come from the child: seen before, of its session, descended from it, or marked.

        No one of these finds all. A daemon leaves the session, and what lost its parent has another one; a program that
        writes its own title may overwrite the environment that the system shows.
        """
        import psutil

        descended: set[int] = set()
        if self.status is None:
            with suppress(psutil.Error):
                descended = {each.pid for each in psutil.Process(self.pid).children(recursive=True)}
        found = {
            each
            for each in psutil.process_iter()
            if each.pid not in (self.pid, os.getpid())
            and (each.pid in descended or self._in_session(each.pid) or self._marked(each))
        }
        return [each for each in {*found, *self._seen} if _alive(each)]

    def _in_session(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self.pid
        except OSError:  # gone, or on some systems not ours to ask
            return False

    def _marked(self, process: psutil.Process) -> bool:
        import psutil

        try:
            return self._mark in process.environ().get(_MARKS, "")
        except (psutil.Error, OSError):
            return False


def _alive(process: psutil.Process) -> bool:
    """Whether it runs still; one that has ended and waits for its parent to notice does not."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


class _Guard:
    """A small process that ends the groups of children that are left when this process is gone.

    A child's group is not its parent's, so whoever kills the parent (a terminal, a scheduler, the kernel for want of
    memory) does not reach what the child started. The guard sleeps in a read until that moment.
    """

    _PROGRAM = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._of = 0

    def watch(self, group: int) -> None:
        """End this group when this process ends."""
        if self._popen is None or self._of != os.getpid() or self._popen.poll() is not None:
            self._of = os.getpid()
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", self._PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            atexit.register(self._close, self._popen, self._of)
        self._tell("+", group)

    def forget(self, group: int) -> None:
        """The group has ended."""
        self._tell("-", group)

    def _tell(self, sign: str, group: int) -> None:
        if self._popen is not None and self._popen.stdin is not None and self._of == os.getpid():
            with suppress(OSError):
                self._popen.stdin.write(f"{sign}{group}\n".encode())

    @staticmethod
    def _close(popen: subprocess.Popen[bytes], of: int) -> None:
        if of == os.getpid() and popen.stdin is not None:
            popen.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                popen.wait(timeout=_KILL_SECONDS)


_guard = _Guard()


def run_module(
    module: str,
    job: bytes,
    *,
    subject: str,
    hint: str,
    limit: Limit,
    python: str = sys.executable,
    error: type[EngineGateError] = EngineError,
    answers: bool = False,
) -> Any:
    """Run ``python -m module`` with ``job`` on its standard input, and wait for its end and that of all it started.

    Returns:
        What the child gave to ``hand_over``, or None.

    Raises:
        error: it ended with another status than 0, or printed nothing for ``limit``; says ``subject``, the last lines
            printed, and ``hint``. Also where it ``answers``, and ended without handing anything over.
    """
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as stdin:
        stdin.write(job)
        stdin.seek(0)
        child = ChildProcess(
            module_command(module, python=python),
            log=log,
            stdin=stdin,
            python=python,
            environment={"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        try:
            status = _await_end(child, log, limit)
        finally:
            child.end()
        log.seek(0)
        printed = log.read().decode(errors="replace")
    handed = [line.removeprefix(_HANDED_OVER) for line in printed.splitlines() if line.startswith(_HANDED_OVER)]
    if status == 0 and (handed or not answers):
        return json.loads(handed[-1]) if handed else None
    if status is None:
        ended = f"gave no sign of life for {limit.seconds:g} s and was ended"
        hint = "; ".join(filter(None, [limit.hint if limit.key else "", hint]))
    else:
        ended = f"ended with status {status}" + (" and handed nothing over" if status == 0 else "")
    raise error(f"{subject} {ended}:\n{last_lines(printed)}", f"see the last lines above; {hint}")


def _await_end(child: ChildProcess, log: IO[bytes], limit: Limit) -> int | None:
    """The child's status; None where it printed nothing for as long as the limit says; its log knows when it did."""
    remaining = limit.seconds
    while remaining > 0:
        status = child.wait(remaining)
        if status is not None:
            return status
        remaining = limit.seconds - max(0.0, time.time() - os.fstat(log.fileno()).st_mtime)
    return None


def hand_over(value: object) -> None:
    """In a child of ``run_module``: give it something that can be written as JSON, on a line of its own.

    Libraries print to standard output as well, some of them without ending their line, or at the very end.
    """
    print(f"\n{_HANDED_OVER}{json.dumps(value)}\n", end="", flush=True)


def last_lines(printed: str) -> str:
    """What is shown of all that a child printed that failed."""
    return "\n".join(printed.strip().splitlines()[-_LOG_LINES:])


def module_command(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """What runs a module as ``python -m`` does, but imports nothing from the working directory.

    There ``-m`` looks first, so that a user's ``json.py`` would be the child's. From Python 3.11 on the variable that
    ``child_environment`` sets keeps it from that.
    """
    if python == sys.executable and sys.version_info >= (3, 11):
        return [python, "-m", module, *arguments]
    return [python, "-c", _RUN_MODULE, module, *arguments]


def child_environment(python: str = sys.executable) -> dict[str, str]:
    """This process's environment, in which the child finds this very package, and nothing in the working directory.

    Another Python than this one gets nothing else of ours to import, as this one's packages would shadow its own.
    Whatever is on ``PYTHONPATH`` also goes before the standard library.
    """
    paths: list[str] = []
    if python == sys.executable:  # an empty part would be the working directory
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if python != sys.executable or not _found_in([*paths, *_site_folders()]):
        paths.insert(0, _package_alone(os.getpid()))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _found_in(paths: Sequence[str]) -> bool:
    """Whether the first package of our name in these folders is this one."""
    found = (Path(path, "enginegate", "__init__.py") for path in paths)
    first = next((file for file in found if file.is_file()), None)
    return first is not None and first.samefile(enginegate.__file__)


def _site_folders() -> list[str]:
    """Where any process of this Python finds what is installed."""
    return [*([site.getusersitepackages()] if site.ENABLE_USER_SITE else []), *site.getsitepackages()]


@lru_cache(maxsize=1)
def _package_alone(process: int) -> str:
    """A folder in which lies nothing but this package, by a link; there until ``process``, which is this one, ends."""
    folder = tempfile.mkdtemp(prefix="enginegate-")
    Path(folder, "enginegate").symlink_to(Path(enginegate.__file__).resolve().parent, target_is_directory=True)

    def remove() -> None:
        if os.getpid() == process:  # and not one that was forked from it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def die_with_parent() -> None:
    """On Linux, end when the parent does, so that a killed session leaves no build and no engine behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
