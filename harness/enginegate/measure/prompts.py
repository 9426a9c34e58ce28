"""Timed prompts: windows over real text, of one exact token length, different in every round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from enginegate.core.errors import ConfigError


@dataclass(frozen=True)
class PromptPool:
    """A long run of tokens from which the prompts of every round are cut.

    All contestants of a block get the same prompts; no two blocks do, so that a prefix cache cannot flatter an engine.
    """

    tokens: tuple[int, ...]

    @classmethod
    def from_texts(cls, encoded: Sequence[Sequence[int]], input_len: int) -> PromptPool:
        """Join encoded texts, repeating them where they are shorter than a few windows of ``input_len`` tokens."""
        tokens = [token for text in encoded for token in text]
        if not tokens:
            raise ConfigError("the prompt file holds no text", "give at least one prompt")
        repeats = -(-8 * input_len // len(tokens))
        return cls(tuple(tokens * repeats))

    def batch(self, batch_size: int, input_len: int, *, seed: int, round_index: int) -> list[list[int]]:
        """``batch_size`` prompts of exactly ``input_len`` tokens, decided by ``seed`` and ``round_index`` alone."""
        chooser = random.Random(f"{seed}/{round_index}/{batch_size}/{input_len}")
        starts = [chooser.randrange(len(self.tokens) - input_len) for _ in range(batch_size)]
        return [list(self.tokens[start : start + input_len]) for start in starts]
