"""How much two texts are alike, by the scores of the quality tests."""

from __future__ import annotations

from enginegate.core.records import RunRecord
from enginegate.report.texts import Score


def scorer(record: RunRecord, order: tuple[str, str] = ("ROUGE-L", "BLEU")) -> Score:
    """ROUGE-L and BLEU of one text against another, 0 to 100, read as the run was configured to read texts.

    ``order``: of the two; the first one sorts.
    """
    from enginegate.quality.bleu import corpus_bleu
    from enginegate.quality.rouge import ROUGE_COLUMNS
    from enginegate.quality.scoring import TextScoring

    asked = record.config.get("quality")
    keys = ("bleu_tokenizer", "bleu_smoothing", "rouge_tokenizer")
    scoring = TextScoring(**{key: asked[key] for key in keys if isinstance(asked, dict) and key in asked})

    def score(one: str, other: str) -> dict[str, float]:
        rouge = scoring.rouge(one, other)[ROUGE_COLUMNS.index("rougeL")]
        bleu = corpus_bleu([scoring.bleu_counts(one, other)], scoring.bleu_smoothing)
        scores = {"ROUGE-L": 100 * rouge, "BLEU": bleu}
        return {name: scores[name] for name in order}

    return score
