"""Perplexity of held-out prose, scored through decode steps so that the KV cache's precision takes part.

A single forward pass over a text never reads the cache, so it cannot see what a quantized cache costs. Here a short
start goes through one pass and every later token is fed alone, as when text is generated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enginegate.core.errors import ConfigError
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.data import Passage
from enginegate.quality.entry import digest, quality_entry, require_items
from enginegate.quality.text import Tokenizer, bytes_spelled, score_sequences

REVISION = 1
#: Of results where a passage's first token ends inside a character: its bytes were counted as those of U+FFFD before.
REVISION_OF_CUTS = 2
COLUMNS = ("nll", "tokens", "bytes")
PREFILL = 16


@dataclass(frozen=True)
class Prose:
    """Passages as token ids, ready to be scored.

    Attributes:
        passages: the prose.
        prefill: tokens that go through the first forward pass; all others are decode steps. None: one pass for all.
        prefix: tokens in front of every passage that are not scored, such as BOS. Without one (the default, right for
            models that were trained without BOS) a passage's first token has nothing before it: it is given, not
            scored, and its bytes do not count.
        texts, sequences: token ids of each passage by its hash, and the same behind the prefix.
    """

    passages: Sequence[Passage]
    prefill: int | None
    prefix: Sequence[int]
    texts: Mapping[str, list[int]]
    sequences: Mapping[str, list[int]]

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        passages: Sequence[Passage],
        prefill: int | None = PREFILL,
        prefix: Sequence[int] = (),
        metric: str = "perplexity",
    ) -> Prose:
        """Raises MeasurementError without passages, ConfigError for one too short to reach a decode step."""
        require_items(passages, metric)
        texts = {passage.hash: tokenizer.encode(passage.text) for passage in passages}
        sequences = {key: [*prefix, *tokens] for key, tokens in texts.items()}
        for passage in passages:
            if prefill is not None and len(sequences[passage.hash]) <= prefill:
                raise ConfigError(
                    f"passage {passage.id!r} has {len(sequences[passage.hash])} tokens, all of which would go through "
                    f"the first pass of {prefill} tokens",
                    "use longer passages or a smaller prefill",
                )
        return cls(passages, prefill, prefix, texts, sequences)

    @property
    def first(self) -> int:
        """The first position whose score counts: what predicts tokens of the prefix does not."""
        return max(len(self.prefix) - 1, 0)

    @property
    def settings(self) -> dict[str, object]:
        """What besides the passages moves the numbers, for versions."""
        return {"prefill": self.prefill, "prefix": digest(self.prefix)}


def evaluate_perplexity(
    engine: Engine,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    prefill: int | None = PREFILL,
    prefix: Sequence[int] = (),
) -> QualityEntry:
    """Negative log-likelihood of each passage, each read by itself; see ``Prose`` for the arguments.

    Raises:
        ConfigError: a passage too short to reach a decode step, or longer than the engine was built for.
        MeasurementError: no passages, or likelihoods that are not finite.
    """
    prose = Prose.of(tokenizer, passages, prefill, prefix)
    scored = score_sequences(engine, tokenizer, prose.sequences, prefill=prefill)
    return perplexity_of(engine, tokenizer, prose, scored)


def perplexity_of(
    engine: Engine, tokenizer: Tokenizer, prose: Prose, scored: Mapping[str, Sequence[float]]
) -> QualityEntry:
    """The entry of an engine from what it scored: log-probabilities [tokens - 1] of each sequence.

    For each item ``nll`` (nats), ``tokens`` and ``bytes`` (UTF-8) that were scored. Scores: ``perplexity`` = exp(sum of
    nll / sum of tokens), ``bits_per_byte``, which models with different vocabularies share, and ``tokens``.
    """
    items, revision = {}, REVISION
    for passage in prose.passages:
        tokens = prose.texts[passage.hash]
        values = scored[passage.hash][prose.first :]
        given = 0 if prose.prefix else bytes_spelled(tokenizer, passage.text, tokens, 1)
        if not prose.prefix and given != len(tokenizer.decode(tokens[:1]).encode()):
            revision = REVISION_OF_CUTS
        items[passage.hash] = (-math.fsum(values), len(values), len(passage.text.encode()) - given)
    nll, count, size = (math.fsum(column) for column in zip(*items.values(), strict=True))
    scores = {"perplexity": math.exp(nll / count), "bits_per_byte": nll / math.log(2) / size, "tokens": count}
    return quality_entry(engine, "perplexity", revision, prose.settings, COLUMNS, items, scores)
