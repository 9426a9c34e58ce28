"""BLEU from per-segment counts, so that the score of any resampled corpus is a sum away.

Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine translation", ACL 2002; counted,
tokenized (13a) and smoothed (exp) by sacrebleu: Post, "A call for clarity in reporting BLEU scores", WMT 2018.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from enginegate.core.errors import MeasurementError

#: The counts of a segment: matched and produced n-grams for n = 1 to 4, produced words, reference words.
BLEU_COLUMNS = (
    *(f"correct_{order}" for order in range(1, 5)),
    *(f"total_{order}" for order in range(1, 5)),
    "sys_len",
    "ref_len",
)


def segment_statistics(prediction: str, reference: str) -> tuple[float, ...]:
    """The ten counts of one segment, in the order of ``BLEU_COLUMNS``."""
    score = _bleu().corpus_score([prediction], [[reference]])
    return tuple(float(count) for count in (*score.counts, *score.totals, score.sys_len, score.ref_len))


def corpus_bleu(statistics: ArrayLike) -> float:
    """BLEU of a corpus, 0 to 100.

    Args:
        statistics: shape [segments, 10], one row of counts for each segment in the order of ``BLEU_COLUMNS``.

    Raises:
        MeasurementError: another shape, or no segment.
    """
    rows = np.asarray(statistics, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != len(BLEU_COLUMNS) or not len(rows):
        raise MeasurementError(
            f"BLEU needs an array of shape [segments, {len(BLEU_COLUMNS)}] with a segment or more, not {rows.shape}",
            "pass one row of segment_statistics for each segment",
        )
    sums = [round(count) for count in rows.sum(axis=0)]
    score = _bleu().compute_bleu(
        correct=sums[0:4], total=sums[4:8], sys_len=sums[8], ref_len=sums[9], smooth_method="exp"
    )
    return float(score.score)


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    # force: the texts are a model's, so a warning that they look tokenized would help nobody
    return BLEU(tokenize="13a", smooth_method="exp", force=True)
