"""ROUGE of one text against one reference.

Lin, "ROUGE: a package for automatic evaluation of summaries", ACL workshop 2004, by the rouge-score package, without
stemming. A corpus's score is the plain mean over its items.

The package's own tokenizer keeps ``a`` to ``z`` and digits and drops all else, so a text in Russian or Hindi is empty
to it. ``unicode`` has the words of every script.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

#: The F-measures of an item, 0 to 1. ``rougeL`` reads a text as one sequence, ``rougeLsum`` sentence by sentence.
ROUGE_COLUMNS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
#: What a text scores against itself.
ROUGE_FULL = 1.0
TOKENIZER = "default"

#: Where less than this share of a text's letters and digits are in its words, a score is one of scraps.
_KEPT = 0.5

#: White space after a full stop, question or exclamation mark, and at most one closing quote or bracket after that.
_SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)\]]))\s+|\s*\n\s*""")

#: Scripts that put no space between words: each of their characters is a word of its own.
_UNSPACED = "".join(
    rf"\p{{{script}}}" for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)


def rouge_scores(prediction: str, reference: str, tokenizer: str = TOKENIZER) -> tuple[float, float, float, float]:
    """F-measures in the order of ``ROUGE_COLUMNS``; an empty prediction scores 0."""
    scores = _scorer(tokenizer).score("\n".join(split_sentences(reference)), "\n".join(split_sentences(prediction)))
    first, second, longest, summary = (float(scores[name].fmeasure) for name in ROUGE_COLUMNS)
    return first, second, longest, summary


def rouge_ceilings(reference: str, tokenizer: str = TOKENIZER) -> tuple[float, float, float, float]:
    """F-measures of a text against itself: 1, or 0 where it has no word, and for ``rouge2`` where it has only one.

    0, too, where the tokenizer drops more than half of the letters and digits: the "5" in a Russian sentence equals
    the "5" in any other one.
    """
    kept = sum(map(len, _tokenizer(tokenizer).tokenize(reference)))
    if kept < _KEPT * sum(map(str.isalnum, reference)):
        return 0.0, 0.0, 0.0, 0.0
    return rouge_scores(reference, reference, tokenizer)


def rouge_signature(tokenizer: str = TOKENIZER) -> str:
    """How the score is made, in the manner of sacrebleu's signatures."""
    from importlib.metadata import version

    return f"nrefs:1|case:lc|stem:no|tok:{tokenizer}|version:{version('rouge-score')}"


def split_sentences(text: str) -> list[str]:
    """Cut a text after ``.``, ``!`` or ``?`` with white space behind, and at line breaks.

    The rule needs no model and no download. It also cuts after abbreviations ("Dr. Smith"), which costs little: it
    does so in the prediction and in the reference alike.
    """
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


class UnicodeTokenizer:
    """Words of any script, for rouge-score: letters with their marks, and digits, in lower case and composed (NFKC)."""

    def __init__(self) -> None:
        import regex  # the standard library's re knows no scripts and takes marks for no part of a word

        self._word = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")

    def tokenize(self, text: str) -> list[str]:
        """The words, in the text's order."""
        found: list[str] = self._word.findall(unicodedata.normalize("NFKC", text).lower())
        return found


@lru_cache(maxsize=2)
def _tokenizer(name: str) -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return {TOKENIZER: DefaultTokenizer, "unicode": UnicodeTokenizer}[name]()


@lru_cache(maxsize=2)
def _scorer(tokenizer: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    return RougeScorer(list(ROUGE_COLUMNS), use_stemmer=False, tokenizer=_tokenizer(tokenizer))
