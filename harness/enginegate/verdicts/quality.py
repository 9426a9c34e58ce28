"""Quality gates, paired per item, from a record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import numpy as np

from enginegate.config.tokenizers import BleuSmoothing
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.accuracy import judge_accuracy, not_above_chance
from enginegate.gates.ceiling import Ceiling, OwnText
from enginegate.gates.divergence import judge_divergence
from enginegate.gates.quality import judge_corpus, judge_flips, judge_lengths, judge_nll
from enginegate.gates.verdict import Verdict
from enginegate.quality.bleu import ORDERS, SMOOTHING, corpus_bleu, own_shares, own_statistics
from enginegate.quality.ties import CHOICES, TIED, share_an_answer
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    CorpusInputs,
    DivergenceInputs,
    FlipsInputs,
    LengthsInputs,
    NllInputs,
    QualityInputs,
)


def judge_accuracy_gate(inputs: AccuracyInputs, record: RunRecord) -> Verdict:
    """Right or wrong answers against the accepted ones, or within a limit of the reference's."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_accuracy(
        _single(lookup.columns(entry, inputs.columns)),
        _single(inputs.baseline),
        inputs.policy,
        reference_items=_single(_reference(inputs, record)),
        chance=entry.scores.get("chance"),
        limit=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
    )


def why_guessed(entry: QualityEntry) -> str | None:
    """Why a metric tells nothing of a model, by its reference's answers: they may be guessed. None where it does tell.

    Plain accuracy decides, as that is what is gated. A model that likes one letter best may know more: where it does
    once each letter's mean is taken off, the reason says so.
    """
    column, chance = CHOICES.get(entry.metric, ""), entry.scores.get("chance")
    if column not in entry.columns:
        return None
    reason = not_above_chance(_single(lookup.pick(entry, [column])), chance)
    if reason is not None and "acc_calibrated" in entry.columns:
        known = _single(lookup.pick(entry, ["acc_calibrated"]))
        if known and not_above_chance(known, chance) is None:
            score = sum(known.values()) / len(known)
            reason += f"; with each letter's mean taken off it scores {score:.2f}, which is above it"
    return None if reason is None else f"{entry.metric}: {reason}"


def judge_corpus_gate(inputs: CorpusInputs, record: RunRecord) -> Verdict:
    """BLEU or ROUGE of all items together."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_corpus(
        lookup.columns(entry, inputs.columns),
        inputs.baseline,
        _score(inputs.score),
        inputs.policy,
        limit=inputs.limit,
        reference_stats=_reference(inputs, record),
        metric=inputs.metric,
        unit=inputs.unit,
        subject=inputs.subject,
        ceiling=_ceiling(inputs, entry),
        unquantized=_of_another(inputs, inputs.unquantized, record),
    )


def judge_nll_gate(inputs: NllInputs, record: RunRecord) -> Verdict:
    """Perplexity, document by document."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_nll(
        _pairs(lookup.columns(entry, inputs.columns)) or {},
        _pairs(inputs.baseline),
        inputs.policy,
        limit=inputs.limit,
        reference=_pairs(_reference(inputs, record)),
        metric=inputs.metric,
        subject=inputs.subject,
    )


def judge_divergence_gate(inputs: DivergenceInputs, record: RunRecord) -> Verdict:
    """KL divergence from the reference, document by document."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_divergence(
        _pairs(lookup.columns(entry, inputs.columns)) or {},
        _pairs(inputs.baseline),
        inputs.policy,
        floor=inputs.floor,
        limit=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
    )


def judge_flips_gate(inputs: FlipsInputs, record: RunRecord) -> Verdict:
    """How many answers changed at all; records from before ties were kept compare the first of the best ones."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_flips(
        _single(lookup.columns(entry, inputs.columns)) or {},
        _single(inputs.baseline),
        inputs.policy,
        limit=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
        same=share_an_answer if set(inputs.columns) <= set(TIED.values()) else operator.eq,
    )


def judge_lengths_gate(inputs: LengthsInputs, record: RunRecord) -> Verdict:
    """Output length against the reference's own answers, which the item rows hold."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    own, reference = inputs.columns
    return judge_lengths(
        _single(lookup.columns(entry, [own])) or {},
        _single(lookup.columns(entry, [reference])),
        inputs.policy,
        minimum=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
    )


def _smoothing(score: str) -> str | None:
    """The smoothing that the name of a corpus score speaks of; None where it is none of BLEU."""
    kind, _, smoothing = score.partition(":")
    if score == "bleu":
        return SMOOTHING
    return smoothing if kind == "bleu" and smoothing in get_args(BleuSmoothing) else None


def _score(name: str) -> Callable[[Any], float]:
    """A corpus score by its name: per-item statistics of shape (items, columns) to one number."""
    if smoothing := _smoothing(name):
        return partial(corpus_bleu, smoothing=smoothing)
    if name == "mean":
        return lambda statistics: float(np.mean(statistics))
    raise RecordError(f"there is no score {name!r}", "the record is of another version of enginegate, or damaged")


def _ceiling(gate: CorpusInputs, entry: QualityEntry) -> Ceiling | None:
    inputs = gate.ceiling
    if inputs is None:
        return None
    if inputs.score not in entry.ceilings:
        raise RecordError(f"{entry.metric} of {entry.engine} keeps no ceilings of {inputs.score}", "record a new run")
    known = {item: ceiling for item, ceiling in entry.ceilings[inputs.score].items() if item in entry.items}
    weights = dict.fromkeys(known, 1.0)
    if inputs.weight is not None:
        weights = _single(lookup.columns(entry, [inputs.weight]))
    smoothing = _smoothing(gate.score)
    if smoothing is None:
        items = {item: OwnText(ceiling, weights[item], (ceiling,)) for item, ceiling in known.items()}
        return Ceiling(items, inputs.full, inputs.remedy, _shares_of_mean)
    words = _single(lookup.columns(entry, ["ref_len"]))
    items = {
        # smoothed, a text without n-grams of every order reaches 100 by itself; in a corpus it still lacks them
        item: OwnText(ceiling if words[item] >= ORDERS else 0.0, weights[item], own_statistics(words[item]))
        for item, ceiling in known.items()
    }
    return Ceiling(items, inputs.full, inputs.remedy, partial(own_shares, smoothing=smoothing))


def _shares_of_mean(statistics: Any) -> Any:
    """What of a mean goes with each item; zeros where it is 0."""
    total = statistics.sum()
    return statistics[:, 0] / total if total > 0 else np.zeros(len(statistics))


def _reference(inputs: QualityInputs, record: RunRecord) -> dict[str, list[float]] | None:
    return _of_another(inputs, inputs.reference, record)


def _of_another(inputs: QualityInputs, engine: str | None, record: RunRecord) -> dict[str, list[float]] | None:
    """The same columns of another engine; None where there is none."""
    if engine is None:
        return None
    return lookup.columns(lookup.quality(record, engine, inputs.source), inputs.columns)


def _single(items: Mapping[str, list[float]] | None) -> Any:
    return None if items is None else {item: row[0] for item, row in items.items()}


def _pairs(items: Mapping[str, list[float]] | None) -> dict[str, tuple[float, float]] | None:
    return None if items is None else {item: (row[0], row[1]) for item, row in items.items()}
