"""BLEU and ROUGE as metrics of the Hugging Face ``evaluate`` library, without any download.

Instantiate them directly; ``keep_in_memory`` avoids files that parallel processes would share::

    evaluate.combine([Bleu(keep_in_memory=True), Rouge(keep_in_memory=True)]).compute(predictions=..., references=...)

In a module of their own, because importing ``evaluate`` imports torch and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

from enginegate.quality.bleu import corpus_bleu, segment_statistics
from enginegate.quality.rouge import ROUGE_COLUMNS, rouge_scores


class Bleu(evaluate.Metric):  # type: ignore[misc]
    """Corpus BLEU, 0 to 100, of predictions against one reference each: ``{"bleu": ...}``."""

    def _info(self) -> evaluate.MetricInfo:
        return _text_pair_metric("Corpus BLEU by sacrebleu, tokenization 13a, exponential smoothing, 0 to 100.")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"bleu": corpus_bleu([segment_statistics(*pair) for pair in zip(predictions, references, strict=True)])}


class Rouge(evaluate.Metric):  # type: ignore[misc]
    """Mean ROUGE F-measures, 0 to 1: ``{"rouge1": ..., "rouge2": ..., "rougeL": ..., "rougeLsum": ...}``."""

    def _info(self) -> evaluate.MetricInfo:
        return _text_pair_metric("Mean ROUGE F-measures by rouge-score, without stemming, 0 to 1.")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        scores = [rouge_scores(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: fmean(column) for name, column in zip(ROUGE_COLUMNS, zip(*scores, strict=True), strict=True)}


def _text_pair_metric(description: str) -> evaluate.MetricInfo:
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description="predictions: texts; references: one text for each prediction.",
        features=datasets.Features({"predictions": text, "references": text}),
    )
