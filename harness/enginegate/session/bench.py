"""One session's models, engines and samples. Everything is made once, when it is first asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from enginegate.config.loading import Config, cache_folder, find_config, load_config
from enginegate.core.errors import ConfigError, EngineGateError
from enginegate.core.records import ArenaEntry, Block, EngineEntry, Fingerprint, MemoryEntry, QualityEntry, Stored
from enginegate.core.specs import EngineSpec, RuntimeSpec, Workload
from enginegate.engines.base import Effective, Engine, Progress
from enginegate.engines.effective import check_effective
from enginegate.engines.process.building import build_limits
from enginegate.engines.process.child_engine import ChildEngine, load_engine
from enginegate.engines.registry import load_backend
from enginegate.engines.store import EngineStore, StoreEntry
from enginegate.engines.timing import Contestant
from enginegate.machine.fingerprint import fingerprint
from enginegate.machine.gpu import DeviceMonitor, refuse_busy
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.memory import measure_memory
from enginegate.measure.prompts import PromptPool
from enginegate.models import Checkpoint, resolve
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality.data import Prompt, load_prompts
from enginegate.quality.entry import refuse_random_weights
from enginegate.quality.measure import COMPARED, measure_quality
from enginegate.quality.reference_cache import Answers, Kept, dependency_digest, load_or_measure
from enginegate.quality.similarity import reference_answers
from enginegate.quality.text import Answer

#: Called with an engine just loaded; may return another to be used in its place (the hook of that name).
Wrap = Callable[[Engine], Engine]


class ReferenceChoice(Stored):
    """The reference's precision, the seconds of each round it was chosen by, and the library's version then."""

    precision: str
    seconds: dict[str, list[float]]
    version: str


@dataclass
class ModelBench:
    """The engines and samples of one model (one configuration file).

    Attributes:
        config: the model's configuration.
        fingerprint: the machine.
        cache: folder of models, engines and reference scores.
        progress: receives one line per long step.
        wrap: see Wrap.
        expected: engines that the session will ask for; those with a process of their own are loaded side by side.
    """

    config: Config
    fingerprint: Fingerprint
    cache: Path
    progress: Progress
    wrap: Wrap = lambda engine: engine
    expected: Sequence[tuple[EngineSpec, RuntimeSpec]] = ()
    engines: dict[str, EngineEntry] = field(default_factory=dict)
    arenas: dict[str, ArenaEntry] = field(default_factory=dict)
    memory: dict[str, MemoryEntry] = field(default_factory=dict)
    quality: dict[str, QualityEntry] = field(default_factory=dict)
    _loaded: dict[str, Engine] = field(default_factory=dict)
    _loading: dict[str, ChildEngine] = field(default_factory=dict)
    _refused: dict[str, EngineGateError] = field(default_factory=dict)
    _store: EngineStore | None = None
    _entries: dict[str, StoreEntry] = field(default_factory=dict)
    _checkpoint: Checkpoint | None = None
    _tokenizer: Tokenizer | None = None
    _reference: EngineSpec | None = None
    _answers: dict[str, Answer] | None = None

    @classmethod
    def named(cls, model: str, progress: Progress) -> ModelBench:
        """The bench of ``configs/MODEL.yaml``, or of a file named ``*.yaml``, on this machine, in the user's cache."""
        file = Path(model) if model.endswith(".yaml") else find_config(model)
        return cls(load_config(file), fingerprint(), cache_folder(), progress)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's local checkpoint."""
        if self._checkpoint is None:
            model = self.config.file.model
            source = model.source
            if source.startswith("path:"):
                source = f"path:{self.config.resolve(source.removeprefix('path:'))}"
            self._checkpoint = resolve(source, cache=self.cache, sha256=model.sha256, progress=self.progress)
        return self._checkpoint

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        if self._tokenizer is None:
            plain = self.config.file.quality.plain_prompts
            self._tokenizer = Tokenizer.load(self.checkpoint.path, plain)
        return self._tokenizer

    def prompts(self) -> list[Prompt]:
        """The texts that are answered and timed. Raises ConfigError where the file is missing, empty or damaged."""
        return load_prompts(self.config.resolve(self.config.file.quality.prompts))

    def reference(self) -> EngineSpec:
        """The live reference of speed-ups, on one device: as configured, or the fastest precision here (once, kept)."""
        if self._reference is None:
            section = self.config.file.reference
            precision = section.precision
            if precision == "auto":
                precision = self._fastest_reference(section.backend)
            self._reference = replace(self.config.spec(section.backend, precision), tensor_parallel=1)
        return self._reference

    def quality_reference(self) -> EngineSpec:
        """The engine that quality is compared with on the same items, on one device."""
        section = self.config.file.quality.reference
        return replace(self.config.spec(section.backend, section.precision), tensor_parallel=1)

    def build(self, spec: EngineSpec) -> StoreEntry:
        """The engine's files, built where they are not in the store; checked byte by byte once a session."""
        if spec.id not in self._entries:
            if self._store is None:
                self._store = EngineStore(self.cache)
            backend = load_backend(spec.backend)
            with build_limits(self.config.timeouts()):
                self._entries[spec.id] = self._store.get(spec, self.checkpoint, backend, progress=self.progress)
        return self._entries[spec.id]

    def engine(self, spec: EngineSpec, runtime: RuntimeSpec, role: str) -> Engine:
        """The engine, built, loaded, and found to be what was asked.

        Raises:
            EngineGateError: it is not; the same again whenever it is asked for.
        """
        if spec.id in self._refused:
            raise self._refused[spec.id]
        if spec.id not in self._loaded:
            try:
                self._admit(spec, runtime, role)
            except EngineGateError as error:
                self._refused[spec.id] = error
                raise
        return self._loaded[spec.id]

    def _admit(self, spec: EngineSpec, runtime: RuntimeSpec, role: str) -> None:
        entry = self.build(spec)
        self.progress(f"loading {spec.id}")
        engine = self.wrap(self._load(entry, spec, runtime))
        try:
            effective = engine.effective()
            check_effective(spec, runtime, effective)
        except EngineGateError:
            engine.close()
            raise
        self._loaded[spec.id] = engine
        self.engines[spec.id] = EngineEntry.model_validate(
            {
                "id": spec.id,
                "backend": spec.backend,
                "precision": spec.precision,
                "role": role,
                "spec": asdict(spec),
                "runtime": asdict(runtime),
                "effective": _plain(effective),
                "version": load_backend(spec.backend).version(),
                "key": entry.manifest.key,
                "size_bytes": entry.manifest.size_bytes,
                "build_seconds": entry.manifest.build_seconds,
            }
        )

    def _load(self, entry: StoreEntry, spec: EngineSpec, runtime: RuntimeSpec) -> Engine:
        """Load an engine; one with a process of its own together with its like that the session will ask for."""
        backend = load_backend(spec.backend)
        if not getattr(backend, "own_process", False):
            return load_engine(backend, entry.path, spec, runtime, timeouts=self.config.timeouts())
        known = {*self._loaded, *self._loading, *self._refused}
        for other, other_runtime in ((spec, runtime), *self.expected):
            if other.backend == spec.backend and other.id not in known:
                known.add(other.id)
                try:
                    path = self.build(other).path
                    self._loading[other.id] = ChildEngine(
                        backend.name, path, other, other_runtime, self.config.timeouts()
                    )
                except EngineGateError as error:  # raised when that engine is asked for
                    self._refused[other.id] = error
        if spec.id not in self._loading:
            raise self._refused[spec.id]
        engine = self._loading.pop(spec.id)
        try:
            engine.ready()
        except EngineGateError:
            engine.close()
            raise
        return engine

    def _settle(self) -> None:
        """Wait for engines that load in the background: nothing is measured beside them."""
        for engine in self._loading.values():
            with suppress(EngineGateError):  # raised again when that engine is asked for
                engine.ready()

    def checkpoint_weights(self) -> int:
        """How many weights the checkpoint has; tied ones are stored, and count, once."""
        from safetensors import safe_open

        total = 0
        for file in sorted(self.checkpoint.path.glob("*.safetensors")):
            with safe_open(file, framework="np") as tensors:  # type: ignore[no-untyped-call]
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        return total

    def unload(self, engine_id: str) -> None:
        """Close one engine and give its memory back."""
        engine = self._loaded.pop(engine_id, None)
        if engine is not None:
            engine.close()

    def race(
        self,
        specs: Sequence[tuple[EngineSpec, RuntimeSpec]],
        workload: Workload,
        decided: Callable[[ArenaEntry], bool],
        time_budget: float,
        max_blocks: int,
    ) -> ArenaEntry:
        """Time the engines against the reference, interleaved, until ``decided`` says so.

        An engine that cannot be had is left out. Raises EngineGateError where that is the reference.
        """
        if workload.id not in self.arenas:
            reference = self.reference()
            contestants: dict[str, Engine] = {
                reference.id: self.engine(reference, self.config.runtime(reference.backend), "reference")
            }
            for spec, runtime in specs:
                with suppress(EngineGateError):  # the others race; its own tests say why it does not
                    contestants[spec.id] = self.engine(spec, runtime, "candidate")
            self._settle()
            arena = self._arena(contestants, reference.id, workload, time_budget, max_blocks)

            def enough(_: Sequence[Block]) -> bool:
                return decided(arena.entry())

            self.progress(f"timing {workload.id}: {' '.join(contestants)}")
            arena.run(enough, self.progress)
            self.arenas[workload.id] = arena.entry()
            for engine_id, engine in contestants.items():  # it knows more now: its own clock, its pool, drafts taken
                told = {"effective": _plain(engine.effective())}
                self.engines[engine_id] = self.engines[engine_id].model_copy(update=told)
        return self.arenas[workload.id]

    def audit_contestants(
        self, spec: EngineSpec, runtime: RuntimeSpec, workload: Workload
    ) -> tuple[Contestant, Contestant, PromptPool]:
        """The engine, the reference and the prompts of an audit."""
        reference = self.reference()
        live = self.engine(reference, self.config.runtime(reference.backend), "reference")
        return self.engine(spec, runtime, "candidate"), live, self._pool(workload)

    def memory_of(
        self, spec: EngineSpec, runtime: RuntimeSpec, workload: Workload, role: str = "candidate"
    ) -> MemoryEntry:
        """Memory of one engine under one workload, in a process of its own, once it is found to be what was asked."""
        key = f"{spec.id}/{workload.id}"
        if key not in self.memory:
            self.engine(spec, runtime, role)
            entry = self.build(spec)
            self._settle()
            self.progress(f"memory of {spec.id} at {workload.id}")
            prompts = self._pool(workload).batch(
                workload.batch_size, workload.input_len, seed=workload.seed, round_index=0
            )
            self.memory[key] = measure_memory(
                entry.path, entry.manifest.size_bytes, spec, runtime, prompts, workload, self.config.timeouts()
            )
        return self.memory[key]

    def quality_of(self, spec: EngineSpec, runtime: RuntimeSpec, metric: str) -> QualityEntry:
        """One quality metric of one engine. Raises CapabilityError where the weights are random."""
        refuse_random_weights(self.checkpoint)
        key = f"{spec.id}/{metric}"
        if key not in self.quality:
            answers = self.reference_answers() if metric in COMPARED else {}
            engine = self.engine(spec, runtime, "candidate")
            self.progress(f"{metric} of {spec.id}")
            self.quality[key] = measure_quality(metric, engine, self.tokenizer, self.config, answers)
        return self.quality[key]

    def reference_quality(self, metric: str) -> QualityEntry:
        """The quality reference's own scores, kept in the cache like an engine."""
        refuse_random_weights(self.checkpoint)
        spec = self.quality_reference()
        key = f"{spec.id}/{metric}"
        if key not in self.quality:
            answers = self.reference_answers() if metric in COMPARED else {}

            def measure() -> QualityEntry:
                engine = self._quality_reference_engine()
                self.progress(f"{metric} of the quality reference {spec.id} (kept for later runs)")
                return measure_quality(metric, engine, self.tokenizer, self.config, answers)

            self.quality[key] = self._kept(metric, QualityEntry, measure)
        return self.quality[key]

    def reference_answers(self) -> dict[str, Answer]:
        """The quality reference's greedy answers to the prompts, kept in the cache."""
        if self._answers is None:
            quality = self.config.file.quality

            def measure() -> Answers:
                engine = self._quality_reference_engine()
                self.progress("answers of the quality reference (kept for later runs)")
                items = reference_answers(engine, self.tokenizer, self.prompts(), quality.similarity_tokens)
                return Answers(items=items)

            self._answers = self._kept("answers", Answers, measure).items
        return self._answers

    def _quality_reference_engine(self) -> Engine:
        spec = self.quality_reference()
        return self.engine(spec, self.config.runtime(spec.backend), "quality-reference")

    def _kept(self, name: str, kind: type[Kept], measure: Callable[[], Kept]) -> Kept:
        """A result of the quality reference, from the cache where nothing that it depends on has changed."""
        spec = self.quality_reference()
        runtime = self.config.runtime(spec.backend)
        key = dependency_digest(self.config, self.build(spec).manifest.key, asdict(runtime))
        return load_or_measure(self.cache / "quality" / f"{spec.id}-{name}-{key}.json", kind, measure)

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
        if self._store is not None:
            self._store.close()
        if failures:
            raise failures[0]

    def _arena(
        self, contestants: Mapping[str, Engine], reference: str, workload: Workload, budget: float, max_blocks: int
    ) -> Arena:
        section = self.config.file.arena
        policy = ArenaPolicy(section.warmup_rounds, section.foreign_load_limit, section.retries, budget, max_blocks)
        monitor = self.monitor([engine.spec for engine in contestants.values()])
        return Arena(contestants, reference, workload, self._pool(workload), policy, monitor=monitor)

    def monitor(self, specs: Sequence[EngineSpec]) -> DeviceMonitor | None:
        """What looks at the GPU while these engines are timed; None where none uses one.

        Raises MeasurementError where a process that is not ours uses it already.
        """
        if all(load_backend(spec.backend).capabilities().device != "cuda" for spec in specs):
            return None
        refuse_busy()
        return DeviceMonitor()

    def _pool(self, workload: Workload) -> PromptPool:
        encoded = [self.tokenizer.encode(prompt.text) for prompt in self.prompts()]
        return PromptPool.from_texts(encoded, workload.input_len)

    def _fastest_reference(self, backend_name: str) -> str:
        """Measured once per machine, checkpoint and library version, and kept with the times it was chosen by."""
        backend = load_backend(backend_name)
        fastest = getattr(backend, "fastest_precision", None)
        if fastest is None:
            raise ConfigError(
                f"backend {backend_name!r} cannot choose its fastest precision",
                "name the precision under reference.precision",
            )
        version = backend.version()
        kept = self.cache / "reference" / f"{self.fingerprint.key}-{self.checkpoint.digest[:12]}-{backend_name}.json"

        def measure() -> ReferenceChoice:
            self._settle()
            self.progress(f"choosing the fastest precision of {backend_name} on this machine (once)")
            precision, seconds = fastest(self.checkpoint)
            times = {name: list(rounds) for name, rounds in seconds.items()}
            return ReferenceChoice(precision=precision, seconds=times, version=version)

        choice = load_or_measure(kept, ReferenceChoice, measure)
        if choice.version != version:
            kept.unlink()
            choice = load_or_measure(kept, ReferenceChoice, measure)
        return choice.precision


def _plain(effective: Effective) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(asdict(effective), default=str))
    return plain
