"""What an arena times, and how one answer is timed: on the clock of the process that the engine lives in."""

from __future__ import annotations

import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Generation


class Contestant(Protocol):
    """Whatever answers a batch of prompts: an engine in this process, or one in a child that takes its turn."""

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Answer a batch of prompts together."""
        ...


class SelfTimed(ABC):
    """A contestant that knows better than its caller how long an answer took.

    It is believed where its ``generate`` is the one here. What puts another around it, by a wrapper, a subclass or on
    the object, may take longer than ``timed`` knows, and is timed from outside.
    """

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Answer a batch of prompts together."""
        return self.timed(prompts, params)[0]

    @abstractmethod
    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        """See ``timed_answer``."""


def timed_answer(
    contestant: Contestant,
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[Generation], float]:
    """The answers to a batch of prompts, and the seconds from handing the prompts over to having all the answers."""
    if isinstance(contestant, SelfTimed) and getattr(contestant.generate, "__func__", None) is SelfTimed.generate:
        return contestant.timed(prompts, params)
    with quiet_process():
        start = clock()
        generations = contestant.generate(prompts, params)
        return generations, clock() - start


@contextmanager
def quiet_process() -> Iterator[None]:
    """Keep the garbage collector out of a timed round, and begin it without the garbage of the last one.

    Only what is new is looked at: with Transformers imported a full collection takes 0.3 s, longer than many a round.
    """
    was_enabled = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
