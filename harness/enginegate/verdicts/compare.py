"""Base sessions against a new one: a verdict for each benchmark and metric that both have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

from enginegate.config.schema import MarginSection, QualityGatesSection
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.compare import ABSOLUTE_SHIFT, compare_samples
from enginegate.gates.items import QualityPolicy
from enginegate.gates.quality import judge_accuracy, judge_corpus, judge_nll
from enginegate.gates.resources import judge_memory, judge_size
from enginegate.gates.verdict import Status, Verdict
from enginegate.storage.baselines import same_method
from enginegate.storage.summary import session_shift, worst
from enginegate.verdicts import lookup
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
            verdict = compare_samples(
                sessions,
                series.samples,
                margin=margin,
                tolerated=tolerated,
                alpha=rule.alpha,
                beta=speed.beta,
                higher_is_better=series.higher_is_better,
                # Absolute times, as in files of pytest-benchmark, shift more than the ratios in a record.
                shift=session_shift(new.record, metric) if new.record else ABSOLUTE_SHIFT,
                metric=metric,
            )
            yield Compared(benchmark, metric, verdict)


def _resources(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    memory = lookup.gates(new).memory
    for entry in new.memory:
        for metric, field in (("loaded_memory", "loaded"), ("peak_memory", "peak")):
            before = [
                getattr(old, field)
                for base in bases
                for old in base.memory
                if (old.engine, old.workload) == (entry.engine, entry.workload) and getattr(old, field) > 0
            ]
            if before and rule.wants(metric):
                verdict = judge_memory(
                    getattr(entry, field),
                    median(before),
                    metric=metric,
                    relative=memory.relative,
                    quantum=memory.quantum,
                )
                yield Compared(f"{entry.engine} {entry.workload}", metric, verdict)
    for engine in new.engines:
        sizes = [old.size_bytes for base in bases for old in base.engines if old.id == engine.id and old.size_bytes]
        if sizes and rule.wants("engine_size"):
            yield Compared(engine.id, "engine_size", judge_size(engine.size_bytes, median(sizes)))


def _quality(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    section = lookup.gates(new).quality
    for entry in new.quality:
        judge = QUALITY_GATES.get(entry.metric)
        before = [
            old
            for base in bases
            for old in base.quality
            if (old.engine, old.metric) == (entry.engine, entry.metric) and same_method(old.version, entry.version)
        ]
        if judge is not None and before and rule.wants(entry.metric):
            yield Compared(entry.engine, entry.metric, judge(entry, before[-1], section, rule.alpha))


def _column(entry: QualityEntry, name: str) -> dict[str, float]:
    if name not in entry.columns:
        raise RecordError(f"{entry.metric} of {entry.engine} has no column {name!r}", "record a new run")
    index = entry.columns.index(name)
    return {item: values[index] for item, values in entry.items.items()}


#: The new entry, the old one, the quality gates' configuration and alpha to a verdict.
QualityJudge = Callable[[QualityEntry, QualityEntry, QualityGatesSection, float], Verdict]


def _accuracy(column: str) -> QualityJudge:
    def judge(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> Verdict:
        return judge_accuracy(
            _column(new, column),
            _column(old, column),
            QualityPolicy(alpha=alpha, beta=gates.beta, visible=gates.accuracy_visible),
            chance=new.scores.get("chance"),
            metric=new.metric,
        )

    return judge


def _similarity(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> Verdict:
    from enginegate.quality.bleu import BLEU_COLUMNS, corpus_bleu

    def counts(entry: QualityEntry) -> dict[str, list[float]]:
        return {item: values[: len(BLEU_COLUMNS)] for item, values in entry.items.items()}

    return judge_corpus(counts(new), counts(old), corpus_bleu, _policy(gates.bleu, gates, alpha))


def _summaries(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> Verdict:
    def scores(entry: QualityEntry) -> dict[str, list[float]]:
        return {item: [value] for item, value in _column(entry, "rougeL").items()}

    policy = _policy(gates.rouge, gates, alpha)
    return judge_corpus(scores(new), scores(old), lambda rows: float(rows.mean()), policy, metric="rougeL", unit="F")


def _perplexity(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> Verdict:
    def documents(entry: QualityEntry) -> dict[str, tuple[float, float]]:
        nll, tokens = _column(entry, "nll"), _column(entry, "tokens")
        return {item: (nll[item], tokens[item]) for item in nll}

    return judge_nll(documents(new), documents(old), _policy(gates.perplexity, gates, alpha))


def _policy(margins: MarginSection, gates: QualityGatesSection, alpha: float) -> QualityPolicy:
    return QualityPolicy(alpha=alpha, beta=gates.beta, margin=margins.margin, tolerated=margins.tolerated)


QUALITY_GATES: dict[str, QualityJudge] = {
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
    for session in (*bases, new):
        if session.record and session.record.status == "partial":
            yield f"{session.name} was interrupted and is partial"
