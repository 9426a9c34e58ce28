"""A worker's process as the session sees it: requests, answers, limits, and its end.

No wait is without a limit: ``Timeouts`` says how long the process may be silent in each phase. Where it is silent for
longer, ends, or answers what cannot be read, it is ended with everything it started.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginegate.core import errors
from enginegate.core.errors import EngineError, EngineGateError, edge
from enginegate.core.specs import DEFAULT_TIMEOUTS, Limit, Timeouts
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.process.interpreter import HERE, Interpreter, start_worker
from enginegate.engines.process.messages import Channel, Reply, Request, UnreadableError
from enginegate.machine.own_processes import adopt_namespace
from enginegate.machine.processes import GRACE_SECONDS, last_lines

#: The process is to give a sign of life so many times within the limit, so that one that comes late is no end.
_BEATS = 8
#: Seconds that closing an engine which has nothing to do may take, before its process is ended from outside.
_CLOSE_SECONDS = 60.0


class AbsentError(EngineError):
    """A file of this machine is not there where the worker runs."""


class Worker:
    """One worker's process.

    Every method raises EngineError where the process did not answer as it should, and where it did not before.

    Args:
        subject: what it works for, the beginning of every error.
        interpreter: the Python that it runs in.
        timeouts: how long it may be silent.

    Attributes:
        greeting: what it says of its Python; empty until its first answer.
        pending: number and phase of the request that is not answered to its end.
        failed: why it is closed, where it was not closed on purpose.
    """

    def __init__(self, subject: str, interpreter: Interpreter = HERE, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._subject = subject
        self._interpreter = interpreter
        self._timeouts = timeouts
        self.greeting: dict[str, Any] = {}
        self.pending: tuple[int, str] | None = None
        self.failed: EngineGateError | None = None
        self._number = 0
        self.channel: Channel | None
        with edge(EngineError, f"{subject}: {interpreter} cannot be run", "name a Python that is there"):
            self.log = tempfile.NamedTemporaryFile(prefix="enginegate-", suffix=".log")  # noqa: SIM115 - lives as we do
            self.process, self.channel = start_worker(interpreter, self.log, timeouts.load)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ask(self, phase: str, method: str, *arguments: object) -> Any:
        """The answer to one request. Raises what the worker raised."""
        self.send(phase, method, *arguments)
        return self.receive().value

    def parts(self, phase: str, method: str, *arguments: object) -> Iterator[Any]:
        """The parts of an answer, as they come.

        An iterator that is dropped half-way lets the process finish its answer, and so does another request meanwhile;
        the iterator raises EngineError then.
        """
        mine = self.send(phase, method, *arguments)
        try:
            while True:
                if self.pending != mine:
                    self.check_open()
                    raise EngineError(
                        f"{self._subject}: the stream was given up for another request", "read it to its end first"
                    )
                reply = self.receive()
                if reply.kind == "value":
                    return
                yield reply.value
        except GeneratorExit:
            if self.pending == mine:
                self._finish()
            raise

    def send(self, phase: str, method: str, *arguments: object) -> tuple[int, str]:
        """Send a request, after the end of the one before; gives what is ``pending`` now."""
        if self.pending is not None:
            self._finish()
        channel = self.check_open()
        self._number += 1
        self.pending = pending = self._number, phase
        limit = self._timeouts.limit(phase)
        try:
            channel.send(Request(self._number, method, arguments, limit.seconds / _BEATS), limit.seconds)
        except TimeoutError as error:
            raise self._silent(phase, limit) from error
        except OSError as error:
            raise self._gone(phase) from error
        except (TypeError, ValueError):  # it cannot be said: not a byte was sent, so no answer comes
            self.pending = None
            raise
        return pending

    def receive(self) -> Reply:
        """The next part of the answer to the pending request. Raises what the engine raised."""
        channel = self.check_open()
        assert self.pending is not None
        number, phase = self.pending
        limit = self._timeouts.limit(phase)
        while True:
            try:
                reply = channel.receive(Reply, limit.seconds, self.process.ended)
            except TimeoutError as error:
                raise self._silent(phase, limit) from error
            except (EOFError, OSError) as error:
                raise self._gone(phase) from error
            except UnreadableError as error:
                problem = f"{self._subject}: a reply of its process ({phase}) cannot be read: {error}"
                raise self._fail(problem, "report it, with the versions of the libraries") from error
            if reply.kind == "greeting":
                self.greeting = reply.value
                adopt_namespace(str(self.greeting.get("processes", "")))
            elif reply.number == number and reply.kind == "progress":
                beat(reply.value if isinstance(reply.value, float) else None)
            elif reply.number == number:
                break
        if reply.kind in ("value", "error", "absent"):
            self.pending = None
        if reply.kind == "absent":
            raise self._absent(reply.value[0])
        if reply.kind == "error":
            name, problem, hint = reply.value
            kind = getattr(errors, name, EngineError)
            raise (kind if issubclass(kind, EngineGateError) else EngineError)(problem, hint)
        return reply

    def _finish(self) -> None:
        """Wait for the end of the answer that nobody reads: nothing may be measured while the child is at work."""
        while self.pending is not None:
            try:
                self.receive()
            except EngineGateError:
                if self.failed is not None:
                    raise

    def _absent(self, there: str) -> AbsentError:
        here = self._interpreter.paths.here(there)
        problem = f"{self._subject}: {there} is not there for {self._interpreter}"
        if not self._interpreter.elsewhere:
            return AbsentError(problem, "see what removed it, and run again")
        return AbsentError(f"{problem}; on this machine it is {here}", "mount it, or map it by base.paths")

    def _silent(self, phase: str, limit: Limit) -> EngineError:
        return self._fail(
            f"{self._subject}: its process gave no sign of life for {limit.seconds:g} s ({phase}) and was ended",
            limit.hint,
        )

    def _gone(self, phase: str) -> EngineError:
        code = self.process.wait(GRACE_SECONDS)
        ended = f"ended with code {code}" if code is not None else "closed the connection, but did not end,"
        return self._fail(
            f"{self._subject}: its process {ended} ({phase})", "a code of -9 is the kernel's out-of-memory killer"
        )

    def _fail(self, problem: str, hint: str) -> EngineError:
        """End the child; gives the error to raise. Whatever is asked from now on raises that the engine is closed."""
        printed = Path(self.log.name).read_text(encoding="utf-8", errors="replace")
        self.failed = EngineError(f"{self._subject}: the engine is closed: {problem}", "load it again")
        try:
            self._end()
        except EngineGateError as error:
            problem += f"; {error.problem}"
        return EngineError(f"{problem}:\n{last_lines(printed)}", f"see the last lines above; {hint}")

    def close(self) -> None:
        """End the process and all that it started, and wait until their memory is given back.

        One that has nothing to do closes its engine itself; one that is at work is ended.
        """
        self.failed = None
        self._end()

    def _end(self) -> None:
        channel, self.channel = self.channel, None
        if channel is None:
            return
        channel.close()
        self.log.close()
        busy, self.pending = self.pending is not None, None
        self.process.end(0.0 if busy else min(_CLOSE_SECONDS, self._timeouts.round))

    def check_open(self) -> Channel:
        """The connection. Raises why there is none."""
        if self.failed is not None:
            raise self.failed
        if self.channel is None:
            raise EngineError(f"{self._subject}: the engine is closed", "load it again")
        return self.channel
