"""Base sessions against a new one: a verdict for each benchmark and metric that both have.

The judge is that of the sessions; what the older ones hold goes into the inputs of its gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import Any

from enginegate.config.schema import MarginSection, QualityGatesSection
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.compare import ABSOLUTE_SHIFT
from enginegate.gates.items import QualityPolicy
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import BLEU_COLUMNS
from enginegate.storage.baselines import same_method
from enginegate.storage.summary import session_shift, worst
from enginegate.verdicts import lookup
from enginegate.verdicts.corpus import bleu_score, ceiling
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    CorpusInputs,
    MemoryInputs,
    NllInputs,
    QualityInputs,
    SizeInputs,
    UnpairedInputs,
)
from enginegate.verdicts.judge import judge
from enginegate.verdicts.sources import StoredSession


@dataclass(frozen=True)
class Compared:
    """One benchmark and metric that both sides have."""

    benchmark: str
    metric: str
    verdict: Verdict

    @property
    def outcome(self) -> str:
        """``worse``, ``undecided``, ``better`` or ``same``."""
        if self.verdict.status is Status.FAIL:
            return "worse"
        if self.verdict.status is not Status.PASS:
            return "undecided"
        change = self.verdict.change
        shown_better = self.verdict.unit != "x" or self.verdict.interval[1] < 1
        return "better" if change is not None and change < -self.verdict.margin and shown_better else "same"


@dataclass(frozen=True)
class Comparison:
    """What came out. ``missing`` and ``new`` are (benchmark, metric) that only the bases, or only NEW, have."""

    compared: tuple[Compared, ...]
    missing: tuple[tuple[str, str], ...]
    new: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def worst(self) -> str:
        """The worst status of all."""
        return worst([item.verdict.status.value for item in self.compared])


@dataclass(frozen=True)
class Rule:
    """How much worse is a regression, and how sure to be.

    Attributes:
        margin: slowdown that is no regression, twice of which must not pass; None: ``gates.speed`` of the configuration
            that the new record keeps, or its defaults where there is none. Quality and memory are always judged by it.
        alpha: probability of a false regression, for each benchmark.
        metrics: limits what is compared; empty for all.
    """

    margin: float | None = None
    alpha: float = 0.01
    metrics: frozenset[str] = frozenset()

    def wants(self, metric: str) -> bool:
        """Whether this metric takes part."""
        return not self.metrics or metric in self.metrics


def compare_sessions(bases: Sequence[StoredSession], new: StoredSession, rule: Rule) -> Comparison:
    """Compare every benchmark that NEW shares with a base.

    Raises RecordError where there is none, and where one session was given twice: it would count as two that agree.
    """
    _refuse_repeats(bases, new)
    elsewhere = new.record is not None and any(base.machine != new.machine for base in bases)
    compared = [_elsewhere(item) if elsewhere else item for item in _samples(bases, new, rule)]
    records = [base.record for base in bases if base.record is not None]
    keys = {key for base in bases for key in base.series}
    if new.record is not None and records:
        resources = list(_resources(records, new.record, rule))
        compared += [_elsewhere(item) if elsewhere else item for item in resources]
        compared += _quality(records, new.record, rule)
    if not compared:
        raise RecordError(
            f"{new.name} has nothing in common with {', '.join(base.name for base in bases)}",
            "compare sessions of the same benchmarks, and check --metric",
        )
    return Comparison(
        tuple(compared),
        tuple(sorted(key for key in keys - new.series.keys() if rule.wants(key[1]))),
        tuple(sorted(key for key in new.series.keys() - keys if rule.wants(key[1]))),
        tuple(_warnings(bases, new)),
    )


def _refuse_repeats(bases: Sequence[StoredSession], new: StoredSession) -> None:
    for one, other in combinations((*bases, new), 2):
        if one.is_same(other):
            raise RecordError(f"{one.name} and {other.name} are one session", "name every session once")


def _samples(bases: Sequence[StoredSession], new: StoredSession, rule: Rule) -> Iterator[Compared]:
    speed = lookup.gates(new.record).speed
    margin, tolerated = (speed.margin, speed.tolerated) if rule.margin is None else (rule.margin, None)
    for key, series in new.series.items():
        sessions = [base.series[key].samples for base in bases if key in base.series]
        benchmark, metric = key
        if sessions and rule.wants(metric):
            gate = UnpairedInputs(
                metric=metric,
                candidate=benchmark,
                subject="",
                sessions=[list(session) for session in sessions],
                samples=list(series.samples),
                margin=margin,
                tolerated=tolerated,
                alpha=rule.alpha,
                beta=speed.beta,
                higher_is_better=series.higher_is_better,
                # Absolute times, as in files of pytest-benchmark, shift more than the ratios in a record.
                shift=session_shift(new.record, metric) if new.record else ABSOLUTE_SHIFT,
            )
            yield Compared(benchmark, metric, judge(gate, new.record))


def _resources(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    memory = lookup.gates(new).memory
    for entry in new.memory:
        for field in ("loaded", "peak"):
            metric = f"{field}_memory"
            before = [
                getattr(old, field)
                for base in bases
                for old in base.memory
                if (old.engine, old.workload) == (entry.engine, entry.workload) and getattr(old, field) > 0
            ]
            if before and rule.wants(metric):
                gate = MemoryInputs(
                    metric=metric,
                    candidate=entry.engine,
                    subject="",
                    workload=entry.workload,
                    field=field,
                    baseline=median(before),
                    limit=None,
                    relative=memory.relative,
                    quantum=memory.quantum,
                )
                yield Compared(f"{entry.engine} {entry.workload}", metric, judge(gate, new))
    for engine in new.engines:
        sizes = [old.size_bytes for base in bases for old in base.engines if old.id == engine.id and old.size_bytes]
        if sizes and rule.wants("engine_size"):
            size = SizeInputs(metric="engine_size", candidate=engine.id, subject="", baseline=median(sizes), limit=None)
            yield Compared(engine.id, "engine_size", judge(size, new))


def _quality(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    section = lookup.gates(new).quality
    for entry in new.quality:
        before = [
            old
            for base in bases
            for old in base.quality
            if (old.engine, old.metric) == (entry.engine, entry.metric) and same_method(old.version, entry.version)
        ]
        if entry.metric in _QUALITY and before and rule.wants(entry.metric):
            gate = _QUALITY[entry.metric](entry, before[-1], section, rule.alpha)
            yield Compared(entry.engine, entry.metric, judge(gate, new))


def _common(
    new: QualityEntry, old: QualityEntry, columns: Sequence[str], metric: str, policy: QualityPolicy
) -> dict[str, Any]:
    """What the inputs of every quality gate have: the older entry's items are what the new one's are held against."""
    return {
        "metric": metric,
        "candidate": new.engine,
        "subject": "",
        "source": new.metric,
        "reference": None,
        "columns": list(columns),
        "baseline": lookup.columns(old, columns),
        "limit": None,
        "policy": policy,
    }


def _accuracy(column: str) -> Callable[[QualityEntry, QualityEntry, QualityGatesSection, float], QualityInputs]:
    def gate(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
        policy = QualityPolicy(alpha=alpha, beta=gates.beta, visible=gates.accuracy_visible)
        return AccuracyInputs(**_common(new, old, [column], new.metric, policy))

    return gate


def _similarity(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
    common = _common(new, old, BLEU_COLUMNS, "bleu", _policy(gates.bleu, gates, alpha))
    return CorpusInputs(**common, score=bleu_score(new), unit="points", ceiling=ceiling(new, "bleu"))


def _summaries(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
    common = _common(new, old, ["rougeL"], "rougeL", _policy(gates.rouge, gates, alpha))
    return CorpusInputs(**common, score="mean", unit="F1", ceiling=ceiling(new, "rougeL"))


def _perplexity(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
    return NllInputs(**_common(new, old, ["nll", "tokens"], "perplexity", _policy(gates.perplexity, gates, alpha)))


def _policy(margins: MarginSection, gates: QualityGatesSection, alpha: float) -> QualityPolicy:
    return QualityPolicy(alpha=alpha, beta=gates.beta, margin=margins.margin, tolerated=margins.tolerated)


#: By metric: the new entry, the old one, the quality gates' configuration and alpha to a gate's inputs.
_QUALITY: dict[str, Callable[[QualityEntry, QualityEntry, QualityGatesSection, float], QualityInputs]] = {
    "cloze": _accuracy("acc_norm"),
    "letters": _accuracy("acc"),
    "similarity": _similarity,
    "summaries": _summaries,
    "perplexity": _perplexity,
}


def _elsewhere(item: Compared) -> Compared:
    """Speed and memory of two kinds of machine decide nothing about the engine."""
    verdict = replace(
        item.verdict,
        status=Status.INCONCLUSIVE,
        explanation=f"{item.verdict.explanation}; undecided: the sessions ran on different machines",
    )
    return replace(item, verdict=verdict)


def _warnings(bases: Sequence[StoredSession], new: StoredSession) -> Iterator[str]:
    for base in bases:
        if base.machine != new.machine:
            yield f"{base.name} ran on {base.machine}, {new.name} on {new.machine}"
        if base.record and new.record and base.record.model.digest != new.record.model.digest:
            yield f"{base.name} tested another checkpoint than {new.name}"
        yield from _other_engines(base, new)
    for session in (*bases, new):
        if session.record and session.record.status == "partial":
            yield f"{session.name} was interrupted and is partial"


def _other_engines(base: StoredSession, new: StoredSession) -> Iterator[str]:
    """Sentences on engines of one name that were not loaded alike: what differs may be that."""
    if base.record is None or new.record is None:
        return
    before = {entry.id: entry.ref(base.record.model.name) for entry in base.record.engines}
    for entry in new.record.engines:
        now = entry.ref(new.record.model.name)
        if entry.id in before and not now.same_engine(before[entry.id]):
            yield f"{entry.id} had other runtime settings in {base.name} than in {new.name}"
