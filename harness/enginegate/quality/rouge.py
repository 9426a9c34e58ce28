"""ROUGE of one text against one reference.

Lin, "ROUGE: a package for automatic evaluation of summaries", ACL workshop 2004, by the rouge-score package, without
stemming. A corpus's score is the plain mean over its items.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

#: The F-measures of an item, 0 to 1. ``rougeL`` reads a text as one sequence, ``rougeLsum`` sentence by sentence.
ROUGE_COLUMNS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

#: White space after a full stop, question or exclamation mark, and at most one closing quote or bracket after that.
_SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)\]]))\s+|\s*\n\s*""")


def rouge_scores(prediction: str, reference: str) -> tuple[float, float, float, float]:
    """F-measures in the order of ``ROUGE_COLUMNS``; an empty prediction scores 0."""
    scores = _scorer().score("\n".join(split_sentences(reference)), "\n".join(split_sentences(prediction)))
    first, second, longest, summary = (float(scores[name].fmeasure) for name in ROUGE_COLUMNS)
    return first, second, longest, summary


def split_sentences(text: str) -> list[str]:
    """Cut a text after ``.``, ``!`` or ``?`` with white space behind, and at line breaks.

    The rule needs no model and no download. It also cuts after abbreviations ("Dr. Smith"), which costs little: it
    does so in the prediction and in the reference alike.
    """
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    return RougeScorer(list(ROUGE_COLUMNS), use_stemmer=False)
