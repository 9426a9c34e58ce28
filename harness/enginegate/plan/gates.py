"""The gates of one engine: what each compares, with what, at which margins. From the plan and a few facts to inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from enginegate.config.schema import Floors, GatesSection, LiveSection, Margins, MarginSection
from enginegate.core.errors import BaselineError
from enginegate.core.identity import runtime_digest
from enginegate.core.records import MemoryEntry, QualityEntry
from enginegate.core.specs import EngineSpec, Workload
from enginegate.engines.registry import capabilities, load_backend, version
from enginegate.gates.audit import one_line, power_warning
from enginegate.gates.items import QualityPolicy
from enginegate.gates.launches import LAUNCH_SPREAD
from enginegate.gates.sequential import RATIO_SHIFT, SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.plan.plan import Plan
from enginegate.plan.selection import Candidate
from enginegate.quality.bleu import BLEU_COLUMNS
from enginegate.quality.ties import TIED, has_column
from enginegate.storage.audits import AuditedGate, AuditedLaunches
from enginegate.storage.baselines import RECORD_NEW, PerfBaseline, PerfEngine, PerfSession, QualityBaseline
from enginegate.verdicts.audit import judged_by
from enginegate.verdicts.corpus import bleu_score, ceiling
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    BuildTimeInputs,
    CeilingInputs,
    CorpusInputs,
    DivergenceInputs,
    FlipsInputs,
    Items,
    LengthsInputs,
    LiveBase,
    MemoryField,
    MemoryInputs,
    MemoryLawInputs,
    NllInputs,
    SizeInputs,
    SpeedInputs,
    StoredFloor,
    StoredSessions,
)
from enginegate.verdicts.launch_audit import belief, blind, rate_line, resampled, spread_line
from enginegate.verdicts.lookup import pick
from enginegate.verdicts.task_scores import task_gate


@dataclass(frozen=True)
class LiveTwin:
    """The live base of one engine.

    Attributes:
        id: its engine id.
        label: what it is, for people.
        notes: what its verdicts must say.
        size_bytes, build_seconds: of its files, and of making them.
        memory: measures its memory under a workload.
        quality: measures one of its quality metrics.
        head: where the engine itself is of a head that was named: which one, to be said behind its precision.
    """

    id: str
    label: str
    notes: tuple[str, ...]
    size_bytes: int
    build_seconds: float
    memory: Callable[[Workload], MemoryEntry]
    quality: Callable[[str], QualityEntry]
    head: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model once its files are there.

    Attributes:
        digest: of the checkpoint.
        speed_reference: gives the engine that ratios are taken over; it may load and time engines to find the fastest.
        quality_reference: the engine that quality is compared with.
        unquantized: a second unquantized engine beside it; None where there is none.
        record: id of the run's record, which must not be its own baseline.
        base: id of the engine's live base, what it is for people, and what its verdicts must say; None without one.
    """

    digest: str
    speed_reference: Callable[[], EngineSpec]
    quality_reference: EngineSpec
    record: str
    base: LiveTwin | None = None
    unquantized: EngineSpec | None = None


@dataclass(frozen=True)
class EngineGates:
    """One engine's gates in one session.

    Every method that needs a baseline raises BaselineError where that cannot be used.
    """

    plan: Plan
    candidate: Candidate
    facts: ModelFacts
    _checked: dict[str, PerfBaseline | None] = field(default_factory=dict)

    def speed(self, workload: Workload, metric: str) -> SpeedInputs:
        """``speedup``, ``ttft`` or ``itl`` over the reference: against stored sessions, else a floor, else nothing."""
        if self.facts.base is not None:  # nothing is asked of the reference, which may first have to be found
            return self._live(workload, metric, self.facts.base)
        spec, reference = self.candidate.spec, self.facts.speed_reference()
        policy = speed_policy(self.plan, self.candidate, metric)
        audited = self._audited(workload, metric)
        if audited is not None:
            policy = replace(policy, correlation=audited.policy["correlation"])
        label = "" if metric == "speedup" else f" {metric.upper()}"
        return SpeedInputs(
            metric=metric,
            workload=workload.id,
            candidate=spec.id,
            reference=reference.id,
            reference_label=reference.label,
            subject=f"{self.name} b{workload.batch_size}{label}",
            against=self._against(workload, metric),
            policy=policy,
            notes=self._undecisive(workload, metric),
        )

    def _live(self, workload: Workload, metric: str, twin: LiveTwin) -> SpeedInputs:
        label = "" if metric == "speedup" else f" {metric.upper()}"
        policy, audit = live_policy(self.plan, self.candidate, metric), self._launches(workload, metric, twin.id)
        if audit is not None:
            policy = replace(policy, shift=belief(audit, policy.shift))
        return SpeedInputs(
            metric=metric,
            workload=workload.id,
            candidate=self.candidate.id,
            reference=twin.id,
            reference_label=twin.label,
            subject=f"{self.name}{twin.head} b{workload.batch_size}{label}",
            against=LiveBase(base=twin.id, label=twin.label),
            policy=policy,
            notes=[*twin.notes, *([spread_line(policy.shift, audit)] if audit is not None else [])],
        )

    def with_remarks(self, inputs: SpeedInputs, workload: Workload) -> SpeedInputs:
        """The same with what is said beside the verdict: changed libraries, and what the audit says this gate sees.

        Nothing where a live base or a floor judges: both remarks are of stored figures and small changes. The audit is
        resampled for that very gate, which takes a while: once for each verdict, not for each look.
        """
        notes, line = list(inputs.notes), inputs.audit
        if isinstance(inputs.against, LiveBase):
            launches = self._launches(workload, inputs.metric, inputs.against.base)
            if launches is None:
                return inputs
            rates = resampled(launches, inputs.policy)
            warning = blind(rates, inputs.policy)
            notes += [warning] if warning else []
            return inputs.model_copy(update={"notes": notes, "audit": rate_line(rates, inputs.policy)})
        if isinstance(inputs.against, StoredFloor):
            return inputs
        audited = self._audited(workload, inputs.metric)
        if audited is not None:
            stored = len(inputs.against.sessions) if isinstance(inputs.against, StoredSessions) else 0
            audit = judged_by(audited, stored, inputs.policy)
            line, warning = one_line(audit), power_warning(audit, inputs.policy)
            notes += [warning] if warning else []
        baseline = self._perf(workload)
        if baseline is not None:
            versions = {
                "engine": version(load_backend(self.candidate.spec.backend)),
                "reference": version(load_backend(self.facts.speed_reference().backend)),
            }
            libraries = self.plan.machine.context.get("libraries", {})
            notes += baseline.version_changes(self.candidate.id, versions, libraries)
        return inputs.model_copy(update={"notes": notes, "audit": line})

    def memory(
        self, entry: MemoryEntry, workload: Workload, field: MemoryField, reference_peak: Callable[[], int]
    ) -> MemoryInputs:
        """One figure of a memory pass. ``reference_peak``: measures the reference's peak, where a floor asks for it."""
        section = self._section.memory
        if self.facts.base is not None:
            baseline = getattr(self.facts.base.memory(workload), field)
        else:
            stored = self._stored(workload)
            figures = stored.memory if stored else None
            if figures is not None:
                self._check_settings(figures.runtime_digest, f"the memory baseline of {self.candidate.id}")
            baseline = getattr(figures, field) if figures is not None else None
        exact, ratio = field == "kv_budget", self.floors.peak_memory_ratio
        limit: float | None = None
        if baseline is None and not self.plan.require_baseline:
            if exact:
                limit = entry.kv_predicted
            elif field == "peak" and ratio is not None:
                limit = ratio * reference_peak()
        return MemoryInputs(
            metric=field if exact else f"{field}_memory",
            candidate=self.candidate.id,
            subject=f"{self.name} b{workload.batch_size} {field.replace('_', ' ')}",
            workload=entry.workload,
            field=field,
            baseline=baseline,
            limit=limit,
            relative=0.0 if exact else section.relative,
            quantum=0 if exact else section.quantum,
        )

    def memory_law(self, entry: MemoryEntry, workload: Workload) -> MemoryLawInputs:
        """The memory pass against the backend's own memory law."""
        return MemoryLawInputs(
            metric="memory_law",
            candidate=self.candidate.id,
            subject=f"{self.name} b{workload.batch_size} memory",
            workload=entry.workload,
            predicted=entry.predicted is not None,
            tolerated=self._section.memory.law,
            at_most=bool(getattr(self.candidate.runtime, "kv_cache_fraction", None)),
        )

    def engine_size(self, weights: int | None) -> SizeInputs:
        """Bytes of the engine's files. ``weights``: how many the checkpoint has, for the floor; None without one."""
        accepted, floor = self._accepted_size(), self.floors.bits_per_weight
        limited = accepted is None and floor is not None and weights is not None and not self.plan.require_baseline
        return SizeInputs(
            metric="engine_size",
            candidate=self.candidate.id,
            subject=f"{self.name} engine size",
            baseline=accepted,
            limit=floor * weights / 8 if limited and floor is not None and weights is not None else None,
        )

    def build_time(self) -> BuildTimeInputs:
        """Seconds that the build took."""
        stored = self.facts.base or self._newest_session()
        return BuildTimeInputs(
            metric="build_seconds",
            candidate=self.candidate.id,
            subject=f"{self.name} build",
            baseline=stored.build_seconds if stored else None,
        )

    def accuracy(self, entry: QualityEntry, column: str) -> AccuracyInputs:
        """Right and wrong answers; the reference's count too, as a model that guesses can lose nothing."""
        section = self._section.quality
        policy = QualityPolicy(alpha=self.alpha, beta=section.beta, visible=section.accuracy_visible)
        common = self._common(entry, f"{entry.metric}_accuracy", [column], policy)
        limit = self._unless_required(self.floors.accuracy_loss)
        return AccuracyInputs(**common, reference=self.facts.quality_reference.id, limit=limit)

    def flips(self, entry: QualityEntry, column: str) -> FlipsInputs:
        """How many answers changed at all."""
        section = self._section.quality
        policy = QualityPolicy(alpha=self.alpha, beta=section.beta)
        # A tie is no flip where the other engine gave one of the tied answers: sets of best answers are compared.
        common = self._common(entry, f"{entry.metric}_flips", [TIED.get(column, column)], policy)
        return FlipsInputs(**common, reference=self._reference_for(common, section.flips), limit=section.flips)

    def bleu(self, entry: QualityEntry) -> CorpusInputs:
        """Corpus BLEU against the reference's own answers."""
        floor = self.floors.bleu
        limit = None if floor is None else 100.0 - floor
        margins, score = self._section.quality.bleu, bleu_score(entry)
        return self._corpus(entry, BLEU_COLUMNS, "bleu", margins, limit, score, "points", ceiling(entry, "bleu"))

    def rouge(self, entry: QualityEntry, column: str) -> CorpusInputs:
        """A mean ROUGE F-measure, of answers or of summaries."""
        limit = self.floors.summary_rougeL_loss
        if entry.metric == "similarity":
            limit = None if self.floors.rougeL is None else 1.0 - self.floors.rougeL
        metric = f"{entry.metric}_{column}"
        margins = self._section.quality.rouge
        return self._corpus(entry, [column], metric, margins, limit, "mean", "F1", ceiling(entry, column))

    def perplexity(self, entry: QualityEntry) -> NllInputs:
        """Perplexity, document by document."""
        limit = self.floors.perplexity_ratio
        policy = self._corpus_policy(self._section.quality.perplexity)
        common = self._common(entry, "perplexity", ["nll", "tokens"], policy)
        return NllInputs(**common, reference=self._reference_for(common, limit), limit=self._unless_required(limit))

    def lm_eval(self, entry: QualityEntry) -> AccuracyInputs | NllInputs | CorpusInputs:
        """A task of lm-evaluation-harness, by the gate that its score asks for; see ``task_gate``."""
        section = self._section.quality
        kind, columns = task_gate(entry)
        if kind is AccuracyInputs:
            policy = QualityPolicy(alpha=self.alpha, beta=section.beta, visible=section.accuracy_visible)
        else:
            policy = self._corpus_policy(section.perplexity if kind is NllInputs else section.lm_eval)
        subject = f"{self.name} {entry.metric.partition(':')[2]} {columns[0]}"
        common = self._common(entry, entry.metric, columns, policy) | {"subject": subject}
        if kind is AccuracyInputs:
            limit = self._unless_required(self.floors.accuracy_loss)
            return AccuracyInputs(**common, reference=self.facts.quality_reference.id, limit=limit)
        if kind is NllInputs:
            return NllInputs(**common, reference=None, limit=None)
        return CorpusInputs(**common, reference=None, limit=None, score="mean", unit=columns[0].removeprefix("-"))

    def divergence(self, entry: QualityEntry) -> DivergenceInputs:
        """KL divergence from the quality reference, document by document."""
        policy = self._corpus_policy(self._section.quality.divergence)
        common = self._common(entry, "divergence", ["kld", "tokens"], policy)
        limit = self._unless_required(self.floors.divergence)
        return DivergenceInputs(**common, reference=None, limit=limit, floor=entry.scores.get("floor", 0.0))

    def output_length(self, entry: QualityEntry) -> LengthsInputs:
        """The length of answers against the reference's: a speed-up cannot come from shorter output."""
        section = self._section.quality
        policy = QualityPolicy(alpha=self.alpha, beta=section.beta)
        common = self._common(entry, "output_length", ["length", "reference_length"], policy)
        reference = self._reference_for(common, section.length_ratio)
        return LengthsInputs(**common, reference=reference, limit=section.length_ratio)

    @property
    def floors(self) -> Floors:
        """The portable floors of this engine's precision."""
        return self.candidate.config.floors(self.candidate.spec)

    def _corpus(
        self,
        entry: QualityEntry,
        columns: Sequence[str],
        metric: str,
        margins: MarginSection,
        limit: float | None,
        score: str,
        unit: str,
        ceiling: CeilingInputs | None,
    ) -> CorpusInputs:
        common = self._common(entry, metric, columns, self._corpus_policy(margins))
        reference = self._reference_for(common, limit)
        second = self.facts.unquantized
        compared = entry.metric == "similarity" and common["baseline"] is not None and second is not None
        return CorpusInputs(
            **common,
            unquantized=second.id if compared and second is not None else None,
            reference=reference,
            limit=self._unless_required(limit),
            score=score,
            unit=unit,
            ceiling=ceiling,
        )

    def _common(
        self, entry: QualityEntry, metric: str, columns: Sequence[str], policy: QualityPolicy
    ) -> dict[str, Any]:
        """What the inputs of every quality gate have."""
        return {
            "metric": metric,
            "candidate": self.candidate.id,
            "subject": f"{self.name} {metric.replace('_', ' ')}",
            "source": entry.metric,
            "columns": list(columns),
            "baseline": self._items(entry, columns),
            "policy": policy,
        }

    def _corpus_policy(self, margins: MarginSection) -> QualityPolicy:
        beta = self._section.quality.beta
        return QualityPolicy(alpha=self.alpha, beta=beta, margin=margins.margin, tolerated=margins.tolerated)

    def _items(self, entry: QualityEntry, columns: Sequence[str]) -> Items | None:
        """The numbers of each item, of the live base or as they were accepted; None where there are none."""
        if self.facts.base is not None:
            return pick(self.facts.base.quality(entry.metric), columns, entry)
        baseline = self._quality
        stored = baseline.metric(entry.metric, entry.version) if baseline else None
        if stored is None:
            return None
        self._check_settings(stored.runtime_digest, f"the baseline of {self.candidate.id} in {entry.metric}")
        missing = [column for column in columns if not has_column(stored.columns, column)]
        if missing:
            raise BaselineError(
                f"the baseline of {self.candidate.id} keeps no {', '.join(missing)} of {entry.metric}", RECORD_NEW
            )
        return pick(stored, columns, entry)

    def _reference_for(self, common: Mapping[str, Any], limit: float | None) -> str | None:
        """The quality reference, where a limit to it has to stand in for accepted items."""
        stands_in = common["baseline"] is None and limit is not None and not self.plan.require_baseline
        return self.facts.quality_reference.id if stands_in else None

    def _unless_required(self, limit: float | None) -> float | None:
        return None if self.plan.require_baseline else limit

    def _check_settings(self, stored: str, what: str) -> None:
        """Raise BaselineError where a baseline is of the same name, but was loaded with other settings."""
        if stored and stored != runtime_digest(self.candidate.runtime):
            raise BaselineError(
                f"{what} was taken with other runtime settings than this run's",
                "give this engine a name of its own under `variants`, or accept it in the old one's place: "
                "`enginegate accept RUN --replace`",
            )

    def _against(self, workload: Workload, metric: str) -> StoredSessions | StoredFloor | None:
        kept = self._stored(workload)
        stored = kept.decisive(metric) if kept else None
        sessions = stored.log_ratios(metric) if stored else []
        if stored is not None and sessions:
            self._check_settings(stored.sessions[-1].runtime_digest, f"the speed baseline of {self.candidate.id}")
            orders = stored.orders(metric)
            times = [entry.times[metric] for entry in stored.sessions]
            return StoredSessions(sessions=sessions, orders=orders if any(orders) else [], times=times)
        floors: dict[str, float] = getattr(self.floors, metric)
        floor = self._unless_required(floors.get(f"b{workload.batch_size}"))
        return None if floor is None else StoredFloor(ratio=floor)

    def _undecisive(self, workload: Workload, metric: str) -> list[str]:
        """What is to be said where there are stored sessions, and none of them can decide."""
        stored = self._stored(workload)
        if stored is None or not stored.log_ratios(metric) or stored.decisive(metric).sessions:
            return []
        count = len(stored.log_ratios(metric))
        return [
            f"the {count} stored session(s) keep no times of the reference, so nobody can tell whether it has moved"
            " since: they decide nothing; accept new ones, or use --against"
        ]

    def _stored(self, workload: Workload) -> PerfEngine | None:
        baseline = self._perf(workload)
        return baseline.engines.get(self.candidate.id) if baseline else None

    def _newest_session(self) -> PerfSession | None:
        """The session that was accepted last, for the engine's size and build time: the same at every workload."""
        return next((stored.sessions[-1] for stored in self._all_stored() if stored.sessions), None)

    def _accepted_size(self) -> int | None:
        """Bytes of the base's files, of the newest session's, or of those whose memory alone was accepted."""
        latest = self.facts.base or self._newest_session()
        if latest is not None:
            return latest.size_bytes
        return next((stored.memory.disk for stored in self._all_stored() if stored.memory), None)

    def _all_stored(self) -> Iterator[PerfEngine]:
        """What is accepted of the engine, workload by workload."""
        for size in self.plan.selection.batch_sizes[self.candidate.config.name]:
            stored = self._stored(self.candidate.config.workload(size))
            if stored is not None:
                yield stored

    def _perf(self, workload: Workload) -> PerfBaseline | None:
        """The workload's baseline, found once to be of this model and this reference."""
        if workload.id in self._checked:
            return self._checked[workload.id]
        read = self.plan.perf.get((self.candidate.config.name, workload.id))
        baseline = read.get() if read else None
        if baseline is not None:
            baseline.check(self.facts.digest, self.facts.speed_reference().id, self.facts.record)
        self._checked[workload.id] = baseline
        return baseline

    @cached_property
    def _quality(self) -> QualityBaseline | None:
        read = self.plan.quality.get(self.candidate.id)
        baseline = read.get() if read else None
        if baseline is not None:
            baseline.check(self.facts.digest, self.facts.record)
        return baseline

    def _audited(self, workload: Workload, metric: str) -> AuditedGate | None:
        audits = self.plan.audits.get()
        if audits is None:
            return None
        found = audits.of(self.candidate.id, workload.id, self.facts.speed_reference().id, metric)
        return found if isinstance(found, AuditedGate) else None

    def _launches(self, workload: Workload, metric: str, base: str) -> AuditedLaunches | None:
        audits = self.plan.audits.get()
        found = audits.of(self.candidate.id, workload.id, base, metric) if audits else None
        return found if isinstance(found, AuditedLaunches) else None

    @property
    def _section(self) -> GatesSection:
        return self.candidate.config.file.gates

    @property
    def alpha(self) -> float:
        """The false-alarm probability of one of its gates; see ``Plan.alpha``."""
        return self.plan.alpha(self.candidate.config)

    @property
    def name(self) -> str:
        """The precision, with the variant where there is one: the backend and the model are in the engine's id."""
        spec = self.candidate.spec
        return spec.label.removeprefix(f"{spec.backend}-")


def speed_policy(plan: Plan, candidate: Candidate, metric: str) -> SpeedPolicy:
    """The speed gate's margins, and its share of the session's error budget."""
    section = candidate.config.file.gates.speed
    return _policy(plan, candidate, section, section.looks, replace(RATIO_SHIFT, scale=getattr(section.shift, metric)))


def live_policy(plan: Plan, candidate: Candidate, metric: str) -> SpeedPolicy:
    """The margins against a live base, whose looks count launches, and the gate's share of the error budget."""
    section = candidate.config.file.gates.live
    on_gpu = capabilities(load_backend(candidate.spec.backend)).device == "cuda"
    margins: Margins = getattr(section.gpu, metric) if on_gpu else section
    return _policy(
        plan, candidate, margins, section.looks, replace(LAUNCH_SPREAD, scale=live_spread(section, metric, on_gpu))
    )


def live_spread(section: LiveSection, metric: str, on_gpu: bool) -> float:
    """What launches are taken to differ by in a metric, log ratio."""
    return float(getattr(section.gpu, metric).spread if on_gpu else getattr(section.spread, metric))


def _policy(plan: Plan, candidate: Candidate, margins: Margins, looks: Sequence[int], shift: ShiftPrior) -> SpeedPolicy:
    return SpeedPolicy(
        margin=margins.margin,
        tolerated=margins.tolerated,
        alpha=plan.alpha(candidate.config),
        beta=candidate.config.file.gates.speed.beta,
        looks=tuple(looks),
        shift=shift,
    )
