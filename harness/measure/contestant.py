"""What an arena times, and how one answer is timed: on the clock of the process that the engine lives in."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.engines.base import Generation
from harness.measure.host import quiet_process
from harness.specs import SamplingParams


class Contestant(Protocol):
    """Whatever answers a batch of prompts: an engine in this process, or one in a child that takes its turn."""

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Answer a batch of prompts together."""
        ...


class SelfTimed(ABC):
    """A contestant that knows better than its caller how long an answer took.

    A base class, not a protocol: what wraps such a contestant and passes on the attributes that it lacks is timed from
    outside, with all that it adds.
    """

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
    if isinstance(contestant, SelfTimed):
        return contestant.timed(prompts, params)
    with quiet_process():
        start = clock()
        generations = contestant.generate(prompts, params)
        return generations, clock() - start
