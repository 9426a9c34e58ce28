"""One engine of the session beside its live base: both built, found to be what was asked, and raced in launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from enginegate.core.errors import EngineGateError, MeasurementError
from enginegate.core.records import MemoryEntry, QualityEntry, RaceEntry, SideEntry
from enginegate.core.serving_records import ServingEntry
from enginegate.core.specs import EngineSpec, RuntimeSpec, Workload
from enginegate.engines.base import Backend
from enginegate.engines.effective import check_effective
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.foreign import ForeignBackend
from enginegate.engines.process.interpreter import HERE, Interpreter
from enginegate.engines.registry import capabilities, load_backend
from enginegate.engines.store import StoreEntry
from enginegate.measure.launches import LaunchPolicy, LaunchRace, Side
from enginegate.measure.serving.pairs import serve_pairs
from enginegate.plan.gates import LiveTwin, live_spread
from enginegate.plan.selection import Candidate
from enginegate.session.base import Base
from enginegate.session.bench import ModelBench
from enginegate.session.engines import plain
from enginegate.session.serving import ServingLoad
from enginegate.verdicts.launch_audit import refuse_unlike


@dataclass(frozen=True)
class _Half:
    """One side: what it is, what starts it, and its files."""

    spec: EngineSpec
    runtime: RuntimeSpec
    backend: Backend
    stored: StoreEntry

    @property
    def interpreter(self) -> Interpreter:
        """The Python that it runs in."""
        return self.backend.interpreter if isinstance(self.backend, ForeignBackend) else HERE

    def version_beside(self, other: _Half) -> str:
        """Where it runs in another Python: in brackets, its libraries in which it differs from the other side."""
        if not isinstance(self.backend, ForeignBackend):
            return ""
        theirs = other.backend.version().split(", ")
        different = [each for each in self.backend.version().split(", ") if each not in theirs]
        return f" ({', '.join(each for each in different if not each.endswith(' absent')) or 'the same versions'})"


class Duel:
    """An engine and its live base.

    Attributes:
        live: the base as the gates take it.
        model: name of the model.
    """

    def __init__(
        self, bench: ModelBench, base: _Half, against: str, head: _Half, asked_head: str, notes: tuple[str, ...]
    ) -> None:
        self._bench = bench
        self._against, self._asked_head = against, asked_head
        self._head, self._base = head, base
        self._race: LaunchRace | None = None
        self._works: tuple[Workload, ...] = ()
        self._said: dict[str, SideEntry] = {}
        self._homes: dict[str, object] = {}
        self._copies = False
        self._engine: ChildEngine | None = None
        manifest = base.stored.manifest
        self.live = LiveTwin(
            base.spec.id,
            f"{base.spec.label}{base.version_beside(head)}",
            notes,
            manifest.size_bytes,
            manifest.build_seconds,
            self.memory,
            self.quality,
            f" of {asked_head}{head.version_beside(base)}" if asked_head else "",
        )
        self.model = bench.config.name

    @classmethod
    def of(cls, bench: ModelBench, base: Base, candidate: Candidate, head: Base | None = None) -> Duel:
        """Build both sides, each with its own libraries where it can.

        Args:
            bench: the model.
            base: the live base.
            candidate: the engine.
            head: where its engine runs; None for this Python.

        Raises EngineGateError where the base has no such engine, or one of them cannot be built.
        """
        spec, runtime = base.twin(candidate)
        notes: list[str] = []
        if head is None:
            ours = _Half(
                candidate.spec,
                candidate.runtime,
                load_backend(candidate.spec.backend),
                bench.files.build(candidate.spec),
            )
        else:
            notes += [f"the head is {head.against}", *(f"of the head: {note}" for note in head.notes)]
            ours = _built(bench, head, candidate.spec, candidate.runtime, "head", notes)
        notes += base.notes
        theirs = _built(bench, base, spec, runtime, "base", notes)
        if (theirs.stored.key, theirs.interpreter, runtime) == (ours.stored.key, ours.interpreter, ours.runtime):
            notes.append("base and head are the same engine in the same Python")
        return cls(bench, theirs, str(base.against), ours, str(head.against) if head else "", tuple(notes))

    @property
    def raced(self) -> bool:
        """Whether there was a race, to whatever end."""
        return self._race is not None

    @property
    def seconds(self) -> float:
        """Of rounds so far, the pilot's with them."""
        return self._race.seconds + self._race.piloting if self._race is not None else 0.0

    @property
    def failure(self) -> EngineGateError | None:
        """What ended the race before its time, if anything did."""
        return self._race.failure if self._race is not None else None

    @property
    def one_installation(self) -> bool:
        """Whether both sides ran from the same files."""
        return len(self._homes) > 1 and len(set(self._homes.values())) == 1

    def audit(self, workloads: Sequence[Workload], launches: int, time_budget: float) -> None:
        """Race them as two copies of one engine, to the last launch. That they are none ends it in the first."""
        self._copies = True
        self.run(workloads, lambda _: False, time_budget, launches)

    def run(
        self,
        workloads: Sequence[Workload],
        decided: Callable[[RaceEntry], bool],
        time_budget: float,
        launches: int | None = None,
    ) -> None:
        """Race them at these workloads until ``decided`` says so. Whatever ends the race early is in its entry.

        ``launches``: at most; None for as many as the gate's last look takes.
        """
        config = self._bench.config.file
        live = config.gates.live
        policy = LaunchPolicy(
            looks=tuple(live.looks) if launches is None else (*(n for n in live.looks if n < launches), launches),
            pairs=None if live.pairs == "auto" else live.pairs,
            tokens=None if live.tokens == "auto" else live.tokens,
            spread=live_spread(live, "speedup", capabilities(self._head.backend).device == "cuda"),
            warmup_rounds=config.arena.warmup_rounds,
            foreign_load_limit=config.arena.foreign_load_limit,
            retries=config.arena.retries,
            time_budget=time_budget,
            vocabulary=self._bench.vocabulary(),
        )
        self._race = LaunchRace(
            self._side(self._head),
            self._side(self._base),
            [(workload, self._bench.pool(workload)) for workload in workloads],
            policy,
            lambda: self._bench.monitor([self._head.spec, self._base.spec]),
            self._bench.trials.setdefault(self._head.spec.backend, {}),
        )
        self._works = tuple(workloads)
        self._bench.engines.settle()
        try:
            self._race.run(lambda _: decided(self.entry()), self._look, self._bench.files.progress)
        except KeyboardInterrupt:
            self._race.stopped = f"interrupted in launch {len(self._race.launches) + 1}"
            raise
        if self._race.failure is not None:
            self._bench.files.progress(f"{self._head.spec.id}: {self._race.stopped}")

    def serve(self, load: ServingLoad) -> ServingEntry:
        """Have both serve the same traces in turn, each pair of runs in processes launched anew.

        Whatever ends it early is in the entry.
        """
        bench = self._bench
        traces = [load.made(number) for number in range(bench.config.file.serving.pairs)]
        bench.engines.settle()
        bench.monitor([self._head.spec, self._base.spec])
        runs = serve_pairs(
            self._side(self._head),
            self._side(self._base),
            traces,
            load.pool(bench.files),
            load.policy(bench.vocabulary()),
            self._look,
            bench.files.progress,
        )
        return ServingEntry(
            engine=self._head.spec.id,
            load=load.entry(traces[0][0]),
            slo=load.slo,
            runs=runs.head,
            base=self._base.spec.id,
            base_runs=runs.base,
            failure=runs.failure.problem if runs.failure else "",
        )

    def memory(self, workload: Workload) -> MemoryEntry:
        """Memory of the base under one workload, measured once, in a fresh process of its own Python."""
        base = self._base
        return self._bench.memory_of(
            base.spec, base.runtime, workload, stored=base.stored, interpreter=base.interpreter
        )

    def quality(self, metric: str) -> QualityEntry:
        """One quality metric of the base, measured once, on the same items as the head's."""
        if self._engine is None:
            engine = self._side(self._base).start()
            try:
                self._look(self._base.spec.id, engine)
            except EngineGateError:
                engine.close()
                raise
            self._engine = engine
        return self._bench.quality_by(self._engine, metric)

    def close(self) -> None:
        """Close the base's engine, where it was loaded for its quality."""
        if self._engine is not None:
            self._engine.close()

    def entry(self) -> RaceEntry:
        """What happened, for the run record."""
        race = self._race
        if race is None:
            raise MeasurementError(f"{self._head.spec.id} was not raced against its base")
        return RaceEntry(
            against=self._against,
            head=self._said_by(self._head),
            base=self._said_by(self._base),
            launches=list(race.launches),
            tokens={work: rounds.tokens for work, rounds in race.rounds.items()},
            output_len={work.id: work.output_len for work in self._works},
            rounds=dict(race.rounds),
            seconds=race.seconds,
            pilot_seconds=race.piloting,
            apart=race.apart,
            stopped=race.stopped,
            failure=race.failure.problem if race.failure else "",
            warnings=list(race.warnings),
            asked_head=self._asked_head,
        )

    def _said_by(self, half: _Half) -> SideEntry:
        nothing = SideEntry(engine=half.spec.id, python="", versions="", effective={}, key=half.stored.key)
        return self._said.get(half.spec.id, nothing)

    def _side(self, half: _Half) -> Side:
        timeouts, interpreter = self._bench.config.timeouts(), half.interpreter
        name, path = half.backend.name, half.stored.path
        return Side(half.spec.id, lambda: ChildEngine(name, path, half.spec, half.runtime, timeouts, interpreter))

    def _look(self, name: str, engine: ChildEngine) -> None:
        """See that a side is what was asked, and note what it says of itself."""
        half = self._head if name == self._head.spec.id else self._base
        effective = engine.effective()
        check_effective(half.spec, half.runtime, effective)
        self._said[name] = SideEntry(
            engine=name,
            python=str(engine.worker.greeting.get("python", "")),
            versions=engine.versions(),
            effective=plain(effective),
            key=half.stored.key,
            spec=asdict(half.spec),
            runtime=asdict(half.runtime),
            size_bytes=half.stored.manifest.size_bytes,
            build_seconds=half.stored.manifest.build_seconds,
        )
        self._homes[name] = engine.worker.greeting.get("home", name)
        if self._copies and len(self._said) > 1:
            refuse_unlike(self._said[self._head.spec.id], self._said[self._base.spec.id], self._against)


def _built(bench: ModelBench, side: Base, spec: EngineSpec, runtime: RuntimeSpec, name: str, notes: list[str]) -> _Half:
    """One side that was named, built; what its verdicts must say of that is added to ``notes``."""
    with side.against.named():
        builder = backend = side.backend(spec.backend)
        if isinstance(backend, ForeignBackend):
            files = bench.files
            why = backend.why_not_built(spec, runtime, files.checkpoint.path, files.cache)
            if why:
                builder = load_backend(spec.backend)
                notes.append(f"runtime only: the {name} runs an engine that was built here ({why})")
        return _Half(spec, runtime, backend, bench.files.build(spec, builder))
