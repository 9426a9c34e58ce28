"""An engine made slower on purpose, to see that the gates notice."""

from __future__ import annotations

import time
from collections.abc import Sequence

from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Generation
from enginegate.engines.timing import Contestant, SelfTimed, timed_answer


class SlowedContestant(SelfTimed):
    """Answers as another contestant does, each token later by a fixed share of the time it took.

    The extra time is really spent, spinning, so that no core goes to sleep that would otherwise have worked.
    """

    def __init__(self, contestant: Contestant, slowdown: float) -> None:
        self._contestant = contestant
        self._slowdown = slowdown

    def take_quietest_core(self) -> None:
        """Whatever the contestant does about it; see ``enginegate.machine.cores``."""
        getattr(self._contestant, "take_quietest_core", lambda: None)()

    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        """Answer the batch, then hold it back until ``1 + slowdown`` times the seconds have passed that it took."""
        generations, seconds = timed_answer(self._contestant, prompts, params, time.perf_counter)
        start = time.perf_counter()
        spun = 0.0
        while spun < self._slowdown * seconds:
            spun = time.perf_counter() - start
        factor = 1.0 + self._slowdown
        later = [
            Generation(answer.token_ids, tuple(factor * moment for moment in answer.token_times), answer.finish_reason)
            for answer in generations
        ]
        return later, seconds + spun
