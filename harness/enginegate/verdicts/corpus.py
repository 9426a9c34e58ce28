"""What the gates of BLEU and ROUGE read of a quality entry besides items: how they were scored, and their ceilings."""

from __future__ import annotations

from enginegate.core.records import QualityEntry
from enginegate.quality.bleu import BLEU_FULL, SMOOTHING, smoothing_of
from enginegate.quality.rouge import ROUGE_FULL
from enginegate.verdicts.inputs import CeilingInputs

#: How to have more of a text seen, by metric: what decides how long the answers of its reference are.
_LONGER = {
    "similarity": "longer answers (other quality.prompts, a larger quality.similarity_tokens)",
    "summaries": "longer summaries in quality.articles",
}


def bleu_score(entry: QualityEntry) -> str:
    """The name of an entry's BLEU as ``CorpusInputs`` has it: ``bleu``, or ``bleu:add-k`` by another smoothing."""
    smoothing = smoothing_of(entry.signatures.get("bleu", ""))
    return "bleu" if smoothing == SMOOTHING else f"bleu:{smoothing}"


def ceiling(entry: QualityEntry, score: str) -> CeilingInputs | None:
    """The ceilings of ``bleu`` or of a column of ROUGE, as a gate is told of them; None where the entry keeps none.

    An item weighs in BLEU by its length. It is taken in the engine's tokens, not in BLEU's words: a long text that BLEU
    takes for one word is a long text that it does not see.
    """
    if score not in entry.ceilings:
        return None
    longer = _LONGER.get(entry.metric, "longer texts")
    if score == "bleu":
        remedy = "set quality.bleu_tokenizer (zh for Chinese, char for any text without spaces), "
        if bleu_score(entry) != "bleu:add-k":
            # among longer ones it makes them score alone, and hardly count all the same
            remedy += "or, where all have fewer than four words, quality.bleu_smoothing: add-k, "
        remedy += f"or have {longer}"
        return CeilingInputs(score=score, weight="reference_length", full=BLEU_FULL, remedy=remedy)
    remedy = f"set quality.rouge_tokenizer: unicode for text that is not in Latin letters, or have {longer}"
    if "tok:unicode" in entry.signatures.get("rouge", ""):
        remedy = f"have {longer}"
    return CeilingInputs(score=score, weight=None, full=ROUGE_FULL, remedy=remedy)
