"""What a test asserts with: a gate judges what was measured, and keeps the verdict for the record."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec

import pytest

from enginegate.core.records import MemoryEntry, QualityEntry
from enginegate.core.serving_records import LoadEntry, ServingEntry
from enginegate.core.specs import Workload
from enginegate.core.technique_records import TechniqueEntry
from enginegate.gates.verdict import Status, Verdict
from enginegate.plan import kv_cache
from enginegate.plan.kv_cache import KvPair
from enginegate.plan.scaling import Series
from enginegate.plan.selection import Candidate
from enginegate.plan.serving_gates import level_inputs, served_inputs, slo_inputs
from enginegate.plan.technique_gates import mismatch_inputs, order_inputs, technique_inputs
from enginegate.plugin.outcomes import ask, expect, keep
from enginegate.plugin.workers import plain_id
from enginegate.session.gate_session import GateSession, TimedEngine
from enginegate.verdicts.inputs import BuildTimeInputs, CorpusInputs, GateInputs, MemoryField, QualityInputs
from enginegate.verdicts.judge import judge

Arguments = ParamSpec("Arguments")


def _question(
    method: Callable[Concatenate[Gate, Arguments], Verdict],
) -> Callable[Concatenate[Gate, Arguments], Verdict]:
    """A method that asks a gate: until it has given its verdict, the test has an open question."""

    @functools.wraps(method)
    def asked(self: Gate, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Verdict:
        with ask(self._item, method.__name__):
            return method(self, *args, **kwargs)

    return asked


class Gate:
    """The gates of one test. Each method gives a verdict to assert.

    A verdict that does not let the test pass fails it in any case, asserted or not (see ``plugin.outcomes``).
    """

    def __init__(self, session: GateSession, item: pytest.Item, candidate: Candidate) -> None:
        self._session = session
        self._item = item
        self._candidate = candidate
        self._bench = session.bench(candidate.config)
        expect(item)

    @_question
    def speed(self, timed_engine: TimedEngine, metric: str = "speedup") -> Verdict:
        """Judge ``speedup``, ``ttft`` or ``itl``: each a ratio over the live reference, block by block."""
        gates, workload = self._session.gates_of(self._candidate), timed_engine.workload
        return self._conclude(gates.with_remarks(gates.speed(workload, metric), workload), workload)

    @_question
    def memory(self, entry: MemoryEntry, workload: Workload, field: MemoryField) -> Verdict:
        """Judge one figure of a memory pass: ``loaded``, ``peak`` or ``kv_budget``, in bytes."""
        gates = self._session.gates_of(self._candidate)
        peak = lambda: self._bench.reference_memory(workload).peak  # noqa: E731 - asked for where a floor needs it
        return self._conclude(gates.memory(entry, workload, field, peak), workload)

    @_question
    def memory_law(self, entry: MemoryEntry, workload: Workload) -> Verdict:
        """Judge a memory pass against what the backend's law predicts: the KV cache to the byte, the total by share."""
        return self._conclude(self._session.gates_of(self._candidate).memory_law(entry, workload), workload)

    @_question
    def engine_size(self) -> Verdict:
        """Judge the bytes of the engine's files."""
        gates = self._session.gates_of(self._candidate)
        weights = None if gates.floors.bits_per_weight is None else self._bench.files.weights()
        return self._conclude(gates.engine_size(weights))

    @_question
    def build_time(self) -> Verdict:
        """Judge the seconds that the build took: advice, never a FAIL for slowness."""
        return self._conclude(self._session.gates_of(self._candidate).build_time())

    @_question
    def accuracy(self, entry: QualityEntry, column: str) -> Verdict:
        """Judge the answers of a multiple-choice metric: right, wrong, or several that share the credit."""
        return self._conclude(self._session.gates_of(self._candidate).accuracy(entry, column))

    @_question
    def flips(self, entry: QualityEntry, column: str) -> Verdict:
        """Judge how many answers changed at all."""
        return self._conclude(self._session.gates_of(self._candidate).flips(entry, column))

    @_question
    def bleu(self, entry: QualityEntry) -> Verdict:
        """Judge corpus BLEU against the reference's own answers."""
        return self._conclude(self._session.gates_of(self._candidate).bleu(entry))

    @_question
    def rouge(self, entry: QualityEntry, column: str = "rougeL") -> Verdict:
        """Judge a mean ROUGE F-measure, of answers or of summaries."""
        return self._conclude(self._session.gates_of(self._candidate).rouge(entry, column))

    @_question
    def perplexity(self, entry: QualityEntry) -> Verdict:
        """Judge perplexity, document by document."""
        return self._conclude(self._session.gates_of(self._candidate).perplexity(entry))

    @_question
    def divergence(self, entry: QualityEntry) -> Verdict:
        """Judge the KL divergence from the reference, document by document."""
        return self._conclude(self._session.gates_of(self._candidate).divergence(entry))

    @_question
    def output_length(self, entry: QualityEntry) -> Verdict:
        """Judge the length of answers against the reference's: a speed-up cannot come from shorter output."""
        return self._conclude(self._session.gates_of(self._candidate).output_length(entry))

    @_question
    def kv_bytes(self, pair: KvPair) -> Verdict:
        """Judge the bytes of a token in a KV cache of less than 16 bits: exactly, by the pools of both engines."""
        return self._conclude(kv_cache.kv_bytes(pair))

    @_question
    def kv_speed(self, pair: KvPair) -> Verdict:
        """Judge the speed with it over that with 16 bits, block by block."""
        return self._conclude(kv_cache.kv_speed(pair, self._alpha), pair.workload)

    @_question
    def kv_perplexity(self, pair: KvPair) -> Verdict:
        """Judge the perplexity of decode steps with it over that with 16 bits, document by document."""
        return self._conclude(kv_cache.kv_perplexity(pair, self._alpha))

    @_question
    def kv_divergence(self, pair: KvPair, wide: QualityEntry) -> Verdict:
        """Judge how much further from the reference it is than ``wide``, the divergence with 16 bits."""
        return self._conclude(kv_cache.kv_divergence(pair, wide, self._alpha))

    @_question
    def scaling(self, series: Series) -> Verdict:
        """Judge what each doubling of the batch gains, or each doubling of a length costs, all of them together."""
        return self._conclude(series.inputs(self._alpha))

    @property
    def _alpha(self) -> float:
        return self._session.plan.alpha(self._candidate.config)

    @_question
    def lm_eval(self, entry: QualityEntry) -> Verdict:
        """Judge a task of lm-evaluation-harness by what its score is: right and wrong, perplexity, or a mean."""
        return self._conclude(self._session.gates_of(self._candidate).lm_eval(entry))

    @_question
    def technique(self, entry: TechniqueEntry) -> Verdict:
        """Judge how much better the engine is with a technique of serving than without it."""
        return self._conclude(technique_inputs(self._session.gates_of(self._candidate), entry))

    @_question
    def same_tokens(self, entry: TechniqueEntry) -> Verdict:
        """Judge how many tokens a technique changed."""
        return self._conclude(mismatch_inputs(self._session.gates_of(self._candidate), entry))

    @_question
    def in_order(self, entry: TechniqueEntry) -> Verdict:
        """Judge whether requests are served in the order of their arrival."""
        return self._conclude(order_inputs(self._session.gates_of(self._candidate), entry))

    @_question
    def slo(self, entry: ServingEntry) -> Verdict:
        """Judge how many requests keep the service level, by an exact binomial test."""
        return self._conclude(slo_inputs(self._session.gates_of(self._candidate), entry), entry.load)

    @_question
    def served(self, entry: ServingEntry, latency: str) -> Verdict:
        """Judge ``ttft``, ``tpot`` or ``e2el`` beside the live base, pair of runs by pair of runs."""
        return self._conclude(served_inputs(self._session.gates_of(self._candidate), entry, latency), entry.load)

    @_question
    def level(self, entry: ServingEntry) -> Verdict:
        """Judge the share of requests that keep the service level beside the live base, request by request."""
        return self._conclude(level_inputs(self._session.gates_of(self._candidate), entry), entry.load)

    def _conclude(self, inputs: GateInputs, workload: Workload | LoadEntry | None = None) -> Verdict:
        model, options = self._candidate.config.name, self._session.options
        if isinstance(inputs, QualityInputs) and inputs.reference == self._bench.quality_reference.spec.id:
            self._bench.reference_quality(inputs.source)
        # A second unquantized engine can only take a loss away, so it is measured only where there is one.
        rounded = inputs if isinstance(inputs, CorpusInputs) and inputs.unquantized is not None else None
        if rounded is not None:
            inputs = rounded.model_copy(update={"unquantized": None})
        verdict = judge(inputs, self._session.record(model, "partial"))
        if rounded is not None and verdict.status is not Status.PASS:
            self._bench.unquantized_quality(rounded.source)
            inputs = rounded
            verdict = judge(inputs, self._session.record(model, "partial"))
        # A build is one sample, which can show nothing: its INCONCLUSIVE is advice, under --strict-gates too.
        if verdict.status is Status.INCONCLUSIVE and (not options.strict or isinstance(inputs, BuildTimeInputs)):
            verdict = verdict.accept()
        if verdict.status is Status.NO_BASELINE:
            verdict = self._with_hint(verdict) if options.require_baseline else verdict.accept()
        keep(self._item, verdict)
        workload_id = workload.id if workload else None
        self._session.conclude(model, plain_id(self._item), workload_id, verdict, inputs)
        return verdict

    def _with_hint(self, verdict: Verdict) -> Verdict:
        record = self._session.options.runs / self._session.record_id(self._candidate.config.name)
        hint = (
            f"; record one on this machine: `enginegate accept {record}`,"
            " review it and commit it, or run with --no-require-baseline"
        )
        return replace(verdict, explanation=verdict.explanation + hint)
