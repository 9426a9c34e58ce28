"""The state of one pytest session: what was selected, what was measured, what was concluded, and its record."""

from __future__ import annotations

import datetime
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import harness
from harness.bench import ModelBench, Wrap
from harness.config import REPOSITORY, Config, cache_folder
from harness.engines.base import Progress
from harness.errors import EngineGateError
from harness.gates.family import split_alpha
from harness.gates.verdict import Verdict
from harness.judging import speed_undecided
from harness.measure.fingerprint import fingerprint
from harness.plugin.contest import Contest, speed_inputs
from harness.plugin.options import Options
from harness.records import ArenaEntry, Fingerprint, ModelEntry, RunRecord, VerdictEntry
from harness.records_io import save_record
from harness.selection import Candidate, Selection, select

Entry = TypeVar("Entry")


@dataclass
class GateSession:
    """One session. Built at configuration; nothing heavy happens before a test asks for it.

    Attributes:
        options: the parsed command line.
        arguments: the command line as given, for the record.
        progress: receives one line per long step.
        wrap: see ModelBench.
        gates: how many gates were collected; the error budget is shared between them.
        expected: by model and workload, the engines and speed metrics that collected tests will judge.
        saved: the records written, with their folders.
    """

    options: Options
    arguments: tuple[str, ...]
    progress: Progress
    wrap: Wrap = lambda engine: engine
    gates: int = 0
    expected: dict[tuple[str, str], list[tuple[Candidate, str]]] = field(default_factory=dict)
    verdicts: dict[str, list[VerdictEntry]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: _now())
    run: str = field(default_factory=lambda: _run_id())
    _selection: Selection | None = None
    _benches: dict[str, ModelBench] = field(default_factory=dict)
    _fingerprint: Fingerprint | None = None
    saved: list[tuple[RunRecord, Path]] = field(default_factory=list)
    _workers: dict[str, list[RunRecord]] = field(default_factory=dict)
    _dirty: bool = False

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
            )
        return self._selection

    @property
    def fingerprint(self) -> Fingerprint:
        """This machine."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint()
        return self._fingerprint

    @property
    def benches(self) -> dict[str, ModelBench]:
        """The models touched so far, by name."""
        return dict(self._benches)

    def bench(self, config: Config) -> ModelBench:
        """The bench of one model."""
        if config.name not in self._benches:
            self._benches[config.name] = ModelBench(config, self.fingerprint, cache_folder(), self.progress, self.wrap)
        return self._benches[config.name]

    def alpha(self, config: Config) -> float:
        """The false-alarm probability of one gate, so that any false FAIL of the session stays within the budget."""
        return split_alpha(config.file.gates.alpha, max(1, self.gates))

    def expect(self, candidate: Candidate, batch_size: int | None, gates: int, metric: str | None) -> None:
        """A collected test will judge ``candidate``: share the error budget, and have it in the arena."""
        self.gates += gates
        if batch_size is not None and metric is not None:
            workload = candidate.config.workload(batch_size)
            self.expected.setdefault((candidate.config.name, workload.id), []).append((candidate, metric))

    def contest(self, candidate: Candidate, batch_size: int) -> Contest:
        """The engine's part in the arena of its model and batch size, which runs when it is first asked for."""
        config = candidate.config
        workload = config.workload(batch_size)
        readers = self.expected.get((config.name, workload.id), [])
        contestants = {reader.id: (reader.spec, reader.runtime) for reader, _ in readers}
        contestants.setdefault(candidate.id, (candidate.spec, candidate.runtime))
        gates = [speed_inputs(self, reader, workload, metric) for reader, metric in readers]

        def decided(entry: ArenaEntry) -> bool:
            return not any(speed_undecided(inputs, entry) for inputs in gates)

        budget = (self.options.time_budget or config.file.arena.time_budget) / max(1, len(self.expected))
        bench = self.bench(config)
        arena = bench.race(list(contestants.values()), workload, decided, budget, max(config.file.gates.speed.looks))
        return Contest(candidate, workload, arena)

    def conclude(
        self, model: str, test: str, engine: str, workload: str | None, verdict: Verdict, inputs: Mapping[str, object]
    ) -> None:
        """Keep one verdict for the record."""
        entry = VerdictEntry(
            test=test,
            engine=engine,
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
            inputs=dict(inputs),
        )
        self.verdicts.setdefault(model, []).append(entry)
        self._dirty = True

    def record(self, model: str, status: Literal["complete", "partial"]) -> RunRecord:
        """The record of one model as it stands."""
        bench = self._benches[model]
        checkpoint = bench.checkpoint
        several = len(self._benches) > 1
        return RunRecord(
            id=f"{self.run}-{model}" if several else self.run,
            started=self.started,
            finished=_now(),
            status=status,
            enginegate=harness.__version__,
            arguments=list(self.arguments),
            commit=_commit(),
            fingerprint=self.fingerprint,
            model=ModelEntry(
                name=model,
                source=checkpoint.source,
                digest=checkpoint.digest,
                random_weights=checkpoint.random_weights,
            ),
            config=bench.config.file.model_dump(by_alias=True),
            engines=list(bench.engines.values()),
            arenas=list(bench.arenas.values()),
            memory=list(bench.memory.values()),
            quality=list(bench.quality.values()),
            verdicts=self.verdicts.get(model, []),
            warnings=list(self.warnings),
        )

    def save(self, status: Literal["complete", "partial"]) -> list[tuple[RunRecord, Path]]:
        """Write the record of every model that has something to tell."""
        records = [
            self.record(name, status)
            for name, bench in self._benches.items()
            if bench.engines or bench.memory or self.verdicts.get(name)
        ]
        records += [self._merged(parts) for parts in self._workers.values()]
        self.saved = [(record, save_record(record, self.options.runs)) for record in records]
        self._dirty = False
        return self.saved

    def _merged(self, parts: list[RunRecord]) -> RunRecord:
        """The records of several workers as one."""
        complete = all(part.status == "complete" for part in parts) and not self.warnings
        return parts[0].model_copy(
            update={
                "id": self.run,
                "finished": _now(),
                "status": "complete" if complete else "partial",
                "engines": _union((part.engines for part in parts), lambda entry: entry.id),
                "arenas": _union((part.arenas for part in parts), lambda entry: entry.workload),
                "memory": _union((part.memory for part in parts), lambda entry: (entry.engine, entry.workload)),
                "quality": _union((part.quality for part in parts), lambda entry: (entry.engine, entry.metric)),
                "verdicts": [verdict for part in parts for verdict in part.verdicts],
                "warnings": [*self.warnings, *(line for part in parts for line in part.warnings)],
            }
        )

    def save_if_changed(self) -> None:
        """Write partial records after a test that concluded something, so that a crash later loses nothing."""
        if self._dirty:
            self.save("partial")

    def finish(self, complete: bool) -> None:
        """Write the records, their reports and the history; what cannot be written is told, and loses nothing else."""
        from harness.history import append
        from harness.report import write_report

        for record, path in self.save("complete" if complete else "partial"):
            url = self.options.history or f"sqlite:///{self.options.runs / 'history.sqlite'}"
            try:
                write_report([record], path.parent)
                append(record, url)
            except EngineGateError as error:
                self.warnings.append(str(error))

    def part(self, complete: bool) -> list[str]:
        """What an xdist worker measured and concluded, for its controller: one record in JSON for each model."""
        status: Literal["complete", "partial"] = "complete" if complete else "partial"
        return [self.record(name, status).model_dump_json() for name in self._benches]

    def take_over(self, part: list[str] | None, error: object | None) -> None:
        """Merge what a worker sent; one that sent nothing has crashed, and the record says so."""
        if part is None:
            self.warnings.append(f"an xdist worker ended without sending its records: {error or 'no reason given'}")
            return
        for text in part:
            record = RunRecord.model_validate_json(text)
            self._workers.setdefault(record.model.name, []).append(record)

    def close(self, failed: Callable[[str], None]) -> None:
        """Close all engines; a failure to close is told to ``failed``, not raised."""
        for bench in self._benches.values():
            try:
                bench.close()
            except Exception as error:
                failed(f"closing the engines of {bench.config.name}: {error}")


def _union(groups: Iterable[Sequence[Entry]], key: Callable[[Entry], object]) -> list[Entry]:
    """All entries, the first of each key."""
    found: dict[object, Entry] = {}
    for group in groups:
        for entry in group:
            found.setdefault(key(entry), entry)
    return list(found.values())


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _run_id() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def _commit() -> str:
    """The checkout's commit, marked where files differ from it; empty where there is no git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""
