"""What an engine gave, looked at before any of it counts: an engine is other people's code."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence

from enginegate.core.errors import EngineError, edge
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Effective, Engine, Generation, MemoryUse, TokenEvent

_REPORT = "report it against the backend: docs/adding_a_backend.md says what an engine gives"
_LOOK = "run its tests alone, and look into the engine's own log"
_REASONS = ("length", "stop", "error")
#: A log-probability is at most 0; so much above it is rounding, in whatever type an engine computes.
_ROUNDING = 0.1


def checked_answers(subject: str, answers: object, vocabulary: int | None = None) -> list[Generation]:
    """The answers to a batch as plain values. How many there are, and their times, is the caller's to check.

    Args:
        subject: the engine, for messages.
        answers: what it gave.
        vocabulary: token ids lie below it; None where nobody knows.

    Raises:
        EngineError: they are no Generations, or a token id is no whole number or none of the vocabulary.
    """
    with edge(EngineError, f"{subject} gave something else than a list of Generations", _REPORT):
        found = [_plain(answer) for answer in _items(answers)]
    for answer in found:
        if answer.finish_reason not in _REASONS:
            reasons = ", ".join(_REASONS)
            raise EngineError(f"{subject} ended an answer by {answer.finish_reason!r}, not one of {reasons}", _REPORT)
        for token in answer.token_ids:
            if token < 0 or (vocabulary is not None and token >= vocabulary):
                known = f"0 to {vocabulary - 1}" if vocabulary is not None else "from 0 on"
                raise EngineError(f"{subject} gave the token id {token}; the model's are {known}", _REPORT)
    return found


def checked_scores(subject: str, scores: object) -> list[tuple[float, ...]]:
    """The log-probabilities of sequences as plain numbers. Raises EngineError where they are none."""
    with edge(EngineError, f"{subject} gave something else than a list of log-probabilities", _REPORT):
        found = [tuple(map(_number, _items(row))) for row in _items(scores)]
    highest = max((value for row in found for value in row), default=0.0)
    if highest > _ROUNDING:
        raise EngineError(f"{subject} gave a log-probability of {highest:g}, and none is above 0", _REPORT)
    return found


class CheckedEngine:
    """An engine whose answers and scores are looked at. Not for timing: the look would be timed, too.

    Whatever its library raises is an EngineError.
    """

    def __init__(self, engine: Engine, vocabulary: int | None = None) -> None:
        self.spec = engine.spec
        self.runtime = engine.runtime
        self._engine = engine
        self._vocabulary = vocabulary

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} could not answer", _LOOK):
            answers = self._engine.generate(prompts, params)
        return checked_answers(self.spec.id, answers, self._vocabulary)

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} could not answer token by token", _LOOK):
            yield from self._engine.stream(prompt, params)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} could not score", _LOOK):
            scores = self._engine.score(sequences, prefill=prefill)
        return checked_scores(self.spec.id, scores)

    def memory(self) -> MemoryUse:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} does not say what memory it takes", _LOOK):
            return self._engine.memory()

    def effective(self) -> Effective:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} does not say what it is", _LOOK):
            return self._engine.effective()

    def close(self) -> None:
        """See Engine."""
        with edge(EngineError, f"{self.spec.id} could not be closed", _LOOK):
            self._engine.close()


def _items(value: object) -> Iterable[object]:
    """What is in a list, a tuple or an array. Raises TypeError for a text, a mapping, and what has no items."""
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise TypeError(f"a {type(value).__name__} came")
    return value


def _plain(answer: object) -> Generation:
    ids, times = _items(getattr(answer, "token_ids")), _items(getattr(answer, "token_times"))  # noqa: B009
    return Generation(tuple(map(_whole, ids)), tuple(map(_number, times)), getattr(answer, "finish_reason"))  # noqa: B009


def _whole(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{value} came for a token id")
    return operator.index(value)  # type: ignore[arg-type]


def _number(value: object) -> float:
    return float(value)  # type: ignore[arg-type]
