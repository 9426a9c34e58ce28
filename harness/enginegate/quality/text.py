"""Asking an engine for text, in batches whose composition is the same for every engine, and for likelihoods."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import ConfigError, EngineError, MeasurementError
from enginegate.core.records import TextEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Distribution, Engine
from enginegate.engines.process.heartbeat import beat

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

    @property
    def name(self) -> str:
        """What it is called in files that other tools keep."""
        ...

    @property
    def template(self) -> str | None:
        """The chat template as it is written, or None."""
        ...

    def conversation(self, messages: Sequence[Mapping[str, str]], answer_next: bool = True) -> str:
        """The text of a conversation, each message with ``role`` and ``content``."""
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


def text_entries(tokenizer: Tokenizer, answers: Mapping[str, Answer]) -> dict[str, TextEntry]:
    """Answers as they are kept, by item hash: with where in the text each token ends."""
    return {
        key: TextEntry(text=answer.text, tokens=list(answer.token_ids), ends=_ends(tokenizer, answer))
        for key, answer in answers.items()
    }


def _ends(tokenizer: Tokenizer, answer: Answer) -> list[int]:
    """As far as the text of the first tokens is that of all: a character that is cut reads as another one there."""
    ends: list[int] = []
    for count in range(1, len(answer.token_ids) + 1):
        spelled = tokenizer.decode(answer.token_ids[:count])
        alike = len(spelled) if answer.text.startswith(spelled) else common_length(spelled, answer.text)
        ends.append(max([alike, *ends[-1:]]))
    return ends


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many elements two sequences begin with in common."""
    differing = (index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(first), len(second)))


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
        beat(len(answers) / len(prompts))
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
    keys = _scorable(engine, tokenizer, sequences)
    # All at once, as an engine knows best how many it scores together.
    results = engine.score([sequences[key] for key in keys], prefill=prefill)
    found = dict(zip(keys, results, strict=True)) if len(results) == len(keys) else {}
    _require_finite(engine, tokenizer, sequences, found)
    return found


def distribute_sequences(
    engine: Engine,
    tokenizer: Tokenizer,
    sequences: Mapping[Key, Sequence[int]],
    cells: int | Mapping[Key, NDArray[np.int32]],
    prefill: int | None = None,
) -> dict[Key, Distribution]:
    """The same with what else was expected; ``cells`` as in ``Engine.distributions``, by the sequence's key.

    Raises, besides: CapabilityError, an engine that gives no distributions.
    """
    keys = _scorable(engine, tokenizer, sequences)
    named = cells if isinstance(cells, int) else [cells[key] for key in keys]
    results = engine.distributions([sequences[key] for key in keys], cells=named, prefill=prefill)
    found = dict(zip(keys, results, strict=True))
    _require_finite(engine, tokenizer, sequences, {key: each.scores.tolist() for key, each in found.items()})
    return found


def _scorable(engine: Engine, tokenizer: Tokenizer, sequences: Mapping[Key, Sequence[int]]) -> list[Key]:
    """The keys, shortest sequence first. Raises ConfigError for a sequence that the engine was not built for."""
    limit = engine.spec.max_input_len + engine.spec.max_output_len
    _require_fit(engine, tokenizer, sequences.values(), limit, "limits.max_input_len")
    return _shortest_first(sequences)


def _require_finite(
    engine: Engine,
    tokenizer: Tokenizer,
    sequences: Mapping[Key, Sequence[int]],
    scores: Mapping[Key, Sequence[float]],
) -> None:
    """Raise MeasurementError where a token has no score, or one that is not finite."""
    if any(len(scores.get(key, ())) != len(sequence) - 1 for key, sequence in sequences.items()):
        raise MeasurementError(
            f"{engine.spec.id} did not score every token of {len(sequences)} sequences",
            "report it against the backend",
        )
    for key, values in scores.items():
        if not all(map(math.isfinite, values)):
            raise MeasurementError(
                f"{engine.spec.id} gave a log-probability that is not finite, in the text that ends in "
                f"{_ending(tokenizer, sequences[key])}",
                "look for overflow: a lower activation precision, or a damaged engine (enginegate engines verify)",
            )


def bytes_spelled(tokenizer: Tokenizer, text: str, tokens: Sequence[int], count: int) -> int:
    """UTF-8 bytes of ``text`` that the first ``count`` of its ``tokens`` spell, also where they end inside a character.

    What a decoder makes of a cut character is no measure: one U+FFFD for its part, or, where bytes are tokens
    (``<0xF0>``), one for each byte of the whole run of them. So the tokens up to where the character ends are taken,
    and the bytes of those after ``count`` subtracted, which begin with one U+FFFD for each byte of the cut character.
    """
    spelled = tokenizer.decode(list(tokens[:count]))
    end = next(place for place in range(count, len(tokens) + 1) if _ends_whole(tokenizer, text, tokens, place))
    if end == count:
        return len(spelled.encode())
    whole, rest = tokenizer.decode(list(tokens[:end])), tokenizer.decode(list(tokens[count:end]))
    stray = _stray(whole, rest, before=len(spelled) - 1)
    return len(whole.encode()) - stray - len(rest[stray:].encode())


def _ends_whole(tokenizer: Tokenizer, text: str, tokens: Sequence[int], count: int) -> bool:
    """Whether the first tokens end with a whole character; U+FFFD may be one, of the text itself."""
    spelled = tokenizer.decode(list(tokens[:count]))
    if count == len(tokens) or not spelled.endswith(_UNREADABLE):
        return True
    rest = tokenizer.decode(list(tokens[count:]))
    return text in (spelled + rest, f"{spelled} {rest}")  # some decoders drop the space that a text begins with


def _stray(whole: str, rest: str, before: int) -> int:
    """How many U+FFFD at the beginning of ``rest`` are bytes of a character that was cut, not of the text.

    The most that leave an end of ``whole``, with a character of more bytes in front, after ``before`` others at most.
    """
    leading = len(rest) - len(rest.lstrip(_UNREADABLE))
    for stray in range(leading, 0, -1):
        cut = len(whole) - len(rest) + stray - 1
        if 0 <= cut <= before and whole.endswith(rest[stray:]) and stray < len(whole[cut].encode()):
            return stray
    return leading


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
