"""BLEU and ROUGE of texts in many scripts: ours beside sacrebleu's and rouge-score's own, text by text.

rouge-score's tokenizer keeps ``a`` to ``z`` and digits. For other scripts its own code still decides: each text is
written anew with an ASCII name for each of its words, which are cut here by another rule than the suite's (each
character of Chinese, Japanese and Thai that is no mark; ``str.split`` and ``str.strip`` for the others).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from enginegate.quality.bleu import bleu_signature, corpus_bleu, segment_statistics
from enginegate.quality.rouge import ROUGE_COLUMNS, rouge_ceilings, rouge_scores, rouge_signature

#: By language: pairs of what was said and what it should have been.
TEXTS: dict[str, list[tuple[str, str]]] = {
    "English": [
        ("The old ferry left the north bank at dawn again.", "The old ferry leaves the north bank again at dawn."),
        ("It cost 3.50, the pilot said; nobody paid.", "The pilot said that it cost 3.50. Nobody paid."),
    ],
    "French": [
        ("Le vieux bac a quitté la rive à l'aube.", "À l'aube, le vieux bac quitte de nouveau la rive."),
        ("Où êtes-vous allés, garçon naïf ?", "Où es-tu allé, garçon naïf ?"),
    ],
    "Russian": [
        ("Старый паром снова ходит каждое утро", "Старый паром каждое утро снова ходит с берега"),
        ("Ёж ушёл в лес", "Ёж пошёл в тёмный лес"),
    ],
    "Hindi": [("पुरानी नाव हर सुबह चलती है", "पुरानी नाव हर सुबह फिर चलती है")],
    "Arabic": [("العبارة القديمة تبحر من جديد", "العبارة القديمة تبحر كل صباح")],
    "Korean": [("낡은 배가 다시 떠난다", "낡은 배가 아침마다 다시 떠난다")],
    "Chinese": [
        ("老渡轮每天早晨从北岸出发", "老渡轮每天早晨又从北岸出发"),
        ("船长说票价是三元", "船长说，票价是三元五角"),
    ],
    "Japanese": [("古い渡し船は毎朝出る", "古い渡し船は毎朝また北岸を出る")],
    "Thai": [("เรือเก่าออกทุกเช้า", "เรือข้ามฟากเก่าออกทุกเช้า")],
    "mixed": [("渡轮 sails at 3.50 каждое утро", "老渡轮 sails again at 3.50 каждое утро")],
}
#: Languages that put no space between words.
UNSPACED = frozenset({"Chinese", "Japanese", "Thai"})


def words(language: str, text: str) -> list[str]:
    """The words of a text by a rule of this script's own."""
    if language not in UNSPACED:
        return [word for part in text.lower().split() if (word := part.strip(".,;:!?«»\"'"))]
    found: list[str] = []
    for character in text:
        if unicodedata.category(character)[0] == "M":  # a mark belongs to what it stands on
            found[-1] += character
        elif unicodedata.category(character)[0] in "LN":
            found.append(character)
    return found


def renamed(language: str, pair: Sequence[str]) -> list[str]:
    """A pair of texts with an ASCII name for each word: rouge-score's own tokenizer reads these as we read those."""
    names: dict[str, str] = {}
    return [" ".join(names.setdefault(word, f"word{len(names)}") for word in words(language, text)) for text in pair]


def compared() -> list[dict[str, Any]]:
    """One row for each language and score: its signature, ours, theirs, and the score of a text against itself."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU

    rows: list[dict[str, Any]] = []
    plain = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for language, pairs in TEXTS.items():
        for tokenizer in ("13a", "intl", "zh", "char"):
            metric = BLEU(tokenize=tokenizer, force=True)
            own = [corpus_bleu([segment_statistics(*pair, tokenizer)]) for pair in pairs]
            theirs = [metric.corpus_score([said], [[wanted]]).score for said, wanted in pairs]
            itself = min(corpus_bleu([segment_statistics(wanted, wanted, tokenizer)]) for _, wanted in pairs)
            signature = bleu_signature(tokenizer)
            if signature != str(metric.get_signature()):
                raise SystemExit(f"our signature of BLEU is {signature}, sacrebleu's {metric.get_signature()}")
            rows.append(_row(language, "BLEU", signature, own, theirs, itself))
        for tokenizer in ("default", "unicode"):
            own, theirs = [], []
            for said, wanted in pairs:
                # mixed text is cut by the suite's rule alone
                if tokenizer == "unicode" and language in ("mixed", "French", "English"):
                    continue
                texts = renamed(language, (said, wanted)) if tokenizer == "unicode" else [said, wanted]
                scores = plain.score(texts[1], texts[0])
                mine = dict(zip(ROUGE_COLUMNS, rouge_scores(said, wanted, tokenizer), strict=True))
                own += [mine[name] for name in scores]
                theirs += [scores[name].fmeasure for name in scores]
            itself = min(rouge_ceilings(wanted, tokenizer)[0] for _, wanted in pairs)
            if own:
                rows.append(_row(language, "ROUGE", rouge_signature(tokenizer), own, theirs, itself))
    return rows


def _row(
    language: str, score: str, signature: str, own: Sequence[float], theirs: Sequence[float], itself: float
) -> dict[str, Any]:
    return {
        "language": language,
        "score": score,
        "signature": signature,
        "ours": list(own),
        "theirs": list(theirs),
        "itself": itself,
    }
