"""When the requests of a serving run arrive: on an absolute schedule, whatever the engine does meanwhile."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from enginegate.core.errors import EngineError
from enginegate.engines.process import pacer

#: Seconds from when the pacer has its times to the start of the run.
_LEAD = 0.02
#: Seconds that the pacer's process may take to start and to end.
_LIMIT = 60.0
#: Bytes that the pipe should hold: of an engine whose steps are long, so many stamps wait in it.
_PIPE = 1 << 20


class Pace(Protocol):
    """Tells which requests have arrived. Times are seconds after the start of the run."""

    def now(self) -> float:
        """Seconds since the start of the run."""
        ...

    def arrived(self) -> list[tuple[int, float]]:
        """Requests that have arrived since the last call, each with the time at which it did; does not wait."""
        ...

    def wait(self) -> None:
        """Wait, without taking time on any core, until ``arrived`` has something to tell, a second at most."""
        ...

    def __enter__(self) -> Pace: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


#: From the times at which requests are due to the pace that sends them then.
Pacing = Callable[[Sequence[float]], Pace]


class PacerProcess:
    """A process sends each request at its time, so that no step of an engine holds up the schedule.

    See ``enginegate.engines.process.pacer``.
    """

    def __init__(self, times: Sequence[float]) -> None:
        self._left = len(times)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", pacer.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            raise EngineError(
                f"the process that times the arrivals cannot be started: {error}", "see what keeps processes from it"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._read = b""
        try:
            self._enlarge_pipe()
            began = select.select([self._output], [], [], _LIMIT)[0]
            if not began or os.read(self._output.fileno(), len(pacer.READY)) != pacer.READY:
                raise self._gone()
            self._start = time.monotonic() + _LEAD
            due = struct.pack(f"<{len(times)}d", *(self._start + each for each in times))
            content = memoryview(pacer.COUNT.pack(len(times)) + due)
            while content:
                content = content[os.write(self._input.fileno(), content) :]
        except OSError as error:
            self._end()
            raise self._gone() from error
        except EngineError:
            self._end()
            raise

    def now(self) -> float:
        """See Pace."""
        return time.monotonic() - self._start

    def arrived(self) -> list[tuple[int, float]]:
        """See Pace. Raises EngineError where the process has ended before its time."""
        size = pacer.SENT.size
        while self._left and select.select([self._output], [], [], 0)[0]:
            content = os.read(self._output.fileno(), _PIPE)
            if not content:
                raise self._gone()
            self._read += content
            self._left -= (len(self._read) // size) - ((len(self._read) - len(content)) // size)
        whole = len(self._read) // size * size
        found = [(index, at - self._start) for index, at in pacer.SENT.iter_unpack(self._read[:whole])]
        self._read = self._read[whole:]
        return found

    def wait(self) -> None:
        """See Pace."""
        select.select([self._output], [], [], 1.0)

    def fileno(self) -> int:
        """What becomes readable when ``arrived`` has something to tell."""
        return self._output.fileno()

    def __enter__(self) -> PacerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _enlarge_pipe(self) -> None:
        """Where the system has that; a full pipe would hold the schedule up, which the stamps then show."""
        try:
            import fcntl

            fcntl.fcntl(self._output.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
        except (ImportError, AttributeError, OSError):
            pass

    def _gone(self) -> EngineError:
        return EngineError(
            f"the process that times the arrivals ended with code {self._process.poll()}, {self._left} requests unsent",
            "see what ended it (a code of -9 is the kernel's out-of-memory killer), and run again",
        )

    def _end(self) -> None:
        self._input.close()
        self._output.close()
        try:
            self._process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
