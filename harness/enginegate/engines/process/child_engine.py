"""An engine in a process of its own, which sleeps while it is not its turn.

Two uses: backends that stand only one engine a process (``own_process``), and contestants whose libraries or memory do
not go together in one. The child waits in a blocking read, so that between its turns it takes no time on any core, and
launches nothing on the device. Seconds and token times are taken in the child, so that the pipe is in neither.
"""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from enginegate.core import errors
from enginegate.core.errors import EngineError, EngineGateError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Backend, Effective, Engine, Generation, MemoryUse, TokenEvent
from enginegate.engines.requests import check_open
from enginegate.engines.timing import SelfTimed, timed_answer
from enginegate.machine.cores import allowed_cores, take_quietest_core
from enginegate.machine.processes import child_environment, die_with_parent, last_lines


class ChildEngine(SelfTimed):
    """See ``enginegate.engines.base.Engine``: the same engine, in another process."""

    def __init__(self, backend_name: str, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        self.spec = spec
        self.runtime = runtime
        self._log = tempfile.NamedTemporaryFile(prefix="enginegate-", suffix=".log")  # noqa: SIM115 - lives as we do
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "enginegate.engines.process.child_engine", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=child_environment(),
        )
        theirs.close()
        self._pipe: Connection | None = Connection(ours.detach())
        self._loaded = False
        self._failed: EngineGateError | None = None
        self._send("load", backend_name, str(engine_dir), spec, runtime)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the engine is loaded. Several children may load at once. Raises what loading raised, each time."""
        if self._failed is not None:
            raise self._failed
        if not self._loaded:
            try:
                self._receive()
            except EngineGateError as error:
                self._failed = error
                raise
            self._loaded = True

    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        """The answers, and the seconds on the child's clock."""
        answer: tuple[list[Generation], float] = self._ask("generate", [list(prompt) for prompt in prompts], params)
        return answer

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """Answer one prompt token by token. An iterator that is dropped half-way lets the child finish its answer."""
        self._check_open()
        self.ready()
        self._send("stream", list(prompt), params)
        return self._events()

    def _events(self) -> Iterator[TokenEvent]:
        finished = False
        try:
            while True:
                event = self._receive()
                if event is None:
                    finished = True
                    return
                yield event
        except EngineGateError:
            finished = True
            raise
        finally:
            while not finished and self._pipe is not None:
                finished = self._receive() is None

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probability of each token given those before it."""
        scores: list[tuple[float, ...]] = self._ask("score", [list(sequence) for sequence in sequences], prefill)
        return scores

    def memory(self) -> MemoryUse:
        """What the engine can say about its memory now."""
        use: MemoryUse = self._ask("memory")
        return use

    def effective(self) -> Effective:
        """What the engine really is."""
        found: Effective = self._ask("effective")
        return found

    def take_quietest_core(self) -> None:
        """Move the thread that feeds the device to the core that is the fastest now, until the next call."""
        self._ask("take_quietest_core")

    def close(self) -> None:
        """End the child, and wait until it has given its memory back."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        pipe.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, method: str, *arguments: object) -> Any:
        self._check_open()
        self.ready()
        self._send(method, *arguments)
        return self._receive()

    def _send(self, method: str, *arguments: object) -> None:
        pipe = check_open(self.spec, self._pipe)
        try:
            pipe.send((method, arguments))
        except (BrokenPipeError, ConnectionError) as error:
            raise self._died() from error

    def _receive(self) -> Any:
        pipe = check_open(self.spec, self._pipe)
        try:
            kind, value = pipe.recv()
        except (EOFError, ConnectionError, pickle.UnpicklingError) as error:
            raise self._died() from error
        if kind == "error":
            name, problem, hint = value
            raise getattr(errors, name, EngineError)(problem, hint)
        return value

    def _died(self) -> EngineError:
        code = self._process.wait()
        printed = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
        return EngineError(
            f"{self.spec.id}: its process ended with code {code}:\n{last_lines(printed)}",
            "see the last lines above; a code of -9 is the kernel's out-of-memory killer",
        )

    def _check_open(self) -> None:
        check_open(self.spec, self._pipe)


def load_engine(
    backend: Backend, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec, *, child: bool | None = None
) -> Engine:
    """Load an engine here, or in a child.

    Args:
        backend: what built it.
        engine_dir: its folder.
        spec: the engine.
        runtime: how it is loaded.
        child: whether in a child; None lets the backend's ``own_process`` decide, and means no without one.
    """
    if child is None:
        child = bool(getattr(backend, "own_process", False))
    return ChildEngine(backend.name, engine_dir, spec, runtime) if child else backend.load(engine_dir, spec, runtime)


def _serve(pipe: Connection) -> None:
    """Do what the parent asks until it closes its end."""
    from enginegate.engines.registry import load_backend

    engine: Engine | None = None
    cores = allowed_cores()
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            break
        try:
            if method == "load":
                name, engine_dir, spec, runtime = arguments
                engine = load_backend(name).load(Path(engine_dir), spec, runtime)
                pipe.send(("value", None))
                continue
            assert engine is not None
            if method == "stream":
                for event in engine.stream(*arguments):
                    pipe.send(("value", event))
                pipe.send(("value", None))
            elif method == "take_quietest_core":
                take_quietest_core(cores)
                pipe.send(("value", None))
            elif method == "score":
                sequences, prefill = arguments
                pipe.send(("value", engine.score(sequences, prefill=prefill)))
            elif method == "effective":
                found = engine.effective()
                # Details are JSON-able by contract; a library's own type must not need that library in the parent.
                pipe.send(("value", Effective(**{**asdict(found), "details": _plain(found.details)})))
            elif method == "generate":
                pipe.send(("value", timed_answer(engine, *arguments)))
            else:
                pipe.send(("value", getattr(engine, method)(*arguments)))
        except EngineGateError as error:
            pipe.send(("error", (type(error).__name__, error.problem, error.hint)))
        except Exception as error:
            import traceback

            last = "".join(traceback.format_exception(error)[-3:])
            pipe.send(("error", ("EngineError", f"an engine's process failed: {last}", "see the lines above")))
    if engine is not None:
        engine.close()


def _plain(details: Any) -> Any:
    import json

    return json.loads(json.dumps(dict(details), default=str))


if __name__ == "__main__":
    die_with_parent()
    _serve(Connection(int(sys.argv[1])))
