"""The Pythons in which engines run: this one, another one on this machine, or one that a command runs elsewhere."""

from __future__ import annotations

import io
import socket
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import enginegate
from enginegate.engines.process.messages import Channel
from enginegate.engines.process.paths import PathMap
from enginegate.machine.processes import ChildProcess, module_command

_SAME_PATHS = PathMap()
_WORKER = "enginegate.engines.process.worker"

#: For ``python -c`` where nothing of ours lies: takes the code from standard input, its length in eight bytes first.
#: Old Pythons must be able to read it, too.
_TRAVELLER = """
import os, sys
if sys.version_info < (3, 10):
    sys.exit("enginegate needs Python 3.10 or later, this is " + sys.version.split()[0])
def take(count):
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 16))
        if not part:
            sys.exit("the code did not arrive")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
import atexit, io, runpy, shutil, tempfile, zipfile
folder = tempfile.mkdtemp(prefix="enginegate-")
atexit.register(shutil.rmtree, folder, True)
zipfile.ZipFile(io.BytesIO(take(int.from_bytes(take(8), "big")))).extractall(folder)
if sys.path[:1] == [""]:
    del sys.path[0]
sys.path.insert(0, folder)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python.

    Attributes:
        command: what runs it; arguments are added at the end.
        elsewhere: it may not see this machine's files and processes, as in a container. The worker's code is sent.
        paths: where folders of this machine lie for it.
    """

    command: tuple[str, ...] = (sys.executable,)
    elsewhere: bool = False
    paths: PathMap = _SAME_PATHS

    @property
    def here(self) -> bool:
        """Whether it is the one that this process runs in."""
        return self.command == (sys.executable,) and not self.elsewhere

    def __str__(self) -> str:
        return "this Python" if self.here else " ".join(self.command)


#: The one that this process runs in.
HERE = Interpreter()


def start_worker(interpreter: Interpreter, log: IO[bytes], limit: float) -> tuple[ChildProcess, Channel]:
    """Start the process of an engine. What it and its libraries print goes to ``log``.

    Args:
        interpreter: the Python.
        log: open file.
        limit: seconds in which one that is elsewhere must take its code.

    Raises OSError where the command cannot be run, and TimeoutError where the code was not taken.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        if interpreter.elsewhere:
            command, python = [*interpreter.command, "-c", _TRAVELLER, _WORKER], sys.executable
        else:
            (python,) = interpreter.command
            command = module_command(_WORKER, python=python)
        try:
            process = ChildProcess(command, log=log, stdin=theirs, stdout=theirs, python=python)
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    descriptor = ours.detach()
    channel = Channel(descriptor, descriptor, interpreter.paths.there)
    if interpreter.elsewhere:
        code = _packed_code()
        with suppress(OSError):  # it has ended or takes nothing: the first wait for a reply says how
            channel.write(len(code).to_bytes(8, "big") + code, limit)
    return process, channel


@lru_cache(maxsize=1)
def _packed_code() -> bytes:
    """The package's own modules, as a zip file. It is unpacked there: processes that build are started from files."""
    root = Path(enginegate.__file__).parent
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.py")):
            archive.write(file, Path("enginegate", file.relative_to(root)))
    return content.getvalue()
