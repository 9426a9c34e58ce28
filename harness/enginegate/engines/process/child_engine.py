"""An engine in a process of its own, which sleeps while it is not its turn.

Three uses: backends that stand only one engine a process (``own_process``), contestants whose libraries or memory do
not go together in one, and live bases, which run in a Python of their own. The process's own side is
``enginegate.engines.process.worker``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineGateError
from enginegate.core.specs import DEFAULT_TIMEOUTS, EngineSpec, RuntimeSpec, SamplingParams, Timeouts
from enginegate.engines.base import (
    Arrival,
    Backend,
    Cells,
    Distribution,
    Effective,
    Engine,
    Generation,
    MemoryUse,
    ServingEvent,
    TokenEvent,
)
from enginegate.engines.process.client import Worker
from enginegate.engines.process.interpreter import HERE, Interpreter
from enginegate.engines.timing import SelfTimed


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
        interpreter: Interpreter = HERE,
    ) -> None:
        self.spec = spec
        self.runtime = runtime
        self._backend = backend_name
        self._loaded = False
        self.worker = Worker(spec.id, interpreter, timeouts)
        self.worker.send("load", "load", backend_name, engine_dir.absolute(), spec, runtime)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.worker.pid

    @property
    def namespace(self) -> str:
        """The PID namespace that the child says it is in, as ``/proc/PID/ns/pid`` names it."""
        return str(self.worker.greeting.get("processes", ""))

    def ready(self) -> None:
        """Wait until the engine is loaded. Several children may load at once. Raises what loading raised, each time."""
        self.worker.check_open()
        if self._loaded:
            return
        try:
            self.worker.receive()
        except EngineGateError as error:
            if self.worker.failed is None:
                self.worker.close()
                self.worker.failed = error
            raise
        self._loaded = True

    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        """The answers, and the seconds on the child's clock."""
        prompts = [list(prompt) for prompt in prompts]
        answer: tuple[list[Generation], float] = self._ask("round", "generate", prompts, params)
        return answer

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """Answer one prompt token by token, from the first time that the iterator is asked; see ``Worker.parts``."""
        self.ready()
        return self.worker.parts("round", "stream", list(prompt), params)

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        """See ``enginegate.engines.base.ServingEngine``. Raises CapabilityError where the backend has no such method.

        The requests arrive inside the child, by its clock; their events are handed over when all are served.
        """
        self.ready()
        return self.worker.parts("round", "submit", list(arrivals))

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probability of each token given those before it."""
        sequences = [list(sequence) for sequence in sequences]
        scores: list[tuple[float, ...]] = self._ask("score", "score", sequences, prefill)
        return scores

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine. Raises CapabilityError where the backend's engines have no such method."""
        sequences = [list(sequence) for sequence in sequences]
        named = cells if isinstance(cells, int) else list(cells)
        found: list[Distribution] = self._ask("score", "distributions", sequences, named, prefill)
        return found

    def memory(self) -> MemoryUse:
        """What the engine can say about its memory now."""
        use: MemoryUse = self._ask("round", "memory")
        return use

    def effective(self) -> Effective:
        """What the engine really is."""
        found: Effective = self._ask("round", "effective")
        return found

    def versions(self) -> str:
        """The engine's libraries, as the backend states them in its process."""
        found: str = self._ask("round", "versions", self._backend)
        return found

    def take_quietest_core(self) -> None:
        """Move the thread that feeds the device to the core that is the fastest now, until the next call."""
        self._ask("round", "take_quietest_core")

    def close(self) -> None:
        """See ``Worker.close``."""
        self.worker.close()

    def _ask(self, phase: str, method: str, *arguments: object) -> Any:
        self.ready()
        return self.worker.ask(phase, method, *arguments)


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
