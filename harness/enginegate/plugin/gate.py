"""What a test asserts with: a gate finds what to compare with, judges, and keeps the verdict for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from enginegate.config.schema import MarginSection
from enginegate.core.records import MemoryEntry, QualityEntry
from enginegate.core.specs import Workload
from enginegate.gates.items import QualityPolicy
from enginegate.gates.verdict import Status, Verdict
from enginegate.plan.selection import Candidate
from enginegate.plugin.outcomes import keep
from enginegate.plugin.session import GateSession
from enginegate.plugin.timed_engine import TimedEngine, perf_baseline, speed_inputs, speed_remarks
from enginegate.plugin.workers import plain_id
from enginegate.storage.baselines import PerfEngine, PerfSession, QualityBaseline, assert_not_own_baseline, load_quality
from enginegate.verdicts.judge import judge

#: Gates whose INCONCLUSIVE is advice, under --strict-gates too: one sample can show nothing.
ADVISORY = ("build_time",)


class Gate:
    """The gates of one test. Each method gives a verdict to assert."""

    def __init__(self, session: GateSession, item: pytest.Item, candidate: Candidate) -> None:
        self._session = session
        self._item = item
        self._candidate = candidate
        self._bench = session.bench(candidate.config)
        self._floors = candidate.config.floors(candidate.spec.backend, candidate.spec.precision)
        self._strict_floors = session.options.require_baseline

    def speed(self, timed_engine: TimedEngine, metric: str = "speedup") -> Verdict:
        """Judge ``speedup``, ``ttft`` or ``itl``: each a ratio over the live reference, block by block."""
        inputs = speed_inputs(self._session, self._candidate, timed_engine.workload, metric)
        inputs |= speed_remarks(self._session, self._candidate, timed_engine.workload, inputs)
        return self._conclude(inputs, timed_engine.workload)

    def memory(self, entry: MemoryEntry, workload: Workload, field: str) -> Verdict:
        """Judge one figure of a memory pass: ``loaded``, ``peak`` or ``kv_budget``, in bytes."""
        section = self._candidate.config.file.gates.memory
        stored = self._stored_engine(workload)
        baseline = getattr(stored.memory, field) if stored and stored.memory else None
        exact = field == "kv_budget"
        limit = None
        if baseline is None and not self._strict_floors:
            limit = entry.kv_predicted if exact else self._peak_limit(workload) if field == "peak" else None
        inputs = {
            "gate": "memory",
            "metric": field if exact else f"{field}_memory",
            "field": field,
            "candidate": self._candidate.id,
            "workload": entry.workload,
            "subject": f"{self._candidate.spec.precision} b{workload.batch_size} {field.replace('_', ' ')}",
            "baseline": baseline,
            "limit": limit,
            "relative": 0.0 if exact else section.relative,
            "quantum": 0 if exact else section.quantum,
        }
        return self._conclude(inputs, workload)

    def engine_size(self) -> Verdict:
        """Judge the bytes of the engine's files."""
        stored = self._stored_anywhere()
        floor = None if self._strict_floors else self._floors.bits_per_weight
        limit = None if floor is None else floor * self._bench.checkpoint_weights() / 8
        inputs = {
            "gate": "size",
            "metric": "engine_size",
            "candidate": self._candidate.id,
            "subject": f"{self._candidate.spec.precision} engine size",
            "baseline": stored.size_bytes if stored else None,
            "limit": None if stored else limit,
        }
        return self._conclude(inputs, None)

    def build_time(self) -> Verdict:
        """Judge the seconds that the build took: advice, never a FAIL for slowness."""
        stored = self._stored_anywhere()
        inputs = {
            "gate": "build_time",
            "metric": "build_seconds",
            "candidate": self._candidate.id,
            "subject": f"{self._candidate.spec.precision} build",
            "baseline": stored.build_seconds if stored else None,
        }
        return self._conclude(inputs, None)

    def accuracy(self, entry: QualityEntry, column: str) -> Verdict:
        """Judge the right and wrong answers of a multiple-choice metric."""
        section = self._candidate.config.file.gates.quality
        policy = QualityPolicy(alpha=self._alpha(), beta=section.beta, visible=section.accuracy_visible)
        return self._quality(
            "accuracy", entry, [column], policy, f"{entry.metric}_accuracy", limit=self._floors.accuracy_loss
        )

    def flips(self, entry: QualityEntry, column: str) -> Verdict:
        """Judge how many answers changed at all."""
        section = self._candidate.config.file.gates.quality
        policy = QualityPolicy(alpha=self._alpha(), beta=section.beta)
        return self._quality("flips", entry, [column], policy, f"{entry.metric}_flips", limit=section.flips)

    def bleu(self, entry: QualityEntry) -> Verdict:
        """Judge corpus BLEU against the reference's own answers."""
        from enginegate.quality.bleu import BLEU_COLUMNS

        policy = self._corpus_policy(self._candidate.config.file.gates.quality.bleu)
        floor = self._floors.bleu
        limit = None if floor is None else 100.0 - floor
        return self._quality("corpus", entry, BLEU_COLUMNS, policy, "bleu", limit=limit, score="bleu", unit="points")

    def rouge(self, entry: QualityEntry, column: str = "rougeL") -> Verdict:
        """Judge a mean ROUGE F-measure, of answers or of summaries."""
        policy = self._corpus_policy(self._candidate.config.file.gates.quality.rouge)
        limit = self._floors.summary_rougeL_loss
        if entry.metric == "similarity":
            limit = None if self._floors.rougeL is None else 1.0 - self._floors.rougeL
        metric = f"{entry.metric}_{column}"
        return self._quality("corpus", entry, [column], policy, metric, limit=limit, score="mean", unit="F1")

    def perplexity(self, entry: QualityEntry) -> Verdict:
        """Judge perplexity, document by document."""
        policy = self._corpus_policy(self._candidate.config.file.gates.quality.perplexity)
        limit = self._floors.perplexity_ratio
        return self._quality("nll", entry, ["nll", "tokens"], policy, "perplexity", limit=limit)

    def output_length(self, entry: QualityEntry) -> Verdict:
        """Judge the length of answers against the reference's: a speed-up cannot come from shorter output."""
        section = self._candidate.config.file.gates.quality
        policy = QualityPolicy(alpha=self._alpha(), beta=section.beta)
        columns = ["length", "reference_length"]
        return self._quality("lengths", entry, columns, policy, "output_length", limit=section.length_ratio)

    def _quality(
        self,
        gate: str,
        entry: QualityEntry,
        columns: Sequence[str],
        policy: QualityPolicy,
        metric: str,
        *,
        limit: float | None,
        **more: object,
    ) -> Verdict:
        baseline = self._quality_baseline()
        stored = baseline.metric(entry.metric, entry.version) if baseline else None
        items = None
        if stored is not None:
            places = [stored.columns.index(name) for name in columns]
            items = {item: [row[place] for place in places] for item, row in stored.items.items()}
        reference = None
        if gate == "accuracy" or (items is None and limit is not None and not self._strict_floors):
            reference = self._bench.reference_quality(entry.metric).engine
        inputs = {
            "gate": gate,
            "metric": metric,
            "source": entry.metric,
            "candidate": self._candidate.id,
            "reference": reference,
            "columns": list(columns),
            "subject": f"{self._candidate.spec.precision} {metric.replace('_', ' ')}",
            "baseline": items,
            "limit": limit if gate in ("flips", "lengths") or not self._strict_floors else None,
            "policy": asdict(policy),
            **more,
        }
        return self._conclude(inputs, None)

    def _conclude(self, inputs: Mapping[str, Any], workload: Workload | None) -> Verdict:
        model = self._candidate.config.name
        verdict = judge(inputs, self._session.record(model, "partial"))
        options = self._session.options
        if verdict.status is Status.INCONCLUSIVE and (not options.strict or inputs["gate"] in ADVISORY):
            verdict = verdict.accept()
        if verdict.status is Status.NO_BASELINE and not options.require_baseline:
            verdict = verdict.accept()
        if verdict.status is Status.NO_BASELINE and options.require_baseline:
            verdict = self._with_hint(verdict)
        keep(self._item, verdict)
        workload_id = workload.id if workload else None
        self._session.conclude(model, plain_id(self._item), self._candidate.id, workload_id, verdict, inputs)
        return verdict

    def _with_hint(self, verdict: Verdict) -> Verdict:
        record = self._session.options.runs / self._session.record_id(self._candidate.config.name)
        hint = (
            f"; record one on this machine: `enginegate accept {record}`,"
            " review it and commit it, or run with --no-require-baseline"
        )
        return replace(verdict, explanation=verdict.explanation + hint)

    def _alpha(self) -> float:
        return self._session.alpha(self._candidate.config)

    def _corpus_policy(self, section: MarginSection) -> QualityPolicy:
        beta = self._candidate.config.file.gates.quality.beta
        return QualityPolicy(alpha=self._alpha(), beta=beta, margin=section.margin, tolerated=section.tolerated)

    def _quality_baseline(self) -> QualityBaseline | None:
        spec = self._candidate.spec
        baseline = load_quality(self._session.options.baselines, spec.model, self._bench.checkpoint.digest, spec)
        if baseline is not None:
            assert_not_own_baseline(self._session.record_id(self._candidate.config.name), baseline)
        return baseline

    def _stored_engine(self, workload: Workload) -> PerfEngine | None:
        baseline = perf_baseline(self._session, self._candidate.config, workload)
        return baseline.engines.get(self._candidate.id) if baseline else None

    def _stored_anywhere(self) -> PerfSession | None:
        """The session that was accepted last, for the engine's size and build time: the same at every workload."""
        for size in self._session.selection.batch_sizes[self._candidate.config.name]:
            stored = self._stored_engine(self._candidate.config.workload(size))
            if stored is not None and stored.sessions:
                return stored.sessions[-1]
        return None

    def _peak_limit(self, workload: Workload) -> float | None:
        ratio = self._floors.peak_memory_ratio
        if ratio is None:
            return None
        reference = self._bench.reference()
        runtime = self._candidate.config.runtime(reference.backend)
        return ratio * self._bench.memory_of(reference, runtime, workload, "reference").peak
