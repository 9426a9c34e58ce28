"""BLEU and ROUGE as metrics of the Hugging Face ``evaluate`` library, without any download.

Instantiate them directly; ``keep_in_memory`` avoids files that parallel processes would share::

    evaluate.combine([Bleu(keep_in_memory=True), Rouge(keep_in_memory=True)]).compute(predictions=..., references=...)

Both take the tokenizers that a configuration may choose: ``Rouge(tokenizer="unicode")``. A ``UserWarning`` says where
references do not reach the full score against themselves: whatever is predicted for these scores 0.

In a module of their own, because importing ``evaluate`` imports torch and transformers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import datasets
import evaluate

from enginegate.quality.bleu import BLEU_FULL, corpus_bleu
from enginegate.quality.rouge import ROUGE_COLUMNS, ROUGE_FULL
from enginegate.quality.scoring import TextScoring


class Bleu(evaluate.Metric):  # type: ignore[misc]
    """Corpus BLEU, 0 to 100, of predictions against one reference each: ``{"bleu": ...}``."""

    def __init__(self, *arguments: Any, tokenizer: str = "13a", smoothing: str = "exp", **options: Any) -> None:
        self._scoring = TextScoring(bleu_tokenizer=tokenizer, bleu_smoothing=smoothing)
        super().__init__(*arguments, **options)

    def _info(self) -> evaluate.MetricInfo:
        return _text_pair_metric(f"Corpus BLEU, 0 to 100: {self._scoring.signatures['bleu']}")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        own = [self._scoring.bleu_counts(text, text) for text in references]
        _warn_below("bleu", [corpus_bleu(own, self._scoring.bleu_smoothing)], BLEU_FULL)
        counts = [self._scoring.bleu_counts(*pair) for pair in zip(predictions, references, strict=True)]
        return {"bleu": corpus_bleu(counts, self._scoring.bleu_smoothing)}


class Rouge(evaluate.Metric):  # type: ignore[misc]
    """Mean ROUGE F-measures, 0 to 1: ``{"rouge1": ..., "rouge2": ..., "rougeL": ..., "rougeLsum": ...}``."""

    def __init__(self, *arguments: Any, tokenizer: str = "default", **options: Any) -> None:
        self._scoring = TextScoring(rouge_tokenizer=tokenizer)
        super().__init__(*arguments, **options)

    def _info(self) -> evaluate.MetricInfo:
        return _text_pair_metric(f"Mean ROUGE F-measures, 0 to 1: {self._scoring.signatures['rouge']}")

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        for name, found in self._scoring.rouge_ceilings(dict(enumerate(references))).items():
            _warn_below(name, list(found.values()), ROUGE_FULL)
        scores = [self._scoring.rouge(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: fmean(column) for name, column in zip(ROUGE_COLUMNS, zip(*scores, strict=True), strict=True)}


def _warn_below(score: str, ceilings: Sequence[float], full: float) -> None:
    """Say where references do not reach the full score against themselves: all together in BLEU, each in ROUGE."""
    below = sum(value < full * (1 - 1e-6) for value in ceilings)
    if below:
        warnings.warn(
            f"{score} of the references against themselves is not {full:g} in {below} of {len(ceilings)} cases: choose "
            "another tokenizer, or longer texts",
            stacklevel=2,
        )


def _text_pair_metric(description: str) -> evaluate.MetricInfo:
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description="predictions: texts; references: one text for each prediction.",
        features=datasets.Features({"predictions": text, "references": text}),
    )
