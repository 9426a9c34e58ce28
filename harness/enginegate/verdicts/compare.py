"""Base sessions against a new one: a verdict for each benchmark and metric that both have.

The judge is that of the sessions; what the older ones hold goes into the inputs of its gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from types import MappingProxyType
from typing import Any, Literal

from enginegate.config.schema import MarginSection, QualityGatesSection
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.compare import ABSOLUTE_SHIFT
from enginegate.gates.items import QualityPolicy
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import BLEU_COLUMNS
from enginegate.quality.lm_eval import METRIC as TASK_METRIC
from enginegate.storage.baselines import same_method
from enginegate.storage.summary import session_shift, worst
from enginegate.verdicts import lookup
from enginegate.verdicts.compare_rule import Rule
from enginegate.verdicts.corpus import bleu_score, ceiling
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    CorpusInputs,
    DivergenceInputs,
    MemoryInputs,
    NllInputs,
    QualityInputs,
    SizeInputs,
    UnpairedInputs,
)
from enginegate.verdicts.judge import judge
from enginegate.verdicts.sources import StoredSession, renamed
from enginegate.verdicts.task_scores import task_gate

#: The figures of a memory pass that are compared.
_MEMORY: tuple[Literal["loaded", "peak"], ...] = ("loaded", "peak")


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


def compare_sessions(
    bases: Sequence[StoredSession], new: StoredSession, rule: Rule, names: Mapping[str, str] = MappingProxyType({})
) -> Comparison:
    """Compare every benchmark that NEW shares with a base.

    Args:
        bases, new: the sessions.
        rule: what takes part, and how much worse is a regression.
        names: old names, of which a base may have some, to those of NEW.

    Raises RecordError where there is none, and where one session was given twice: it would count as two that agree.
    ConfigError: the rule names something that is not there.
    """
    _refuse_repeats(bases, new)  # under their own names: two that are swapped would make another session
    bases = [renamed(base, names) for base in bases]
    series = [item for session in (*bases, new) for item in session.series.items()]
    rule.check({key for session in (*bases, new) for key in _keys(session)}, series)
    elsewhere = "" if rule.across_machines else _other_machine(bases, new)
    compared = list(_samples(bases, new, rule))
    records = [base.record for base in bases if base.record is not None]
    before = {key for base in bases for key in _keys(base)}
    now = set(_keys(new))
    quality: list[Compared] = []
    if new.record is not None and records:
        _refuse_unusable((*bases, new), rule)
        compared += _resources(records, new.record, rule)
        quality += _quality(records, new.record, rule)
    if elsewhere:
        compared = [_undecided(item, elsewhere) for item in compared]
    compared += quality
    if not compared:
        raise RecordError(
            f"{new.name} has nothing in common with {', '.join(base.name for base in bases)}",
            "compare sessions of the same benchmarks, and check --metric, --filter and --renamed",
        )
    return Comparison(
        tuple(compared),
        tuple(sorted(key for key in before - now if rule.wants(*key))),
        tuple(sorted(key for key in now - before if rule.wants(*key))),
        tuple(_warnings(bases, new)),
    )


def _refuse_repeats(bases: Sequence[StoredSession], new: StoredSession) -> None:
    """Raise RecordError where one session is there twice, under whatever name."""
    for one, other in combinations((*bases, new), 2):
        if one.is_same(other):
            raise RecordError(f"{one.name} and {other.name} are one session", "name every session once")


def _keys(session: StoredSession) -> Iterator[tuple[str, str]]:
    """Every (benchmark, metric) that a session has: speed, and what a record has of memory, sizes and quality.

    Bytes of 0 were not measured.
    """
    yield from session.series
    if session.record is not None:
        for entry in session.record.memory:
            figures = (name for name in _MEMORY if getattr(entry, name) > 0)
            yield from ((f"{entry.engine} {entry.workload}", f"{name}_memory") for name in figures)
        yield from ((engine.id, "engine_size") for engine in session.record.engines if engine.size_bytes)
        yield from ((entry.engine, entry.metric) for entry in session.record.quality if entry.items)


def _refuse_unusable(sessions: Sequence[StoredSession], rule: Rule) -> None:
    """Raise RecordError where scores are none that any engine has: damage is no regression, nor hides one.

    They are judged alone, as what they are compared with has no say in that.
    """
    for session in sessions:
        record = session.record
        for entry in record.quality if record is not None else ():
            if record is None or not entry.items or not rule.wants(entry.engine, entry.metric):
                continue
            make = _gate_of(entry)
            if make is not None:
                gate = make(entry, entry, lookup.gates(record).quality, rule.alpha)
                verdict = judge(gate.model_copy(update={"baseline": None}), record)
                if verdict.status is Status.FAIL or not math.isfinite(verdict.estimate):
                    raise RecordError(
                        f"{entry.metric} of {entry.engine} in {session.name} cannot be compared: {verdict.explanation}",
                        "restore that record or record a new run, or leave the score out with --metric and --filter",
                    )


def _without_refusal(verdict: Verdict) -> Verdict:
    """Sound scores that do not belong together (no item in common, texts cut otherwise) decide nothing."""
    refused = verdict.status is Status.FAIL and math.isnan(verdict.estimate)
    return replace(verdict, status=Status.INCONCLUSIVE) if refused else verdict


def _samples(bases: Sequence[StoredSession], new: StoredSession, rule: Rule) -> Iterator[Compared]:
    speed = lookup.gates(new.record).speed
    for key, series in new.series.items():
        before = [base.series[key] for base in bases if key in base.series]
        benchmark, metric = key
        if before and rule.wants(*key):
            asked = rule.margin(benchmark, metric, series.group)
            margin, tolerated = (speed.margin, speed.tolerated) if asked is None else (asked, None)
            gate = UnpairedInputs(
                metric=metric,
                candidate=benchmark,
                subject="",
                sessions=[list(session.samples) for session in before],
                samples=list(series.samples),
                margin=margin,
                tolerated=tolerated,
                alpha=rule.alpha,
                beta=speed.beta,
                higher_is_better=series.higher_is_better,
                # Absolute times, as in files of pytest-benchmark, shift more than the ratios in a record.
                shift=session_shift(new.record, metric) if new.record else ABSOLUTE_SHIFT,
            )
            item = Compared(benchmark, metric, judge(gate, new.record))
            timers = sorted({session.timer or "an unknown clock" for session in (*before, series)})
            if len(timers) > 1 and not rule.across_machines:
                item = _undecided(item, f"the sessions were timed by different clocks ({', '.join(timers)})")
            yield item


def _resources(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    memory = lookup.gates(new).memory
    for entry in new.memory:
        for field in _MEMORY:
            metric = f"{field}_memory"
            before = [
                getattr(old, field)
                for base in bases
                for old in base.memory
                if (old.engine, old.workload) == (entry.engine, entry.workload) and getattr(old, field) > 0
            ]
            if before and getattr(entry, field) > 0 and rule.wants(f"{entry.engine} {entry.workload}", metric):
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
        if sizes and engine.size_bytes and rule.wants(engine.id, "engine_size"):
            size = SizeInputs(metric="engine_size", candidate=engine.id, subject="", baseline=median(sizes), limit=None)
            yield Compared(engine.id, "engine_size", judge(size, new))


def _quality(bases: Sequence[RunRecord], new: RunRecord, rule: Rule) -> Iterator[Compared]:
    section = lookup.gates(new).quality
    for entry in new.quality:
        before = [
            old
            for base in bases
            for old in base.quality
            if (old.engine, old.metric) == (entry.engine, entry.metric) and entry.items and old.items
        ]
        make = _gate_of(entry)
        if make is None or not before or not rule.wants(entry.engine, entry.metric):
            continue
        alike = [old for old in before if same_method(old.version, entry.version)]
        if alike:
            gate = make(entry, alike[-1], section, rule.alpha)
            yield Compared(entry.engine, entry.metric, _without_refusal(judge(gate, new)))
        else:
            yield Compared(entry.engine, entry.metric, _other_method(entry, before[-1]))


def _other_method(new: QualityEntry, old: QualityEntry) -> Verdict:
    """Scores of two methods (another tokenizer of BLEU, another version of a library) say nothing of each other."""
    return Verdict(
        status=Status.INCONCLUSIVE,
        metric=new.metric,
        estimate=math.nan,
        interval=(math.nan, math.nan),
        unit="",
        baseline=None,
        change=None,
        margin=0.0,
        alpha=0.0,
        smallest_visible=None,
        samples=0,
        explanation=f"{new.metric} of {new.engine}: undecided: measured by another method: {new.version}, before"
        f" {old.version}; measure both sessions alike",
    )


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
        "baseline": lookup.columns(old, columns, new),
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


def _task(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
    """A task of lm-evaluation-harness, by the gate that its score asks for."""
    kind, columns = task_gate(new)
    if kind is AccuracyInputs:
        return _accuracy(columns[0])(new, old, gates, alpha)
    margins = gates.perplexity if kind is NllInputs else gates.lm_eval
    common = _common(new, old, columns, new.metric, _policy(margins, gates, alpha))
    if kind is NllInputs:
        return NllInputs(**common)
    return CorpusInputs(**common, score="mean", unit=columns[0].removeprefix("-"))


def _divergence(new: QualityEntry, old: QualityEntry, gates: QualityGatesSection, alpha: float) -> QualityInputs:
    common = _common(new, old, ["kld", "tokens"], "divergence", _policy(gates.divergence, gates, alpha))
    return DivergenceInputs(**common, floor=new.scores.get("floor", 0.0))


def _policy(margins: MarginSection, gates: QualityGatesSection, alpha: float) -> QualityPolicy:
    return QualityPolicy(alpha=alpha, beta=gates.beta, margin=margins.margin, tolerated=margins.tolerated)


#: The new entry, the old one, the quality gates' configuration and alpha to a gate's inputs.
_Make = Callable[[QualityEntry, QualityEntry, QualityGatesSection, float], QualityInputs]
_QUALITY: dict[str, _Make] = {
    "cloze": _accuracy("acc_norm"),
    "letters": _accuracy("acc"),
    "similarity": _similarity,
    "summaries": _summaries,
    "perplexity": _perplexity,
    "divergence": _divergence,
}


def _gate_of(entry: QualityEntry) -> _Make | None:
    """What makes the gate of a metric; None for one that is not gated."""
    return _task if entry.metric.startswith(TASK_METRIC) else _QUALITY.get(entry.metric)


def _other_machine(bases: Sequence[StoredSession], new: StoredSession) -> str:
    """That the sessions ran on different machines, and on which; empty where it was one kind."""
    machines = sorted({session.machine or "an unknown one" for session in (*bases, new)})
    return f"the sessions ran on different machines ({'; '.join(machines)})" if len(machines) > 1 else ""


def _undecided(item: Compared, reason: str) -> Compared:
    """Speed and memory of two kinds of machine, or times of two clocks, decide nothing about the engine."""
    measured = item.verdict.explanation.partition("; undecided: ")[0]
    verdict = replace(
        item.verdict,
        status=Status.INCONCLUSIVE,
        explanation=f"{measured}; undecided: {reason}; --across-machines judges all the same",
    )
    return replace(item, verdict=verdict)


def _warnings(bases: Sequence[StoredSession], new: StoredSession) -> Iterator[str]:
    for base in bases:
        if base.machine != new.machine:
            here, there = (session.machine or "an unknown machine" for session in (base, new))
            yield f"{base.name} ran on {here}, {new.name} on {there}"
        for what, before in base.surroundings.items():
            now = new.surroundings.get(what, "")
            if before and now and before != now:
                yield f"{base.name} ran on {what} {before}, {new.name} on {what} {now}"
        if base.record and new.record and base.record.model.digest != new.record.model.digest:
            yield f"{base.name} tested another checkpoint than {new.name}"
        yield from _other_engines(base, new)
    for session in (*bases, new):
        if not session.machine:
            yield f"{session.name} does not say on which machine it ran"
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
