"""An engine in a process of its own, which sleeps while it is not its turn.

Two uses: backends that stand only one engine a process (``own_process``), and contestants whose libraries or memory do
not go together in one. The process's own side is ``enginegate.engines.process.worker``.

No wait is without a limit: ``Timeouts`` says how long the process may be silent in each phase. Where it is silent for
longer, ends, or answers what cannot be read, it is ended with everything it started, and the engine is closed.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from enginegate.core import errors
from enginegate.core.errors import EngineError, EngineGateError, edge
from enginegate.core.specs import DEFAULT_TIMEOUTS, EngineSpec, Limit, RuntimeSpec, SamplingParams, Timeouts
from enginegate.engines.base import Backend, Effective, Engine, Generation, MemoryUse, TokenEvent
from enginegate.engines.process.messages import Channel, Reply, Request, UnreadableError
from enginegate.engines.requests import check_open
from enginegate.engines.timing import SelfTimed
from enginegate.machine.processes import GRACE_SECONDS, ChildProcess, last_lines, module_command

#: The process is to give a sign of life so many times within the limit, so that one that comes late is no end.
_BEATS = 8
#: Seconds that closing an engine which has nothing to do may take, before its process is ended from outside.
_CLOSE_SECONDS = 60.0


class ChildEngine(SelfTimed):
    """See ``enginegate.engines.base.Engine``: the same engine, in another process.

    Every method raises EngineError where the process did not answer as it should, and where it did not before.
    """

    def __init__(
        self,
        backend_name: str,
        engine_dir: Path,
        spec: EngineSpec,
        runtime: RuntimeSpec,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self.spec = spec
        self.runtime = runtime
        self._timeouts = timeouts
        with edge(
            EngineError, f"{spec.id}: no process can be started for it", "end processes that hang, and try again"
        ):
            self._log = tempfile.NamedTemporaryFile(prefix="enginegate-", suffix=".log")  # noqa: SIM115 - lives as we do
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = ChildProcess(
                    module_command("enginegate.engines.process.worker", str(theirs.fileno())),
                    log=self._log,
                    pass_fds=[theirs.fileno()],
                )
        self._channel: Channel | None = Channel(ours)
        self._number = 0
        #: The request that is not answered to its end, and its phase.
        self._pending: tuple[int, str] | None = None
        self._loaded = False
        self._failed: EngineGateError | None = None
        self._send("load", "load", backend_name, str(engine_dir), spec, runtime)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the engine is loaded. Several children may load at once. Raises what loading raised, each time."""
        self._open()
        if self._loaded:
            return
        try:
            self._receive()
        except EngineGateError as error:
            if self._failed is None:
                self._failed = error
                self._end()
            raise
        self._loaded = True

    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        """The answers, and the seconds on the child's clock."""
        prompts = [list(prompt) for prompt in prompts]
        answer: tuple[list[Generation], float] = self._ask("round", "generate", prompts, params)
        return answer

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """Answer one prompt token by token, from the first time that the iterator is asked.

        An iterator that is dropped half-way lets the child finish its answer, and so does another request meanwhile;
        the iterator raises EngineError then.
        """
        self.ready()
        return self._events(list(prompt), params)

    def _events(self, prompt: list[int], params: SamplingParams) -> Iterator[TokenEvent]:
        self.ready()
        mine = self._send("round", "stream", prompt, params)
        try:
            while True:
                if self._pending != mine:
                    self._open()
                    raise EngineError(
                        f"{self.spec.id}: the stream was given up for another request", "read it to its end first"
                    )
                reply = self._receive()
                if reply.kind == "value":
                    return
                yield reply.value
        except GeneratorExit:
            if self._pending == mine:
                self._finish()
            raise

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probability of each token given those before it."""
        sequences = [list(sequence) for sequence in sequences]
        scores: list[tuple[float, ...]] = self._ask("score", "score", sequences, prefill)
        return scores

    def memory(self) -> MemoryUse:
        """What the engine can say about its memory now."""
        use: MemoryUse = self._ask("round", "memory")
        return use

    def effective(self) -> Effective:
        """What the engine really is."""
        found: Effective = self._ask("round", "effective")
        return found

    def take_quietest_core(self) -> None:
        """Move the thread that feeds the device to the core that is the fastest now, until the next call."""
        self._ask("round", "take_quietest_core")

    def close(self) -> None:
        """End the child and all that it started, and wait until their memory is given back.

        A child that has nothing to do closes its engine itself; one that is at work is ended.
        """
        self._failed = None
        self._end()

    def _ask(self, phase: str, method: str, *arguments: object) -> Any:
        self.ready()
        self._send(phase, method, *arguments)
        return self._receive().value

    def _send(self, phase: str, method: str, *arguments: object) -> tuple[int, str]:
        """Send a request, after the end of the one before; gives what is ``_pending`` now."""
        if self._pending is not None:
            self._finish()
        channel = self._open()
        self._number += 1
        self._pending = pending = self._number, phase
        limit = self._timeouts.limit(phase)
        try:
            channel.send(Request(self._number, method, arguments, limit.seconds / _BEATS), limit.seconds)
        except TimeoutError as error:
            raise self._silent(phase, limit) from error
        except OSError as error:
            raise self._gone(phase) from error
        except Exception:  # it cannot be pickled: not a byte was sent, so no answer comes
            self._pending = None
            raise
        return pending

    def _receive(self) -> Reply:
        """The next part of the answer to the pending request. Raises what the engine raised."""
        channel = self._open()
        assert self._pending is not None
        number, phase = self._pending
        limit = self._timeouts.limit(phase)
        while True:
            try:
                reply = channel.receive(Reply, limit.seconds, self._process.ended)
            except TimeoutError as error:
                raise self._silent(phase, limit) from error
            except (EOFError, OSError) as error:
                raise self._gone(phase) from error
            except UnreadableError as error:
                problem = f"{self.spec.id}: a reply of its process ({phase}) cannot be read: {error}"
                raise self._fail(problem, "report it, with the versions of the libraries") from error
            if reply.number == number and reply.kind != "progress":
                break
        if reply.kind in ("value", "error"):
            self._pending = None
        if reply.kind == "error":
            name, problem, hint = reply.value
            raise getattr(errors, name, EngineError)(problem, hint)
        return reply

    def _finish(self) -> None:
        """Wait for the end of the answer that nobody reads: nothing may be measured while the child is at work."""
        while self._pending is not None:
            try:
                self._receive()
            except EngineGateError:
                if self._failed is not None:
                    raise

    def _silent(self, phase: str, limit: Limit) -> EngineError:
        return self._fail(
            f"{self.spec.id}: its process gave no sign of life for {limit.seconds:g} s ({phase}) and was ended",
            limit.hint,
        )

    def _gone(self, phase: str) -> EngineError:
        code = self._process.wait(GRACE_SECONDS)
        ended = f"ended with code {code}" if code is not None else "closed the connection, but did not end,"
        return self._fail(
            f"{self.spec.id}: its process {ended} ({phase})", "a code of -9 is the kernel's out-of-memory killer"
        )

    def _fail(self, problem: str, hint: str) -> EngineError:
        """End the child; gives the error to raise. Whatever is asked from now on raises that the engine is closed."""
        printed = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
        self._failed = EngineError(f"{self.spec.id}: the engine is closed: {problem}", "load it again")
        try:
            self._end()
        except EngineGateError as error:
            problem += f"; {error.problem}"
        return EngineError(f"{problem}:\n{last_lines(printed)}", f"see the last lines above; {hint}")

    def _end(self) -> None:
        channel, self._channel = self._channel, None
        if channel is None:
            return
        channel.close()
        self._log.close()
        busy, self._pending = self._pending is not None, None
        self._process.end(0.0 if busy else min(_CLOSE_SECONDS, self._timeouts.round))

    def _open(self) -> Channel:
        """The connection. Raises why there is none."""
        if self._failed is not None:
            raise self._failed
        return check_open(self.spec, self._channel)


def load_engine(
    backend: Backend,
    engine_dir: Path,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    *,
    child: bool | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Engine:
    """Load an engine here, or in a child.

    Args:
        backend: what built it.
        engine_dir: its folder.
        spec: the engine.
        runtime: how it is loaded.
        child: whether in a child; None lets the backend's ``own_process`` decide, and means no without one.
        timeouts: how long a child may be silent. An engine in this process has no limits: nothing can interrupt the
            code of a library safely.
    """
    if child is None:
        child = bool(getattr(backend, "own_process", False))
    if child:
        return ChildEngine(backend.name, engine_dir, spec, runtime, timeouts)
    return backend.load(engine_dir, spec, runtime)
