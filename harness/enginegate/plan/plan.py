"""The plan of a session: made once, when the tests are collected, before anything is built or measured.

It says which engines meet in which arena, who reads it, how the error budget is shared, and what was accepted earlier.
Baselines and audits are read here and nowhere else. What only the model's files can tell (is the baseline of this very
checkpoint? which precision of the reference is the fastest?) is found later, by ``plan.gates``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from enginegate.config.loading import Config
from enginegate.core.errors import BaselineError
from enginegate.core.records import Fingerprint
from enginegate.core.specs import Workload
from enginegate.gates.family import split_alpha
from enginegate.plan.against import Against
from enginegate.plan.selection import Candidate, Selection
from enginegate.plan.shards import Shard, deal
from enginegate.storage.audits import AuditFile, load_audit
from enginegate.storage.baselines import PerfBaseline, QualityBaseline, read_perf, read_quality

Value = TypeVar("Value")


@dataclass(frozen=True)
class ReadOnce(Generic[Value]):
    """A file's content, or the error that reading it raised: tests that need it get that error, the others run."""

    value: Value | None = None
    error: BaselineError | None = None

    @classmethod
    def of(cls, read: Callable[[], Value | None]) -> ReadOnce[Value]:
        """What ``read`` gives or raises."""
        try:
            return cls(read())
        except BaselineError as error:
            return cls(error=error)

    def get(self) -> Value | None:
        """What was read, None where there was nothing. Raises BaselineError where it cannot be used."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class PlannedTest:
    """One collected test that gates an engine.

    Attributes:
        test: its id.
        candidate: the engine.
        workload: the timed work, or None.
        metric: the speed metric that it judges, or None: then it is no reader of an arena.
        gates: how many error-rated gates it holds.
        quality: whether it judges what the engine answers or scores.
    """

    test: str
    candidate: Candidate
    workload: Workload | None
    metric: str | None
    gates: int
    quality: bool = False


@dataclass(frozen=True)
class PlannedArena:
    """All engines of one model that are timed at one workload, and the (engine, metric) that tests will read."""

    config: Config
    workload: Workload
    readers: tuple[tuple[Candidate, str], ...]


@dataclass(frozen=True)
class Plan:
    """See the module.

    Attributes:
        selection: the engines under test.
        tests: those that gate an engine here: in a shard, those of its engines.
        gates: error-rated gates that share the budget: of all shards, or of the tests that an audit stands for.
        require_baseline: a missing baseline fails, and floors do not stand in for it.
        machine: this machine.
        against: the live base that all are compared with, or None.
        perf: accepted speed and memory by model and workload.
        quality: accepted scores by engine id.
        audits: accepted audits of this machine.
        shard: the part of the session that this one runs; None for all.
        dealt: the engines of every shard, by id; empty without shards.
        digest: of what all shards together test, the same in each; empty without shards.
    """

    selection: Selection
    tests: tuple[PlannedTest, ...]
    gates: int
    require_baseline: bool
    machine: Fingerprint
    against: Against | None = None
    perf: Mapping[tuple[str, str], ReadOnce[PerfBaseline]] = field(default_factory=dict)
    quality: Mapping[str, ReadOnce[QualityBaseline]] = field(default_factory=dict)
    audits: ReadOnce[AuditFile] = field(default_factory=ReadOnce)
    shard: Shard | None = None
    dealt: tuple[tuple[str, ...], ...] = ()
    digest: str = ""

    @property
    def own(self) -> tuple[str, ...]:
        """The engines of this shard, by id; empty without shards."""
        return () if self.shard is None else self.dealt[self.shard.number - 1]

    def runs(self, engine: str) -> bool:
        """Whether an engine is run here: not where it is another shard's."""
        return self.shard is None or engine in self.own

    def alpha(self, config: Config) -> float:
        """The false-alarm probability of one gate, so that any false FAIL of the session stays within the budget."""
        return split_alpha(config.file.gates.alpha, max(1, self.gates))

    def arena(self, config: Config, workload: Workload) -> PlannedArena:
        """Who races at a workload; nobody reads it where no test was planned for it."""
        return self.arenas.get((config.name, workload.id), PlannedArena(config, workload, ()))

    @cached_property
    def arenas(self) -> Mapping[tuple[str, str], PlannedArena]:
        """Every arena by model and workload."""
        readers: dict[tuple[str, str], list[PlannedTest]] = {}
        for test in self.tests:
            if test.workload is not None and test.metric is not None:
                readers.setdefault((test.candidate.config.name, test.workload.id), []).append(test)
        return {
            key: PlannedArena(
                tests[0].candidate.config,
                _work(tests[0]),
                tuple((test.candidate, test.metric) for test in tests if test.metric is not None),
            )
            for key, tests in readers.items()
        }


def make_plan(
    selection: Selection,
    tests: Iterable[PlannedTest],
    *,
    baselines: Path,
    machine: Fingerprint,
    require_baseline: bool,
    gates: int | None = None,
    against: Against | None = None,
    shard: Shard | None = None,
    engines: Collection[str] = (),
) -> Plan:
    """Plan a session, and read what was accepted for it.

    Args:
        selection: the engines under test.
        tests: the collected tests that gate an engine.
        baselines: folder of accepted baselines.
        machine: this machine.
        require_baseline: see Plan.
        gates: how many gates share the budget; None for those of ``tests``.
        against: see Plan.
        shard: see Plan.
        engines: ids of those that collected tests run, whether or not these gate anything; dealt out to the shards.
    """
    whole = tuple(tests)
    if gates is None:
        gates = sum(test.gates for test in whole)
    dealt: tuple[tuple[str, ...], ...] = ()
    digest, planned = "", whole
    if shard is not None:
        # In the order of the selection: tests may be collected in any.
        dealt = deal([each.id for each in selection.candidates if each.id in engines], shard.of)
        planned = tuple(test for test in whole if test.candidate.id in dealt[shard.number - 1])
        digest = _digest(whole, gates, dealt, require_baseline, against)
    key = machine.key
    workloads = {
        (config.name, config.workload(size).id)
        for config in {candidate.config.name: candidate.config for candidate in selection.candidates}.values()
        for size in selection.batch_sizes[config.name]
    }
    return Plan(
        selection=selection,
        tests=planned,
        gates=gates,
        require_baseline=require_baseline,
        machine=machine,
        against=against,
        perf={
            (model, work): ReadOnce.of(lambda model=model, work=work: read_perf(baselines, key, model, work))  # type: ignore[misc]
            for model, work in workloads
        },
        quality={
            each.id: ReadOnce.of(lambda spec=each.spec: read_quality(baselines, spec.model, spec))  # type: ignore[misc]
            for each in selection.candidates
        },
        audits=ReadOnce.of(lambda: load_audit(baselines, key)),
        shard=shard,
        dealt=dealt,
        digest=digest,
    )


def _digest(
    tests: Sequence[PlannedTest],
    gates: int,
    dealt: Sequence[Sequence[str]],
    require_baseline: bool,
    against: Against | None,
) -> str:
    """Of all that the shards of one session must have in common."""
    planned = sorted(
        (each.test, each.candidate.id, each.workload.id if each.workload else "", each.metric or "", each.gates)
        for each in tests
    )
    told = json.dumps([planned, gates, dealt, require_baseline, str(against or "")])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _work(test: PlannedTest) -> Workload:
    assert test.workload is not None
    return test.workload
