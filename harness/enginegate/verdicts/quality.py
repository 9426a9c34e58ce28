"""Quality gates, paired per item, from a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import numpy as np

from enginegate.config.tokenizers import BleuSmoothing
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.accuracy import judge_accuracy
from enginegate.gates.ceiling import Ceiling, OwnText
from enginegate.gates.quality import judge_corpus, judge_flips, judge_lengths, judge_nll
from enginegate.gates.verdict import Verdict
from enginegate.quality.bleu import SMOOTHING, corpus_bleu, lost_statistics, own_statistics
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    CeilingInputs,
    CorpusInputs,
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
        ceiling=_ceiling(inputs.ceiling, entry),
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


def judge_flips_gate(inputs: FlipsInputs, record: RunRecord) -> Verdict:
    """How many answers changed at all."""
    entry = lookup.quality(record, inputs.candidate, inputs.source)
    return judge_flips(
        lookup.columns(entry, inputs.columns),
        inputs.baseline,
        inputs.policy,
        limit=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
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


def _score(name: str) -> Callable[[Any], float]:
    """A corpus score by its name: per-item statistics of shape (items, columns) to one number."""
    kind, _, smoothing = name.partition(":")
    if name == "bleu" or (kind == "bleu" and smoothing in get_args(BleuSmoothing)):
        return partial(corpus_bleu, smoothing=smoothing or SMOOTHING)
    if name == "mean":
        return lambda statistics: float(np.mean(statistics))
    raise RecordError(f"there is no score {name!r}", "the record is of another version of enginegate, or damaged")


def _ceiling(inputs: CeilingInputs | None, entry: QualityEntry) -> Ceiling | None:
    if inputs is None:
        return None
    if inputs.score not in entry.ceilings:
        raise RecordError(f"{entry.metric} of {entry.engine} keeps no ceilings of {inputs.score}", "record a new run")
    weights = _single(lookup.columns(entry, [inputs.weight])) if inputs.weight else {}
    words = _single(lookup.columns(entry, ["ref_len"])) if inputs.score == "bleu" else {}
    items = {
        item: OwnText(
            ceiling,
            weights.get(item, 1.0),
            own_statistics(words[item]) if item in words else (ceiling,),
            lost_statistics(words[item]) if item in words else (0.0,),
        )
        for item, ceiling in entry.ceilings[inputs.score].items()
        if item in entry.items
    }
    return Ceiling(items, inputs.full, inputs.remedy)


def _reference(inputs: QualityInputs, record: RunRecord) -> dict[str, list[float]] | None:
    if inputs.reference is None:
        return None
    return lookup.columns(lookup.quality(record, inputs.reference, inputs.source), inputs.columns)


def _single(items: Mapping[str, list[float]] | None) -> Any:
    return None if items is None else {item: row[0] for item, row in items.items()}


def _pairs(items: Mapping[str, list[float]] | None) -> dict[str, tuple[float, float]] | None:
    return None if items is None else {item: (row[0], row[1]) for item, row in items.items()}
