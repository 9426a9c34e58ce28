"""Asking an engine for text, in batches whose composition is the same for every engine, and for likelihoods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from enginegate.core.errors import ConfigError, EngineError, MeasurementError
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Engine

#: What a sequence is kept under: an item's hash, or the hash and the number of a choice.
Key = TypeVar("Key", str, tuple[str, int])
#: What stands for bytes that are no character.
_UNREADABLE = "\ufffd"


class Tokenizer(Protocol):
    """The model's tokenizer, as far as quality needs it."""

    @property
    def eos_ids(self) -> Collection[int]:
        """Tokens that end an answer."""
        ...

    @property
    def opening(self) -> tuple[int, ...]:
        """Tokens that ``chat`` puts before a plain prompt."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text, or None."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without special tokens."""
        ...

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """The text of token ids."""
        ...

    def chat(self, user_text: str) -> list[int]:
        """Token ids of a conversation with one user message, up to where the answer begins."""
        ...


@dataclass(frozen=True)
class Answer:
    """A greedy answer, without the token that ended it."""

    text: str
    token_ids: tuple[int, ...]


def batches(sequences: Mapping[Key, Sequence[int]], size: int) -> Iterator[list[Key]]:
    """Keys in batches of up to ``size``, shortest sequences first and equal lengths by key.

    Batching moves results a little, because the order of floating-point sums changes with it. So the composition
    follows from the sequences and the size alone, and not from the engine or the order of the data file.
    """
    ordered = _shortest_first(sequences)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _shortest_first(sequences: Mapping[Key, Sequence[int]]) -> list[Key]:
    return sorted(sequences, key=lambda key: (len(sequences[key]), key))


def generate_texts(
    engine: Engine, tokenizer: Tokenizer, prompts: Mapping[str, str], max_tokens: int
) -> dict[str, Answer]:
    """Greedy answers to user messages.

    Args:
        engine: answers them, in batches of its ``max_batch_size``.
        tokenizer: wraps each message in the model's chat template.
        prompts: item hash to user message.
        max_tokens: where an answer is cut off if it has not ended by itself.

    Returns:
        Item hash to answer, in the order of ``prompts``.

    Raises:
        ConfigError: a message or an output length that the engine was not built for.
        EngineError: an answer is missing or ended in an error.
    """
    encoded = {key: tokenizer.chat(text) for key, text in prompts.items()}
    answers = generate_tokens(engine, tokenizer, encoded, max_tokens, engine.spec.max_batch_size)
    return {key: Answer(tokenizer.decode(answers[key]), answers[key]) for key in prompts}


def generate_tokens(
    engine: Engine, tokenizer: Tokenizer, prompts: Mapping[str, Sequence[int]], max_tokens: int, batch_size: int
) -> dict[str, tuple[int, ...]]:
    """Greedy answers as token ids, cut before the first end-of-answer token. Errors as in ``generate_texts``."""
    spec = engine.spec
    if not 1 <= max_tokens <= spec.max_output_len:
        raise ConfigError(
            f"answers of {max_tokens} tokens were asked of {spec.id}, which was built for 1 to {spec.max_output_len}",
            "change the answer length, or raise limits.max_output_len",
        )
    _require_fit(engine, tokenizer, prompts.values(), spec.max_input_len, "limits.max_input_len")
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=False)
    answers: dict[str, tuple[int, ...]] = {}
    for batch in batches(prompts, batch_size):
        generations = engine.generate([prompts[key] for key in batch], params)
        if len(generations) != len(batch):
            raise EngineError(
                f"{spec.id} gave {len(generations)} answers to {len(batch)} prompts", "report it against the backend"
            )
        for key, generation in zip(batch, generations, strict=True):
            if generation.finish_reason == "error":
                raise EngineError(
                    f"{spec.id} ended an answer with an error, after the prompt that ends in "
                    f"{_ending(tokenizer, prompts[key])}",
                    "look at the engine's own log",
                )
            answers[key] = _before_end(generation.token_ids, tokenizer.eos_ids)
    return answers


def score_sequences(
    engine: Engine,
    tokenizer: Tokenizer,
    sequences: Mapping[Key, Sequence[int]],
    prefill: int | None = None,
) -> dict[Key, tuple[float, ...]]:
    """Log-probability of each token of each sequence but the first; ``prefill`` as in ``Engine.score``.

    Raises:
        ConfigError: a sequence that the engine was not built for.
        MeasurementError: an engine that returns too few values, or a value that is not finite.
    """
    spec = engine.spec
    limit = spec.max_input_len + spec.max_output_len
    _require_fit(engine, tokenizer, sequences.values(), limit, "limits.max_input_len")
    keys = _shortest_first(sequences)
    # All at once, as an engine knows best how many it scores together.
    results = engine.score([sequences[key] for key in keys], prefill=prefill)
    if [len(result) for result in results] != [len(sequences[key]) - 1 for key in keys]:
        raise MeasurementError(
            f"{spec.id} did not score every token of {len(keys)} sequences", "report it against the backend"
        )
    for key, result in zip(keys, results, strict=True):
        if not all(map(math.isfinite, result)):
            raise MeasurementError(
                f"{spec.id} gave a log-probability that is not finite, in the text that ends in "
                f"{_ending(tokenizer, sequences[key])}",
                "look for overflow: a lower activation precision, or a damaged engine (enginegate engines verify)",
            )
    return dict(zip(keys, results, strict=True))


def bytes_spelled(tokenizer: Tokenizer, text: str, tokens: Sequence[int], count: int) -> int:
    """UTF-8 bytes of ``text`` that the first ``count`` of its ``tokens`` spell, also where they end inside a character.

    Decoded alone, the bytes of a part of a character become U+FFFD, which has three bytes of its own. What the rest of
    the tokens lacks is counted instead: each stray byte at its beginning becomes one U+FFFD.
    """
    spelled = tokenizer.decode(list(tokens[:count]))
    if not spelled.endswith(_UNREADABLE):
        return len(spelled.encode())
    pairs = zip(spelled[:-1], text, strict=False)  # without the last, which may be whole, and what the text has there
    whole = text[: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))]
    cut, after = text[len(whole) :][:1], text[len(whole) + 1 :]
    rest = tokenizer.decode(list(tokens[count:]))
    stray = _leading(rest) - _leading(after)
    return len(whole.encode()) + len(cut.encode()) - stray


def _leading(text: str) -> int:
    return len(text) - len(text.lstrip(_UNREADABLE))


def _before_end(token_ids: Sequence[int], eos_ids: Collection[int]) -> tuple[int, ...]:
    """Backends differ in whether the ending token is part of the answer; here it never is."""
    end = next((index for index, token in enumerate(token_ids) if token in eos_ids), len(token_ids))
    return tuple(token_ids[:end])


def _require_fit(
    engine: Engine, tokenizer: Tokenizer, sequences: Collection[Sequence[int]], limit: int, key: str
) -> None:
    for sequence in sequences:
        if len(sequence) > limit:
            raise ConfigError(
                f"a text of {len(sequence)} tokens, which ends in {_ending(tokenizer, sequence)}, is longer than the "
                f"{limit} tokens that {engine.spec.id} was built for",
                f"shorten it, or raise {key} and build again",
            )


def _ending(tokenizer: Tokenizer, sequence: Sequence[int]) -> str:
    return repr(tokenizer.decode(tuple(sequence[-16:])))
