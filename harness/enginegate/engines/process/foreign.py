"""A backend in another Python: it says its versions there, builds there where it can, and its engines run there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from enginegate.core.progress import Step
from enginegate.core.specs import DEFAULT_TIMEOUTS, EngineSpec, RuntimeSpec, Timeouts
from enginegate.engines.base import Backend, Capabilities, Progress
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.client import AbsentError, Worker
from enginegate.engines.process.interpreter import Interpreter
from enginegate.models.checkpoint import Checkpoint


class ForeignBackend:
    """See ``enginegate.engines.base.Backend``. The adapter is this suite's own; the libraries are the other Python's.

    Args:
        backend: the same backend here.
        interpreter: the other Python.
        timeouts: how long it may be silent.
    """

    own_process = True

    def __init__(self, backend: Backend, interpreter: Interpreter, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self.name = backend.name
        self.libraries: Sequence[str] = ()
        self.interpreter = interpreter
        self._here = backend
        self._timeouts = timeouts
        self._version: str | None = None

    def version(self) -> str:
        """What the backend says there, asked once. Raises EngineError where that Python cannot be asked."""
        if self._version is None:
            found = self._ask("load", "versions", self.name)
            self._version = str(found)
        return self._version

    def why_not_built(self, spec: EngineSpec, runtime: RuntimeSpec, checkpoint: Path, store: Path) -> str:
        """Why an engine cannot be built there, in one sentence; empty where it can.

        Args:
            spec, runtime: the engine.
            checkpoint: folder of the model.
            store: folder in which the engine is to lie. A folder of that name may be there, too, and be another: so it
                is looked for a new one in it.
        """
        asked = ("load", "why_not_built", self.name, spec.precision, runtime.kv_precision)
        if not self.interpreter.elsewhere:
            return str(self._ask(*asked))
        calibration = Path(spec.quantization.calibration)
        try:
            store.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="seen-", dir=store) as probe:
                return str(
                    self._ask(*asked, checkpoint, *([calibration] if calibration.is_file() else []), Path(probe))
                )
        except AbsentError as error:
            return f"{error.problem}: {error.hint}"
        except OSError as error:
            return f"{store} cannot be written: {error.strerror or error}"

    def capabilities(self) -> Capabilities:
        """Those of this machine."""
        return self._here.capabilities()

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Build with the other Python's libraries."""
        progress(Step(f"building {spec.id} with {self.interpreter}"))
        self._ask("build", "build", self.name, spec, checkpoint, out_dir, self._timeouts)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> ChildEngine:
        """Start an engine there; it loads in the background until ``ready`` is called."""
        return ChildEngine(self.name, engine_dir, spec, runtime, self._timeouts, self.interpreter)

    def _ask(self, phase: str, method: str, *arguments: object) -> object:
        worker = Worker(f"backend {self.name} in {self.interpreter}", self.interpreter, self._timeouts)
        try:
            found: object = worker.ask(phase, method, *arguments)
        finally:
            worker.close()
        return found
