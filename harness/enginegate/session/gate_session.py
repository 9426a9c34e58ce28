"""The state of one pytest session: what was selected, what was measured, what was concluded, and its record."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import enginegate
from enginegate.config.loading import Config
from enginegate.core.cache import Progress, cache_folder
from enginegate.core.errors import BaselineError, EngineGateError, RecordError, edge
from enginegate.core.files import write_atomically
from enginegate.core.records import (
    ArenaEntry,
    AttemptEntry,
    Fingerprint,
    JointEntry,
    ModelEntry,
    RunRecord,
    ShardsEntry,
    VerdictEntry,
)
from enginegate.core.serving_records import ServingEntry
from enginegate.core.specs import Workload
from enginegate.core.technique_records import TechniqueEntry
from enginegate.core.urls import without_password
from enginegate.engines.process.environments import installed
from enginegate.gates.verdict import Verdict
from enginegate.machine.fingerprint import fingerprint
from enginegate.machine.lease import Lease
from enginegate.plan.against import Against
from enginegate.plan.gates import EngineGates, ModelFacts
from enginegate.plan.options import Options
from enginegate.plan.plan import Plan, PlannedTest, make_plan
from enginegate.plan.selection import Candidate, Selection, missing, select
from enginegate.quality.ties import CHOICES
from enginegate.session.audits import measure_audit
from enginegate.session.base import Base, NewEngineError, prepare_base
from enginegate.session.bench import ModelBench
from enginegate.session.duel import Duel
from enginegate.session.engines import Wrap
from enginegate.session.recording import (
    Status,
    WorkerRecords,
    add_to_history,
    commit,
    now,
    run_id,
    write_reports,
)
from enginegate.session.shards import own_shard
from enginegate.storage.audits import (
    AnyAudit,
)
from enginegate.storage.baselines import lock_path
from enginegate.storage.runs import save_record
from enginegate.verdicts.inputs import GateInputs, SpeedInputs, StoredFloor, StoredSessions
from enginegate.verdicts.joint import joint_verdicts
from enginegate.verdicts.quality import why_guessed
from enginegate.verdicts.speed import live_undecided, speed_undecided


@dataclass(frozen=True)
class TimedEngine:
    """One engine's part in an arena: the samples that its speed is judged by."""

    candidate: Candidate
    workload: Workload
    arena: ArenaEntry


@dataclass
class GateSession:
    """One session. Built at configuration; nothing heavy happens before a test asks for it.

    Attributes:
        options: the parsed command line.
        arguments: the command line as given, for the record.
        progress: receives one line per long step.
        wrap: see ``session.engines.Wrap``.
        budget: under ``--gate-audit``, how many gates share the error budget in the session that is audited.
        warnings: what else the reader of the record must know.
        verdicts, attempts: by model: of each test's last attempt, and the attempts before it.
        errors: how tests ended whose verdicts do not say that, by test; a record with any is partial.
        run: the run's id, which xdist workers have from their controller.
        notes: in an xdist worker, which writes no records: the file that its controller finds if it crashes.
        crashed: an xdist worker ended without sending its records.
        ended_early: somebody ended the session before its last test; its records are partial.
        empty_shard: an xdist worker found that this shard has no engines.
        unfinished: in a controller of xdist: the workers that have not ended, and where each keeps its notes.
        lease: where engines are measured on a GPU, or spread over xdist workers: the cards that are this process's own.
        saved: the records written, with their folders.
    """

    options: Options
    arguments: tuple[str, ...]
    progress: Progress
    wrap: Wrap = lambda engine: engine
    budget: int | None = None
    verdicts: dict[str, list[VerdictEntry]] = field(default_factory=dict)
    attempts: dict[str, list[AttemptEntry]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)
    started: str = field(default_factory=now)
    run: str = field(default_factory=run_id)
    notes: Path | None = None
    crashed: bool = False
    ended_early: bool = False
    empty_shard: bool = False
    unfinished: dict[str, Path] = field(default_factory=dict)
    lease: Lease | None = None
    _selection: Selection | None = None
    _benches: dict[str, ModelBench] = field(default_factory=dict)
    _fingerprint: Fingerprint | None = None
    _plan: Plan | None = None
    _gates: dict[str, EngineGates] = field(default_factory=dict)
    _bases: dict[str, Base] = field(default_factory=dict)
    _heads: dict[str, Base] = field(default_factory=dict)
    _checkouts: dict[str, Config] = field(default_factory=dict)
    _duels: dict[str, Duel | None] = field(default_factory=dict)
    _no_duels: dict[str, EngineGateError] = field(default_factory=dict)
    saved: list[tuple[RunRecord, Path]] = field(default_factory=list)
    _workers: WorkerRecords = field(default_factory=WorkerRecords)
    _written: int = 0

    @property
    def selection(self) -> Selection:
        """What is tested. Raises ConfigError or CapabilityError."""
        if self._selection is None:
            options = self.options
            self._selection = select(
                models=options.models,
                configs=options.configs,
                engines=options.engines,
                precisions=options.precisions,
                batch_sizes=options.batch_sizes,
                folder=options.root / "configs",
                default=options.default_model,
                own=self._own_configuration,
                here=lambda config: config.name not in self._heads or self._heads[config.name].interpreter.here,
            )
        return self._selection

    def _own_configuration(self, config: Config) -> Config:
        """The configuration of the head that was named, which is prepared; this checkout's own without one."""
        if self.options.head is None:
            return self.options.judging.of(config)
        head = self._prepared(self.options.head, config)
        self._heads[head.config.name] = head
        self._checkouts[head.config.name] = config
        return self.options.judging.of(head.config)

    def _prepared(self, against: Against, config: Config) -> Base:
        accepted = lock_path(self.options.baselines, self.fingerprint.key)
        return prepare_base(against, config, self.options.root, cache_folder(), accepted, self.progress)

    @property
    def fingerprint(self) -> Fingerprint:
        """This machine."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint()
        return self._fingerprint

    def bench(self, config: Config) -> ModelBench:
        """The bench of one model. Raises ConfigError where its prompts cannot be used, before anything loads."""
        if config.name not in self._benches:
            expected = [
                (each.spec, each.runtime)
                for each in self.selection.candidates
                if each.config.name == config.name and (self._plan is None or self._plan.runs(each.id))
            ]
            bench = ModelBench.of(config, self.fingerprint, cache_folder(), self.progress, self.wrap, expected)
            bench.files.prompts()
            self._benches[config.name] = bench
        return self._benches[config.name]

    def make_plan(self, tests: Sequence[PlannedTest], engines: Collection[str] = ()) -> None:
        """Plan the session, once its tests are collected. ``engines``: ids of all that these run, for its shards."""
        self._plan = make_plan(
            self.selection,
            tests,
            baselines=self.options.baselines,
            machine=self.fingerprint,
            require_baseline=self.options.require_baseline,
            gates=self.budget,
            against=self.options.against,
            shard=self.options.shard,
            engines=engines,
        )

    def _planned(self) -> tuple[PlannedTest, ...]:
        return self._plan.tests if self._plan is not None else ()

    @property
    def planned(self) -> Plan | None:
        """The plan; None before the tests are collected, and where none of them is ours."""
        return self._plan

    @property
    def plan(self) -> Plan:
        """What was planned when the tests were collected."""
        assert self._plan is not None, "the tests are not collected yet"
        return self._plan

    def gates_of(self, candidate: Candidate) -> EngineGates:
        """The gates of one engine, made once; fetches its model where that is not there."""
        if candidate.id in self._gates:
            return self._gates[candidate.id]
        bench = self.bench(candidate.config)
        base = self.duel(candidate)
        facts = ModelFacts(
            digest=bench.files.checkpoint.digest,
            speed_reference=bench.speed_reference.spec,
            quality_reference=bench.quality_reference.spec,
            unquantized=bench.quality_reference.second,
            record=self.record_id(candidate.config.name),
            base=None if base is None else base.live,
        )
        self._gates[candidate.id] = EngineGates(self.plan, candidate, facts)
        return self._gates[candidate.id]

    def timed_engine(self, candidate: Candidate, batch_size: int) -> TimedEngine:
        """The engine's part in the arena of its model and batch size, which runs when it is first asked for.

        Raises the reason for which it left the arena, where it did: again for each test, without another race.
        """
        config = candidate.config
        workload = config.workload(batch_size)
        bench = self.bench(config)
        bench.engines.get(candidate.spec, candidate.runtime, "candidate")
        self.race_against_base(candidate)
        if workload.id not in bench.arenas:
            self._race(bench, candidate, workload)
            self.save_if_changed()
        if candidate.id in bench.left[workload.id]:
            raise bench.left[workload.id][candidate.id]
        return TimedEngine(candidate, workload, bench.arenas[workload.id])

    def duel(self, candidate: Candidate) -> Duel | None:
        """The engine beside its live base; None where the session has none, or the base has no such engine.

        Raises EngineGateError where the base cannot be had: the same again whenever it is asked for.
        """
        against, config = self.plan.against, candidate.config
        if against is None:
            return None
        if candidate.id in self._no_duels:
            raise self._no_duels[candidate.id]
        if candidate.id not in self._duels:
            try:
                self._duels[candidate.id] = Duel.of(
                    self.bench(config), self._base(against, config), candidate, self._heads.get(config.name)
                )
            except NewEngineError as new:
                self.warn(str(new))
                self._duels[candidate.id] = None
            except EngineGateError as error:
                self._no_duels[candidate.id] = error
                raise
        return self._duels[candidate.id]

    def _base(self, against: Against, config: Config) -> Base:
        if config.name not in self._bases:
            base = self._bases[config.name] = self._prepared(against, self._checkouts.get(config.name, config))
            for gone in self._gone(config, base):
                self.warn(f"gone: {gone}, which {against} has")
        return self._bases[config.name]

    def _gone(self, config: Config, base: Base) -> list[str]:
        """Engines that the base's own configuration has, and the head's has not."""
        if base.config is config:
            return []
        selected = [each for each in self.selection.candidates if each.config is config]
        return missing(config, base.config, self.options.engines, self.options.precisions, selected)

    def race_against_base(self, candidate: Candidate) -> Duel | None:
        """Race an engine against its live base at all workloads that tests will read, once; None where it has none."""
        duel = self.duel(candidate)
        if duel is None or duel.raced:
            return duel
        gates = self.gates_of(candidate)
        read = [
            (arena.workload, metric)
            for arena in self.plan.arenas.values()
            for reader, metric in arena.readers
            if reader.id == candidate.id
        ]
        inputs = [gates.speed(workload, metric) for workload, metric in read]
        duel.run(
            list(dict.fromkeys(workload for workload, _ in read)),
            lambda race: not any(live_undecided(each, race) for each in inputs),
            self._live_budget(candidate),
        )
        self.save_if_changed()
        return duel

    def served(self, candidate: Candidate) -> ServingEntry:
        """The engine under the configured load, beside its live base where it has one; once.

        Raises EngineGateError where it could not be served: the same again whenever it is asked for.
        """
        duel, bench = self.duel(candidate), self.bench(candidate.config)
        if duel is not None:  # whoever asks for the engine itself learns of its build and what it is
            bench.engines.get(candidate.spec, candidate.runtime, "candidate")
        entry = bench.serving_of(candidate.spec, candidate.runtime, None if duel is None else duel.serve)
        self.save_if_changed()
        return entry

    def technique(self, candidate: Candidate, name: str) -> TechniqueEntry:
        """A technique of serving on an engine, once. Raises EngineGateError."""
        entry = self.bench(candidate.config).technique_of(candidate.spec, candidate.runtime, name)
        self.save_if_changed()
        return entry

    def why_guessed(self, config: Config, metric: str) -> str | None:
        """Why a multiple-choice metric tells nothing of a model: the reference only guesses. None where it does tell.

        This is a pilot: the reference is asked once, and its answers are kept in the cache with its other scores, so
        neither this session nor a later one with nothing to see asks each engine. None under ``--strict-gates``, too,
        which wants a verdict of every gate. Raises EngineGateError.
        """
        if metric not in CHOICES or self.options.strict:
            return None
        return why_guessed(self.bench(config).reference_quality(metric))

    @property
    def speed_budget(self) -> float:
        """Seconds of rounds that the session's timed work has, or had, all arenas together."""
        if self.options.time_budget is not None:
            return self.options.time_budget
        budgets = [arena.config.file.arena.time_budget for arena in self.plan.arenas.values()]
        return sum(budgets) if self.options.against is not None else max(budgets, default=0.0)

    def _live_budget(self, candidate: Candidate) -> float:
        """Seconds of rounds for one race: its share of what is left, so that what one leaves goes to the others."""
        raced = {engine: duel.seconds for engine, duel in self._duels.items() if duel is not None and duel.raced}
        engines = {reader.id for arena in self.plan.arenas.values() for reader, _ in arena.readers}
        whole = self.options.time_budget or len(self.plan.arenas) * candidate.config.file.arena.time_budget
        without = {engine for engine, duel in self._duels.items() if duel is None} | self._no_duels.keys()
        waiting = max(1, len(engines - raced.keys() - without))
        return max((whole - sum(raced.values())) / waiting, whole / max(1, len(engines)) / 2)

    def _race(self, bench: ModelBench, candidate: Candidate, workload: Workload) -> None:
        config = candidate.config
        self._refuse_unusable(candidate, workload)
        reference = bench.speed_reference.spec().id
        readers = [each for each in self.plan.arena(config, workload).readers if each[0].id != reference]
        contestants = {reader.id: (reader.spec, reader.runtime) for reader, _ in readers}
        contestants.setdefault(candidate.id, (candidate.spec, candidate.runtime))
        looks = config.file.gates.speed.looks
        #: Where all have a live base, the ratio over the reference is shown, and judges nothing.
        shown_only = all(self._live(reader) for reader, _ in readers)
        gates = [gate for reader, metric in readers if (gate := self._readable(reader, workload, metric))]

        def decided(entry: ArenaEntry) -> bool:
            return not shown_only and not any(
                speed_undecided(gate, entry) for gate in gates if gate.candidate in entry.contestants
            )

        budget = (self.options.time_budget or config.file.arena.time_budget) / max(1, len(self.plan.arenas))
        most = min(looks) if shown_only else max(looks)
        bench.race(list(contestants.values()), workload, decided, budget, most)

    def _live(self, reader: Candidate) -> bool:
        """Whether a live base judges an engine, or would, if it could be had: its own tests say that it cannot."""
        try:
            return self.duel(reader) is not None
        except EngineGateError:
            return True

    def _refuse_unusable(self, candidate: Candidate, workload: Workload) -> None:
        """Raise BaselineError before the race where this engine's own baseline cannot be used."""
        for reader, metric in self.plan.arena(candidate.config, workload).readers:
            if reader.id == candidate.id:
                self._inputs(reader, workload, metric)

    def _readable(self, reader: Candidate, workload: Workload, metric: str) -> SpeedInputs | None:
        """What a reader's gate compares; None where its baseline or base cannot be used, which its own test says."""
        if reader.id in self._no_duels:
            return None
        try:
            return self._inputs(reader, workload, metric)
        except BaselineError:
            return None

    def _inputs(self, reader: Candidate, workload: Workload, metric: str) -> SpeedInputs:
        gate = self.gates_of(reader).speed(workload, metric)
        if isinstance(gate.against, StoredSessions | StoredFloor):
            gate.against.anchor()
        return gate

    def audit(self, candidate: Candidate, batch_size: int) -> Sequence[AnyAudit]:
        """Measure one session of the speed gates' own error rates; see ``session.audits``."""
        return measure_audit(self, candidate, batch_size)

    def conclude(self, model: str, test: str, workload: str | None, verdict: Verdict, inputs: GateInputs) -> None:
        """Keep one verdict for the record."""
        entry = VerdictEntry(
            test=test,
            engine=inputs.candidate,
            workload=workload,
            status=verdict.status.value,
            metric=verdict.metric,
            estimate=verdict.estimate,
            interval=verdict.interval,
            unit=verdict.unit,
            baseline=verdict.baseline,
            change=verdict.change,
            margin=verdict.margin,
            alpha=verdict.alpha,
            smallest_visible=verdict.smallest_visible,
            samples=verdict.samples,
            explanation=verdict.explanation,
            warnings=list(verdict.warnings),
            accepted=bool(verdict),
            inputs=inputs.model_dump(mode="json"),
        )
        self.verdicts.setdefault(model, []).append(entry)

    def record_error(self, test: str, how: str) -> None:
        """A test ended in a way that its verdicts do not tell: the record tells it, and is partial."""
        self.errors.setdefault(test, []).append(how)

    def set_aside(self, model: str, test: str) -> None:
        """A test runs again: what its last attempt concluded, or ended with, no longer counts, and is kept as that."""
        self._written = -1  # what there is to tell has changed, though it may not have grown
        entries, errors = self.verdicts.get(model, []), self.errors.pop(test, [])
        gone = [entry for entry in entries if entry.test == test]
        self.verdicts[model] = [entry for entry in entries if entry.test != test]
        if gone or errors:
            self.attempts.setdefault(model, []).append(AttemptEntry(test=test, verdicts=gone, errors=errors))

    @property
    def is_refused(self) -> bool:
        """Whether a test failed, or has a verdict that still counts and does not let it pass; so also in workers."""
        verdicts = [*self.verdicts.values(), *(record.verdicts for record in self._workers)]
        return bool(self.errors) or not all(verdict.accepted for found in verdicts for verdict in found)

    def record_id(self, model: str) -> str:
        """The id of one model's record: the run's, with the model's name where the session tests several."""
        return f"{self.run}-{model}" if len(self.selection.batch_sizes) > 1 else self.run

    def record(self, model: str, status: Status) -> RunRecord:
        """The record of one model as it stands."""
        bench = self._benches[model]
        checkpoint, head = bench.files.checkpoint, self._heads.get(model)
        return RunRecord(
            id=self.record_id(model),
            started=self.started,
            finished=now(),
            status=status,
            enginegate=enginegate.__version__,
            arguments=[without_password(argument) for argument in self.arguments],
            commit=commit(self.options.root) if head is None else head.commit[:12],
            fingerprint=self.fingerprint,
            model=ModelEntry(
                name=model,
                source=checkpoint.source,
                digest=checkpoint.digest,
                random_weights=checkpoint.random_weights,
                dequantized=checkpoint.dequantized,
            ),
            config=self._configured(bench.config),
            engines=list(bench.engines.entries.values()),
            arenas=list(bench.arenas.values()),
            races=[duel.entry() for duel in self._raced(model)],
            memory=list(bench.memory.values()),
            quality=list(bench.quality.values()),
            kv_caches=list(bench.kv_caches.values()),
            sweeps=list(bench.sweeps.values()),
            serving=list(bench.serving.values()),
            techniques=list(bench.techniques.values()),
            verdicts=self.verdicts.get(model, []),
            attempts=self.attempts.get(model, []),
            warnings=[*self.warnings, *(f"{test} {how}" for test, lines in self.errors.items() for how in lines)],
            quality_planned=sorted(
                {test.candidate.id for test in self._planned() if test.quality and test.candidate.config.name == model}
            ),
            installed=installed() if head is None or head.interpreter.here else [],
            shards=self._shards(model),
        )

    def _configured(self, config: Config) -> dict[str, Any]:
        """The configuration as it was followed: a price that an option gives is in it."""
        content = config.file.model_dump(by_alias=True)
        if self.options.price_per_hour is not None:
            content["cost"]["price_per_hour"] = self.options.price_per_hour
        return content

    def _shards(self, model: str) -> ShardsEntry | None:
        if self._plan is None:
            return None
        base = self._bases.get(model)
        commit = "" if base is None else base.commit
        return own_shard(self._plan, model, self.record_id(model), self.started, commit)

    def save(self, status: Status) -> list[tuple[RunRecord, Path]]:
        """Write the record of every model that has something to tell."""
        self._written = self._results()
        records = [*self._own(status), *self._workers.merged(self.record_id, status, self.warnings)]
        records = [record.model_copy(update={"joint": joint_verdicts(record)}) for record in records]
        self.saved = [(record, save_record(record, self.options.runs)) for record in records]
        return self.saved

    def joint(self) -> list[JointEntry]:
        """Speed and quality of each engine together, as far as they are known."""
        records = [*self._own("partial"), *self._workers.merged(self.record_id, "partial", self.warnings)]
        return [entry for record in records for entry in joint_verdicts(record)]

    def _own(self, status: Status) -> list[RunRecord]:
        """The records of the models that this process has something to tell of."""
        return [
            self.record(name, status)
            for name, bench in self._benches.items()
            if bench.engines.entries or bench.memory or self.verdicts.get(name) or self._raced(name)
        ]

    def _raced(self, model: str) -> list[Duel]:
        """The races of one model against its live base, to whatever end."""
        return [duel for duel in self._duels.values() if duel and duel.raced and duel.model == model]

    def _results(self) -> int:
        """How much there is to write; it grows, but where a test runs again."""
        return sum(map(len, self.verdicts.values())) + sum(
            len(bench.engines.entries)
            + len(bench.arenas)
            + len(bench.memory)
            + len(bench.quality)
            + len(bench.kv_caches)
            + len(bench.sweeps)
            + len(bench.serving)
            + len(bench.techniques)
            + len(self._raced(name))
            for name, bench in self._benches.items()
        )

    def save_if_changed(self) -> None:
        """Write partial records where anything is new, so that a crash later loses nothing."""
        if self._results() == self._written:
            return
        self._told(self._save_notes if self.notes is not None else lambda: self.save("partial"))

    def _save_notes(self) -> None:
        assert self.notes is not None
        self._written = self._results()
        write_atomically(self.notes, json.dumps(self.part(complete=False)))

    def finish(self, complete: bool) -> bool:
        """Write the records, their reports and the history.

        Returns:
            False where a record or report could not be written. That is told as a warning, as is a history that could
            not be written, and the rest is written.
        """
        whole = complete and not self.errors and not self.crashed and not self.ended_early
        if not self._told(lambda: self.save("complete" if whole else "partial")):
            return False
        if self.options.history is not None:
            url = self.options.history or f"sqlite:///{self.options.runs / 'history.sqlite'}"
            for record, path in self.saved:
                self._told(partial(add_to_history, record, path, url))
        written = [self._told(partial(write_reports, record, path)) for record, path in self.saved]
        return all(written)

    def _told(self, write: Callable[[], object]) -> bool:
        """Write something; False where that failed, which is told as a warning."""
        try:
            with edge(RecordError, "the run's record cannot be written", "report it, with what was printed above"):
                write()
        except EngineGateError as error:
            self.warn(str(error))
            return False
        return True

    def part(self, complete: bool) -> list[str]:
        """What an xdist worker measured and concluded, for its controller: one record in JSON for each model."""
        status: Status = "complete" if complete and not self.errors and not self.ended_early else "partial"
        return [record.model_dump_json() for record in self._own(status)]

    def crash(self, problem: str, notes: Path) -> None:
        """An xdist worker crashed: the record says so, and keeps what the worker had noted until then."""
        self.crashed = True
        self.warn(problem)
        if notes.exists():
            self._workers.add(json.loads(notes.read_text(encoding="utf-8")), crashed=True)

    def take_over(self, part: Iterable[str]) -> None:
        """Merge what an xdist worker measured and concluded."""
        self._workers.add(part)

    def warn(self, line: str) -> None:
        """Tell the reader of the record something, once."""
        if line not in self.warnings:
            self.warnings.append(line)

    def close(self) -> None:
        """Close all engines; a failure to close is told as a warning, not raised."""
        for duel in filter(None, self._duels.values()):
            try:
                duel.close()
            except Exception as error:
                self.warn(f"closing the live base of {duel.model}: {error}")
        for bench in self._benches.values():
            try:
                bench.close()
            except Exception as error:
                self.warn(f"closing the engines of {bench.config.name}: {error}")
        if self.lease is not None:
            self.lease.release()
