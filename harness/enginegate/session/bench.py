"""One model's samples in one session: engines timed in arenas, their memory, their quality. Each is taken once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from enginegate.config.loading import Config, find_config, load_config
from enginegate.core.cache import Progress, cache_folder
from enginegate.core.errors import EngineError, EngineGateError, MeasurementError, edge
from enginegate.core.progress import Step
from enginegate.core.records import (
    ArenaEntry,
    Block,
    Fingerprint,
    MemoryEntry,
    MemoryParts,
    QualityEntry,
    SweepEntry,
    SweepPoint,
    TrialEntry,
)
from enginegate.core.serving_records import ServingEntry
from enginegate.core.specs import EngineSpec, RuntimeSpec, Workload
from enginegate.core.technique_records import TechniqueEntry
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Engine
from enginegate.engines.process.heartbeat import told
from enginegate.engines.process.interpreter import HERE, Interpreter
from enginegate.engines.registry import capabilities, load_backend
from enginegate.engines.store import StoreEntry
from enginegate.engines.timing import Contestant
from enginegate.machine.energy import EnergyMeter, energy_meter
from enginegate.machine.fingerprint import fingerprint
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.memory import measure_memory
from enginegate.measure.memory_model import MemoryModel, predicted_memory, read_memory_model
from enginegate.measure.prompts import PromptPool
from enginegate.measure.serving.pairs import serve_run
from enginegate.measure.techniques import Kit
from enginegate.models.vocabulary import vocabulary_size
from enginegate.quality.entry import refuse_random_weights
from enginegate.quality.measure import ASKING, measure_quality
from enginegate.quality.reference_cache import load_or_measure
from enginegate.session.engines import RunningEngines, Wrap
from enginegate.session.files import ModelFiles
from enginegate.session.references import QualityReference, SpeedReference
from enginegate.session.serving import ServingLoad
from enginegate.session.techniques import TechniqueBench


@dataclass
class ModelBench:
    """What is measured of one model (one configuration file).

    Attributes:
        files: checkpoint, tokenizer, prompts, built engines.
        engines: those that run.
        speed_reference: the engine that ratios are taken over.
        quality_reference: the engine that quality is compared with.
        arenas: timed blocks by workload id.
        left: by workload, the engines that left its race, and why.
        memory: by ``<engine id>/<workload id>``.
        quality: by ``<engine id>/<metric>``.
        techniques: by engine id and the technique's name.
        kv_caches: races of one engine's KV caches, by ``<id of the one with 16 bits>/<workload id>``.
        sweeps: engines at several sizes of work, by engine id.
        serving: by engine id, alone or beside its live base.
        trials: by backend and workload, what pilots of races against a live base found.
    """

    files: ModelFiles
    engines: RunningEngines
    speed_reference: SpeedReference
    quality_reference: QualityReference
    arenas: dict[str, ArenaEntry] = field(default_factory=dict)
    left: dict[str, dict[str, EngineGateError]] = field(default_factory=dict)
    memory: dict[str, MemoryEntry] = field(default_factory=dict)
    quality: dict[str, QualityEntry] = field(default_factory=dict)
    kv_caches: dict[str, ArenaEntry] = field(default_factory=dict)
    sweeps: dict[str, SweepEntry] = field(default_factory=dict)
    serving: dict[str, ServingEntry] = field(default_factory=dict)
    techniques: dict[tuple[str, str], TechniqueEntry] = field(default_factory=dict)
    trials: dict[str, dict[str, list[TrialEntry]]] = field(default_factory=dict)
    _no_memory: dict[str, EngineGateError] = field(default_factory=dict, repr=False)
    _memory_model: MemoryModel | None = field(default=None, repr=False)
    _no_race: dict[str, EngineGateError] = field(default_factory=dict, repr=False)
    _no_serving: dict[str, EngineGateError] = field(default_factory=dict, repr=False)
    _no_technique: dict[tuple[str, str], EngineGateError] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        config: Config,
        machine: Fingerprint,
        cache: Path,
        progress: Progress,
        wrap: Wrap = lambda engine: engine,
        expected: Sequence[tuple[EngineSpec, RuntimeSpec]] = (),
    ) -> ModelBench:
        """The bench of one configuration; see ModelFiles and RunningEngines for the rest."""
        files = ModelFiles(config, cache, progress, {spec.backend for spec, _ in expected})
        engines = RunningEngines(files, wrap, expected)
        return cls(files, engines, SpeedReference(engines, machine), QualityReference(engines))

    @classmethod
    def named(cls, model: str, progress: Progress) -> ModelBench:
        """The bench of ``configs/MODEL.yaml``, or of a file named ``*.yaml``, on this machine, in the user's cache."""
        file = Path(model) if model.endswith(".yaml") else find_config(model)
        return cls.of(load_config(file), fingerprint(), cache_folder(), progress)

    @property
    def config(self) -> Config:
        """The model's configuration."""
        return self.files.config

    def race(
        self,
        candidates: Sequence[tuple[EngineSpec, RuntimeSpec]],
        workload: Workload,
        decided: Callable[[ArenaEntry], bool],
        time_budget: float,
        max_blocks: int,
    ) -> ArenaEntry:
        """Time the engines against the reference, interleaved, until ``decided`` says so.

        An engine that cannot be had is left out, and one that fails leaves; ``left`` keeps why, by workload. Each
        workload is raced once. Raises EngineGateError where the reference cannot be had, or where the machine could not
        be looked at: the same again whenever it is asked for.
        """
        if workload.id in self._no_race:
            raise self._no_race[workload.id]
        if workload.id not in self.arenas:
            reference = self.speed_reference.spec()
            contestants: dict[str, Engine] = {reference.id: self._live_reference()}
            for spec, runtime in candidates:
                with suppress(EngineGateError):  # the others race; its own tests say why it does not
                    contestants[spec.id] = self.engines.get(spec, runtime, "candidate")
            self.engines.settle()
            arena = self._arena(contestants, reference.id, workload, time_budget, max_blocks)
            try:
                self._run(arena, decided)
            except EngineGateError as error:
                self._no_race[workload.id] = error
                raise
            self.arenas[workload.id], self.left[workload.id] = arena.entry(), arena.failures
        return self.arenas[workload.id]

    def _run(self, arena: Arena, decided: Callable[[ArenaEntry], bool]) -> None:
        """Run an arena to its end; who does not say what it is afterwards has left it."""

        def enough(_: Sequence[Block]) -> bool:
            return decided(arena.entry())

        workload = arena.workload.id
        self.files.progress(Step(f"timing {workload}"))
        with edge(MeasurementError, f"the race at {workload} broke off", "see what `enginegate doctor` says"):
            arena.run(enough, self.files.progress)
        for engine_id in arena.racing:
            problem = f"{engine_id} does not say what it is after its race"
            try:
                with edge(EngineError, problem, "look into the library's log"):
                    self.engines.look_again(engine_id)
            except EngineGateError as reason:
                arena.leave(engine_id, reason)
        for engine_id, failure in arena.failures.items():
            self.files.progress(f"{engine_id} left the race at {workload}: {failure.problem}")

    def race_kv_caches(
        self,
        engines: Sequence[tuple[EngineSpec, RuntimeSpec]],
        workload: Workload,
        decided: Callable[[ArenaEntry], bool],
        time_budget: float,
        max_blocks: int,
    ) -> ArenaEntry:
        """Time one engine with several KV caches, the first of 16 bits, which the others are ratios over.

        Each such race is run once; ``left`` keeps who left it, by ``<id of the first>/<workload id>``. Raises
        EngineGateError where the first cannot be had: the same again whenever it is asked for.
        """
        (wide, runtime), *others = engines
        key = f"{wide.id}/{workload.id}"
        if key in self._no_race:
            raise self._no_race[key]
        if key not in self.kv_caches:
            try:
                contestants: dict[str, Engine] = {wide.id: self.engines.get(wide, runtime, "candidate")}
                for spec, other in others:
                    with suppress(EngineGateError):  # its own tests say why it does not race
                        contestants[spec.id] = self.engines.get(spec, other, "candidate")
                self.engines.settle()
                arena = self._arena(contestants, wide.id, workload, time_budget, max_blocks)
                self._run(arena, decided)
            except EngineGateError as error:
                self._no_race[key] = error
                raise
            self.kv_caches[key], self.left[key] = arena.entry(), arena.failures
        return self.kv_caches[key]

    def sweep(
        self,
        spec: EngineSpec,
        runtime: RuntimeSpec,
        points: Sequence[Workload],
        decided: Callable[[SweepEntry], bool],
        time_budget: float,
        max_blocks: int,
    ) -> SweepEntry:
        """Time one engine at several sizes of work, interleaved, until ``decided`` says so; once for each engine.

        The smallest size comes first; where that fails, all do. Raises EngineGateError where the engine cannot be had:
        the same again whenever it is asked for.
        """
        if spec.id in self._no_race:
            raise self._no_race[spec.id]
        if spec.id not in self.sweeps:
            try:
                engine = self.engines.get(spec, runtime, "candidate")
                self.engines.settle()
                longest = max(points, key=lambda point: point.input_len)
                arena = Arena(
                    {point.id: engine for point in points},
                    points[0].id,
                    points[0],
                    self.pool(longest),
                    self._policy(time_budget, max_blocks),
                    monitor=self.monitor([spec]),
                    vocabulary=self.vocabulary(),
                    meter=self.meter([spec]),
                    works={point.id: point for point in points},
                )
                task = f"the sweep of {spec.id} over {len(points)} sizes"
                self.files.progress(Step(task))
                with edge(MeasurementError, f"{task} broke off", "see what `enginegate doctor` says"):
                    arena.run(lambda _: decided(_sweep_entry(spec.id, arena)), self.files.progress)
                self.engines.look_again(spec.id)
            except EngineGateError as error:
                self._no_race[spec.id] = error
                raise
            self.sweeps[spec.id] = _sweep_entry(spec.id, arena)
        return self.sweeps[spec.id]

    def audit_contestants(
        self, spec: EngineSpec, runtime: RuntimeSpec, workload: Workload
    ) -> tuple[Contestant, Contestant, PromptPool]:
        """The engine, the reference and the prompts of an audit."""
        live = self._live_reference()
        return self.engines.get(spec, runtime, "candidate"), live, self.pool(workload)

    def memory_of(
        self,
        spec: EngineSpec,
        runtime: RuntimeSpec,
        workload: Workload,
        role: str = "candidate",
        *,
        stored: StoreEntry | None = None,
        interpreter: Interpreter = HERE,
    ) -> MemoryEntry:
        """Memory of one engine under one workload, in a process of its own, once it is found to be what was asked.

        ``stored``, ``interpreter``: of a live base, which was found so elsewhere: its files, and the Python it runs in.

        Raises:
            EngineGateError: it could not be measured; the same again whenever it is asked for.
        """
        key = f"{spec.id}/{workload.id}"
        if key in self._no_memory:
            raise self._no_memory[key]
        if key not in self.memory:
            if stored is None:
                self.engines.get(spec, runtime, role)
            entry = stored or self.files.build(spec)
            self.engines.settle()
            self.files.progress(Step(f"memory of {spec.id} at {workload.id}"))
            prompts = self.pool(workload).batch(
                workload.batch_size, workload.input_len, seed=workload.seed, round_index=0
            )
            try:
                disk, timeouts = entry.manifest.size_bytes, self.config.timeouts()
                found = measure_memory(entry.path, disk, spec, runtime, prompts, workload, timeouts, interpreter)
                self.memory[key] = found.model_copy(update={"predicted": self._predicted(spec, runtime, workload)})
            except EngineGateError as error:
                self._no_memory[key] = error
                raise
        return self.memory[key]

    def _predicted(self, spec: EngineSpec, runtime: RuntimeSpec, workload: Workload) -> MemoryParts | None:
        """What the backend's memory law says; None where it has none for this engine."""
        try:
            if self._memory_model is None:
                self._memory_model = read_memory_model(self.files.checkpoint.path)
            return predicted_memory(load_backend(spec.backend), spec, runtime, workload, self._memory_model)
        except EngineGateError as error:
            self.files.progress(f"memory of {spec.id} is not predicted: {error.problem}")
            return None

    def note_reference_memory(self, workload: Workload) -> None:
        """Have the reference's memory for the tables; where it cannot be measured they say n/a.

        Where nothing was timed yet and its precision is open, there is no such row.
        """
        if not self.speed_reference.known:
            return
        try:
            self.reference_memory(workload)
        except EngineGateError as error:
            self.files.progress(f"memory of the reference at {workload.id} is not known: {error.problem}")

    def reference_memory(self, workload: Workload) -> MemoryEntry:
        """Memory of the speed reference under one workload; on a CPU it is kept in the cache for later runs."""
        spec = self.speed_reference.spec()
        runtime = self.config.runtime(spec.backend)

        def measure() -> MemoryEntry:
            return self.memory_of(spec, runtime, workload, "reference")

        if capabilities(load_backend(spec.backend)).device == "cuda":  # its bandwidth is of one session
            return measure()
        key = f"{spec.id}/{workload.id}"
        if key not in self.memory:
            kept = self.speed_reference.memory_file(workload, runtime)
            self.memory[key] = load_or_measure(kept, MemoryEntry, measure, self.files.progress)
        return self.memory[key]

    def quality_of(self, spec: EngineSpec, runtime: RuntimeSpec, metric: str) -> QualityEntry:
        """One quality metric of one engine. Raises CapabilityError where the weights are random."""
        return self._scores(spec.id, metric, lambda: self.engines.get(spec, runtime, "candidate"))

    def quality_by(self, engine: Engine, metric: str) -> QualityEntry:
        """The same of a running engine, such as a live base."""
        return self._scores(engine.spec.id, metric, lambda: engine)

    def _scores(self, engine_id: str, metric: str, had: Callable[[], Engine]) -> QualityEntry:
        refuse_random_weights(self.files.checkpoint)
        key = f"{engine_id}/{metric}"
        if key not in self.quality:
            self.files.check_data(metric)
            if metric in ASKING:  # before minutes are spent on building and loading
                self.files.tokenizer.require_chat()
            reference = self.quality_reference.wanted(metric)
            engine = CheckedEngine(had(), self.vocabulary())
            with told(self.files.progress, f"{metric} of {engine_id}"):
                found = measure_quality(metric, engine, self.files.tokenizer, self.config, reference)
            for name, entry in found.items():
                self.quality.setdefault(f"{engine_id}/{name}", entry)
        return self.quality[key]

    def reference_quality(self, metric: str) -> QualityEntry:
        """The quality reference's own scores."""
        key = f"{self.quality_reference.spec.id}/{metric}"
        if key not in self.quality:
            self.quality[key] = self.quality_reference.scores(metric)
        return self.quality[key]

    def unquantized_quality(self, metric: str) -> QualityEntry:
        """The scores of a second unquantized engine beside the quality reference."""
        spec = self.quality_reference.second
        assert spec is not None, "nobody asks for the scores of no engine"
        key = f"{spec.id}/{metric}"
        if key not in self.quality:
            self.quality[key] = self.quality_reference.second_scores(metric)
        return self.quality[key]

    def serving_of(
        self, spec: EngineSpec, runtime: RuntimeSpec, beside: Callable[[ServingLoad], ServingEntry] | None = None
    ) -> ServingEntry:
        """Serving of one engine under the configured load, once.

        ``beside``: serves it beside its live base, and says how that went; None for the engine alone.

        Raises EngineGateError where it could not be served: the same again whenever it is asked for.
        """
        if spec.id in self._no_serving:
            raise self._no_serving[spec.id]
        if spec.id not in self.serving:
            try:
                load = ServingLoad.of(self.config, spec)
                self.serving[spec.id] = self._served(spec, runtime, load) if beside is None else beside(load)
            except EngineGateError as error:
                self._no_serving[spec.id] = error
                raise
        return self.serving[spec.id]

    def _served(self, spec: EngineSpec, runtime: RuntimeSpec, load: ServingLoad) -> ServingEntry:
        engine = self.engines.get(spec, runtime, "candidate")
        self.engines.settle()
        self.monitor([spec])
        trace, seed = load.made()
        entry = load.entry(trace)
        self.files.progress(Step(f"serving {spec.id}: {entry}"))
        problem = f"{spec.id} could not serve {entry}"
        with edge(EngineError, problem, "run its tests alone, and look into the engine's own log"):
            run = serve_run(engine, trace, load.pool(self.files), seed, load.policy(self.vocabulary()))
        return ServingEntry(engine=spec.id, load=entry, slo=load.slo, runs=[run])

    def technique_of(self, spec: EngineSpec, runtime: RuntimeSpec, name: str) -> TechniqueEntry:
        """A technique of serving on one engine, with and without it, once.

        Raises EngineGateError where it could not be measured: the same again whenever it is asked for.
        """
        key = spec.id, name
        if key in self._no_technique:
            raise self._no_technique[key]
        if key not in self.techniques:
            self.engines.settle()
            self.monitor([spec])
            longest = Workload(spec.max_batch_size, spec.max_input_len, spec.max_output_len)
            kit = Kit(spec, self.pool(longest), self.config.file.workload.seed)
            pairs = self.config.file.gates.techniques.pairs
            measured = TechniqueBench(self.engines, kit, self.vocabulary(), pairs)
            try:
                self.techniques[key] = measured.measure(name, spec, runtime)
            except EngineGateError as error:
                self._no_technique[key] = error
                raise
        return self.techniques[key]

    def monitor(self, specs: Sequence[EngineSpec]) -> DeviceMonitor | None:
        """What looks at the GPU while these engines are timed; None where none uses one.

        Raises MeasurementError where a process that is not ours uses it already. The engines must be loaded.
        """
        if all(capabilities(load_backend(spec.backend)).device != "cuda" for spec in specs):
            return None
        monitor = DeviceMonitor()
        monitor.refuse_busy()
        return monitor

    def meter(self, specs: Sequence[EngineSpec]) -> EnergyMeter | None:
        """What counts the energy of these engines: the GPU's where all run on it; None where nothing does."""
        devices = {capabilities(load_backend(spec.backend)).device for spec in specs}
        found = energy_meter("cuda" if devices == {"cuda"} else "cpu") if len(devices) == 1 else ""
        return None if isinstance(found, str) else found

    def close(self) -> None:
        """Close the engines and give their files free."""
        try:
            self.engines.close()
        finally:
            self.files.close()

    def _live_reference(self) -> Engine:
        spec = self.speed_reference.spec()
        return self.engines.get(spec, self.config.runtime(spec.backend), "reference")

    def _arena(
        self, contestants: Mapping[str, Engine], reference: str, workload: Workload, budget: float, max_blocks: int
    ) -> Arena:
        specs = [engine.spec for engine in contestants.values()]
        return Arena(
            contestants,
            reference,
            workload,
            self.pool(workload),
            self._policy(budget, max_blocks),
            monitor=self.monitor(specs),
            meter=self.meter(specs),
            twins=_twins(contestants),
            vocabulary=self.vocabulary(),
        )

    def _policy(self, time_budget: float, max_blocks: int) -> ArenaPolicy:
        section = self.config.file.arena
        return ArenaPolicy(section.warmup_rounds, section.foreign_load_limit, section.retries, time_budget, max_blocks)

    def vocabulary(self) -> int:
        """Token ids of answers lie below it."""
        return vocabulary_size(self.files.checkpoint.path)

    def pool(self, workload: Workload) -> PromptPool:
        """The prompts of timed rounds."""
        encoded = [self.files.tokenizer.encode(prompt.text) for prompt in self.files.prompts()]
        return PromptPool.from_texts(encoded, workload.input_len)


def _sweep_entry(engine_id: str, arena: Arena) -> SweepEntry:
    """What a sweep gave so far."""
    entry = arena.entry()
    return SweepEntry(
        engine=engine_id,
        points=[
            SweepPoint(batch_size=work.batch_size, input_len=work.input_len, output_len=work.output_len)
            for work in arena.works.values()
        ],
        seed=arena.workload.seed,
        warmup_rounds=entry.warmup_rounds,
        blocks=entry.blocks,
        stopped=entry.stopped,
        failures=entry.failures,
        warnings=entry.warnings,
    )


def _twins(contestants: Mapping[str, Engine]) -> list[tuple[str, ...]]:
    """Variants of one backend and precision: they stand next to each other in every block."""
    groups: dict[tuple[str, str], list[str]] = {}
    for engine_id, engine in contestants.items():
        groups.setdefault((engine.spec.backend, engine.spec.precision), []).append(engine_id)
    return [tuple(group) for group in groups.values() if len(group) > 1]
