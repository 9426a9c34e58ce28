"""The running engines of one model: loaded once, found to be what was asked, closed at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict

from enginegate.core.errors import EngineError, EngineGateError, edge
from enginegate.core.identity import runtime_digest
from enginegate.core.progress import lasting
from enginegate.core.records import EngineEntry
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Effective, Engine
from enginegate.engines.effective import check_effective
from enginegate.engines.process.child_engine import ChildEngine, load_engine
from enginegate.engines.registry import load_backend, version
from enginegate.engines.store import StoreEntry
from enginegate.session.files import ModelFiles

#: Called with an engine just loaded; may return another to be used in its place (the hook of that name).
Wrap = Callable[[Engine], Engine]


class RunningEngines:
    """Engines by id.

    Args:
        files: where they are built.
        wrap: see Wrap.
        expected: engines that the session will ask for; those with a process of their own are loaded side by side.

    Attributes:
        entries: what each engine that was loaded is, for the record.
    """

    def __init__(self, files: ModelFiles, wrap: Wrap, expected: Sequence[tuple[EngineSpec, RuntimeSpec]] = ()) -> None:
        self.files = files
        self.entries: dict[str, EngineEntry] = {}
        self._wrap = wrap
        self._expected = tuple(expected)
        self._loaded: dict[str, Engine] = {}
        self._loading: dict[str, ChildEngine] = {}
        self._refused: dict[str, EngineGateError] = {}

    def get(self, spec: EngineSpec, runtime: RuntimeSpec, role: str) -> Engine:
        """The engine, built, loaded, and found to be what was asked. ``role``: see EngineEntry.

        Raises:
            EngineGateError: it is not; the same again whenever it is asked for.
        """
        if spec.id in self._refused:
            raise self._refused[spec.id]
        if spec.id not in self._loaded:
            problem = f"{spec.id} could not be built or loaded"
            try:
                with edge(EngineError, problem, "run its tests alone, and look into the library's log"):
                    self._admit(spec, runtime, role)
            except EngineGateError as error:
                self._refused[spec.id] = error
                raise
        return self._loaded[spec.id]

    @contextmanager
    def borrowed(self, spec: EngineSpec, runtime: RuntimeSpec) -> Iterator[Engine]:
        """An engine for a while, found to be what was asked; it is closed behind, and no engine of the record."""
        with edge(EngineError, f"{spec.id} could not be built or loaded", "look into the library's log"):
            entry = self.files.build(spec)
            with lasting(self.files.progress, f"loading {spec.id}"):
                timeouts = self.files.config.timeouts()
                loaded = load_engine(load_backend(spec.backend), entry.path, spec, runtime, timeouts=timeouts)
                if isinstance(loaded, ChildEngine):
                    loaded.ready()
        try:
            engine = self._wrap(loaded)
            check_effective(spec, runtime, engine.effective())
            yield engine
        finally:
            loaded.close()

    def look_again(self, engine_id: str) -> None:
        """Note what a running engine says of itself now: it knows more after its first answers."""
        told = {"effective": plain(self._loaded[engine_id].effective())}
        self.entries[engine_id] = self.entries[engine_id].model_copy(update=told)

    def settle(self) -> None:
        """Wait for engines that load in the background: nothing is measured beside them."""
        for engine in self._loading.values():
            with suppress(EngineGateError):  # raised again when that engine is asked for
                engine.ready()

    def unload(self, engine_id: str) -> None:
        """Close one engine and give its memory back."""
        engine = self._loaded.pop(engine_id, None)
        if engine is not None:
            engine.close()

    def close(self) -> None:
        """Close every engine, also where one of them fails to close; the first failure is raised at the end."""
        failures: list[Exception] = []
        self._loaded |= self._loading
        self._loading.clear()
        for engine_id in list(self._loaded):
            try:
                self.unload(engine_id)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _admit(self, spec: EngineSpec, runtime: RuntimeSpec, role: str) -> None:
        entry = self.files.build(spec)
        with lasting(self.files.progress, f"loading {spec.id}"):
            engine = self._load(entry, spec, runtime)
        try:
            engine = self._wrap(engine)
            effective = engine.effective()
            check_effective(spec, runtime, effective)
        except BaseException:  # whatever stops it, an engine that nobody knows of holds its memory
            engine.close()
            raise
        self._loaded[spec.id] = engine
        self.entries[spec.id] = EngineEntry.model_validate(
            {
                "id": spec.id,
                "backend": spec.backend,
                "precision": spec.precision,
                "variant": spec.variant,
                "runtime_digest": runtime_digest(runtime),
                "role": role,
                "spec": asdict(spec),
                "runtime": asdict(runtime),
                "effective": plain(effective),
                "version": version(load_backend(spec.backend)),
                "key": entry.manifest.key,
                "size_bytes": entry.manifest.size_bytes,
                "build_seconds": entry.manifest.build_seconds,
            }
        )

    def _load(self, entry: StoreEntry, spec: EngineSpec, runtime: RuntimeSpec) -> Engine:
        """Load an engine; one with a process of its own together with its like that the session will ask for."""
        backend, timeouts = load_backend(spec.backend), self.files.config.timeouts()
        if not getattr(backend, "own_process", False):
            return load_engine(backend, entry.path, spec, runtime, timeouts=timeouts)
        known = {*self._loaded, *self._loading, *self._refused}
        for other, other_runtime in ((spec, runtime), *self._expected):
            if other.backend == spec.backend and other.id not in known:
                known.add(other.id)
                try:
                    path = self.files.build(other).path
                    self._loading[other.id] = ChildEngine(backend.name, path, other, other_runtime, timeouts)
                except EngineGateError as error:  # raised when that engine is asked for
                    self._refused[other.id] = error
        if spec.id not in self._loading:
            raise self._refused[spec.id]
        engine = self._loading.pop(spec.id)
        try:
            engine.ready()
        except BaseException:
            engine.close()
            raise
        return engine


def plain(effective: Effective) -> dict[str, object]:
    """What an engine says it is, as JSON holds it."""
    found: dict[str, object] = json.loads(json.dumps(asdict(effective), default=str))
    return found
