"""How texts are cut into words and scored by BLEU and ROUGE, and what that adds to versions and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, get_args

from enginegate.config.tokenizers import BleuSmoothing, BleuTokenizer, RougeTokenizer, why_unavailable
from enginegate.core.errors import ConfigError
from enginegate.quality import bleu, rouge

#: What a text is kept under.
Key = TypeVar("Key", str, int)


@dataclass(frozen=True)
class TextScoring:
    """Tokenizers and smoothing; see ``QualitySection``. ConfigError where one is unknown or not there.

    A version speaks of them only where they are not the default: what was accepted before there was a choice was
    scored by the default, and goes on judging.
    """

    bleu_tokenizer: str = bleu.TOKENIZER
    bleu_smoothing: str = bleu.SMOOTHING
    rouge_tokenizer: str = rouge.TOKENIZER

    def __post_init__(self) -> None:
        for chosen, kind in (
            (self.bleu_tokenizer, BleuTokenizer),
            (self.bleu_smoothing, BleuSmoothing),
            (self.rouge_tokenizer, RougeTokenizer),
        ):
            if chosen not in get_args(kind):
                raise ConfigError(f"{chosen!r} is none of {', '.join(get_args(kind))}", "take one of them")
        if reason := why_unavailable(self.bleu_tokenizer):
            raise ConfigError(f"BLEU: {reason}")

    @property
    def bleu_settings(self) -> dict[str, object]:
        """Settings of BLEU for a metric's version."""
        chosen = (self.bleu_tokenizer, self.bleu_smoothing)
        return {} if chosen == (bleu.TOKENIZER, bleu.SMOOTHING) else {"bleu": ",".join(chosen)}

    @property
    def rouge_settings(self) -> dict[str, object]:
        """Settings of ROUGE for a metric's version."""
        return {} if self.rouge_tokenizer == rouge.TOKENIZER else {"rouge": self.rouge_tokenizer}

    @property
    def signatures(self) -> dict[str, str]:
        """How each of the two is made."""
        return {
            "bleu": bleu.bleu_signature(self.bleu_tokenizer, self.bleu_smoothing),
            "rouge": rouge.rouge_signature(self.rouge_tokenizer),
        }

    def bleu_counts(self, prediction: str, reference: str) -> tuple[float, ...]:
        """The counts of one item, in the order of ``BLEU_COLUMNS``."""
        return bleu.segment_statistics(prediction, reference, self.bleu_tokenizer)

    def bleu_ceilings(self, references: Mapping[Key, str]) -> dict[str, dict[Key, float]]:
        """BLEU (0 to 100) of each text against itself, by ``bleu`` and by the text's key."""
        found = {
            key: bleu.bleu_ceiling(text, self.bleu_tokenizer, self.bleu_smoothing) for key, text in references.items()
        }
        return {"bleu": found}

    def rouge(self, prediction: str, reference: str) -> tuple[float, ...]:
        """F-measures in the order of ``ROUGE_COLUMNS``."""
        return rouge.rouge_scores(prediction, reference, self.rouge_tokenizer)

    def rouge_ceilings(self, references: Mapping[Key, str]) -> dict[str, dict[Key, float]]:
        """ROUGE (0 to 1) of each text against itself, by the names of ``ROUGE_COLUMNS`` and by the text's key."""
        found = {key: rouge.rouge_ceilings(text, self.rouge_tokenizer) for key, text in references.items()}
        return {
            name: {key: values[place] for key, values in found.items()}
            for place, name in enumerate(rouge.ROUGE_COLUMNS)
        }


#: As everything was scored before there was a choice.
DEFAULT_SCORING = TextScoring()
