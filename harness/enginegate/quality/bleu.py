"""BLEU from per-segment counts, so that the score of any resampled corpus is a sum away.

Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine translation", ACL 2002; counted,
tokenized and smoothed by sacrebleu: Post, "A call for clarity in reporting BLEU scores", WMT 2018. The default is
sacrebleu's, 13a and exp; 13a cuts at spaces and at ASCII punctuation, so a Chinese sentence is one word to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enginegate.core.errors import MeasurementError

#: N-grams of one word to so many.
ORDERS = 4
#: The counts of a segment: matched and produced n-grams for n = 1 to 4, produced words, reference words.
BLEU_COLUMNS = (
    *(f"correct_{order}" for order in range(1, ORDERS + 1)),
    *(f"total_{order}" for order in range(1, ORDERS + 1)),
    "sys_len",
    "ref_len",
)
#: What a text scores against itself.
BLEU_FULL = 100.0
TOKENIZER = "13a"
SMOOTHING = "exp"

#: The words of a text that is cut into words have no more letters on average, in any language.
_LETTERS_OF_A_WORD = 12


def segment_statistics(prediction: str, reference: str, tokenizer: str = TOKENIZER) -> tuple[float, ...]:
    """The ten counts of one segment, in the order of ``BLEU_COLUMNS``, in the words of a tokenizer of sacrebleu."""
    score = _bleu(tokenizer).corpus_score([prediction], [[reference]])
    return tuple(float(count) for count in (*score.counts, *score.totals, score.sys_len, score.ref_len))


def corpus_bleu(statistics: ArrayLike, smoothing: str = SMOOTHING) -> float:
    """BLEU of a corpus, 0 to 100.

    Args:
        statistics: shape [segments, 10], one row of counts for each segment in the order of ``BLEU_COLUMNS``.
        smoothing: what an order without a match counts for: a method of sacrebleu.

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
    score = _bleu(TOKENIZER).compute_bleu(
        correct=sums[0:4], total=sums[4:8], sys_len=sums[8], ref_len=sums[9], smooth_method=smoothing
    )
    return float(score.score)


def bleu_ceiling(reference: str, tokenizer: str = TOKENIZER, smoothing: str = SMOOTHING) -> float:
    """BLEU of a text against itself: 100, or less where it is too short to have an n-gram of every order.

    0 where it is not cut into words, whatever the smoothing: as one word, a sentence hardly counts beside others.
    """
    counts = segment_statistics(reference, reference, tokenizer)
    words, letters = counts[-1], sum(map(str.isalnum, reference))
    if words < ORDERS and letters > _LETTERS_OF_A_WORD * words:
        return 0.0
    return corpus_bleu([counts], smoothing)


def own_statistics(words: float) -> tuple[float, ...]:
    """The counts of a segment of so many words against itself."""
    grams = [max(words - order, 0.0) for order in range(ORDERS)]
    return (*grams, *grams, words, words)


def own_shares(statistics: ArrayLike, smoothing: str = SMOOTHING) -> NDArray[np.float64]:
    """How BLEU of a corpus against itself begins to fall as one of its segments is lost: d log(BLEU) / d share lost.

    BLEU is the geometric mean of precisions that are linear in what is lost, so it is concave, and falls no less than
    by these shares of itself. An answer of the reference's length is taken, as another length costs more.

    Args:
        statistics: shape [segments, 10], of segments against themselves.
        smoothing: as in ``corpus_bleu``; add-k adds 1 to the counts of 2 words and more.

    Returns:
        Shape [segments]; zeros where the corpus scores 0 against itself.
    """
    counts = np.asarray(statistics, dtype=float)[:, :ORDERS]
    totals = counts.sum(axis=0)
    if smoothing == "add-k":
        totals[1:] += 1.0
    if not np.all(totals > 0):
        return np.zeros(len(counts))
    return np.asarray((counts / totals).sum(axis=1) / ORDERS, dtype=np.float64)


def bleu_signature(tokenizer: str = TOKENIZER, smoothing: str = SMOOTHING) -> str:
    """How the score is made, as sacrebleu writes it: ``nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0``."""
    metric = _bleu(tokenizer, smoothing)
    metric.corpus_score(["a"], [["a"]])  # a signature counts the references of the last score
    return str(metric.get_signature())


def smoothing_of(signature: str) -> str:
    """The smoothing that a signature of BLEU names; the default one where it names none."""
    found = re.search(r"\bsmooth:([a-z-]+)", signature)
    return found[1] if found else SMOOTHING


@lru_cache(maxsize=8)
def _bleu(tokenizer: str, smoothing: str = SMOOTHING) -> Any:
    from sacrebleu.metrics import BLEU

    # force: the texts are a model's, so a warning that they look tokenized would help nobody
    return BLEU(tokenize=tokenizer, smooth_method=smoothing, force=True)
