"""What an engine gave, looked at before any of it counts: an engine is other people's code."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import CapabilityError, EngineError, edge
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import (
    Arrival,
    Cells,
    Distribution,
    Effective,
    Engine,
    Generation,
    MemoryUse,
    ServingEvent,
    TokenEvent,
)
from enginegate.engines.serving import checked_events, serving

_REPORT = "report it against the backend: docs/adding_a_backend.md says what an engine gives"
_LOOK = "run its tests alone, and look into the engine's own log"
_REASONS = ("length", "stop", "error")
#: A log-probability is at most 0; so much above it is rounding, in whatever type an engine computes.
_ROUNDING = 0.1
#: A distribution's probabilities add up to 1 within this: a library may round logarithms to a half-precision type.
_MASS = 0.02


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


def distributions(
    engine: Engine, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None
) -> list[Distribution]:
    """What an engine expected; CapabilityError where it is of a backend without that."""
    method = getattr(engine, "distributions", None)
    if method is None:
        raise CapabilityError(
            f"backend {engine.spec.backend} gives log-probabilities of given tokens only, no distributions",
            "docs/adding_a_backend.md says what `distributions` gives",
        )
    found: list[Distribution] = method(sequences, cells=cells, prefill=prefill)
    return found


def checked_distributions(
    subject: str, found: object, sequences: Sequence[Sequence[int]], vocabulary: int | None
) -> list[Distribution]:
    """Distributions as arrays of the shapes that ``Distribution`` states. Raises EngineError where they are none."""
    with edge(EngineError, f"{subject} gave something else than a list of Distributions", _REPORT):
        each = [_arrays(one) for one in _items(found)]
    shapes = [(len(sequence) - 1,) for sequence in sequences]
    if [one.scores.shape for one in each] != shapes or any(
        one.rest.shape != one.scores.shape
        or one.likeliest.shape != one.scores.shape
        or one.ids.ndim != 2
        or one.ids.shape != one.values.shape
        or len(one.ids) != len(one.scores)
        for one in each
    ):
        raise EngineError(f"{subject} gave distributions of other shapes than its {len(shapes)} sequences", _REPORT)
    for one in each:
        _check_distribution(subject, one, vocabulary)
    for one, sequence in zip(each, sequences, strict=True):
        came = one.ids == np.asarray(sequence[1:], np.int32)[:, None]
        apart = np.abs(np.where(came, one.values, one.scores[:, None]) - one.scores[:, None])
        if (apart > _ROUNDING).any():
            raise EngineError(f"{subject} gave a token another log-probability as a cell than as its score", _REPORT)
    return each


def _check_distribution(subject: str, found: Distribution, vocabulary: int | None) -> None:
    used = found.ids >= 0
    highest = max(float(part.max(initial=-np.inf)) for part in (found.scores, found.rest, found.values[used]))
    if highest > _ROUNDING or np.isnan(found.scores).any() or np.isnan(found.values[used]).any():
        raise EngineError(f"{subject} gave a distribution with a log-probability of {highest:g}", _REPORT)
    mass = (np.exp(found.values) * used).sum(1) + np.exp(found.rest)
    if len(mass) and not np.abs(mass - 1.0).max() < _MASS:
        off = mass[np.abs(mass - 1.0).argmax()]
        raise EngineError(f"{subject} gave a distribution whose probabilities add up to {off:g}, not to 1", _REPORT)
    ids = np.sort(found.ids, 1)
    if ((ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)).any():
        raise EngineError(f"{subject} named a token twice in one distribution", _REPORT)
    if vocabulary is not None and (
        found.ids.max(initial=-1) >= vocabulary or found.likeliest.max(initial=-1) >= vocabulary
    ):
        raise EngineError(f"{subject} named a token id that is none of the model's 0 to {vocabulary - 1}", _REPORT)


def _arrays(one: object) -> Distribution:
    def real(name: str) -> NDArray[np.float64]:
        return np.asarray(getattr(one, name), np.float64)

    def whole(name: str) -> NDArray[np.int32]:
        return np.asarray(getattr(one, name), np.int32)

    return Distribution(real("scores"), whole("ids"), real("values"), real("rest"), whole("likeliest"))


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

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine. CapabilityError where there is no such method."""
        with edge(EngineError, f"{self.spec.id} could not score", _LOOK):
            found = distributions(self._engine, sequences, cells=cells, prefill=prefill)
        return checked_distributions(self.spec.id, found, sequences, self._vocabulary)

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        """See ``enginegate.engines.base.ServingEngine``. CapabilityError where there is no such method.

        The look is at what the engine has given when the run is over.
        """
        with edge(EngineError, f"{self.spec.id} could not serve requests as they arrive", _LOOK):
            events = list(serving(self._engine).submit(arrivals))
        yield from checked_events(self.spec.id, events, arrivals, self._vocabulary)

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
