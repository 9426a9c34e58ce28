"""An engine whose own loop is stepped token by token, so that every token of a batch has its time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival, Generation, ServingEvent, TokenEvent
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import check_prompts
from enginegate.engines.serving import Line, Loop, check_arrivals, line_of, serve


class SteppingEngine(ABC):
    """See ``enginegate.engines.base.Engine``. A subclass sets ``spec``, ``_eos`` and ``_vocabulary``, and steps."""

    spec: EngineSpec
    runtime: RuntimeSpec
    _eos: frozenset[int]
    _vocabulary: int
    #: Orders of waiting requests that the engine's own scheduler has, besides first come, first served.
    _own_orders: tuple[str, ...] = ()

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Greedy decoding of the batch, all requests submitted together; times are taken after each step."""
        self._check_open()
        check_prompts(self.spec, prompts, params, self._vocabulary)
        ids: list[list[int]] = [[] for _ in prompts]
        times: list[list[float]] = [[] for _ in prompts]
        for row, tokens, elapsed in self._steps(prompts, params):
            ids[row] += tokens
            times[row] += [elapsed] * len(tokens)
            beat()
        eos = frozenset() if params.ignore_eos else self._eos
        return [
            Generation(tuple(tokens), tuple(seconds), "stop" if tokens[-1] in eos else "length")
            for tokens, seconds in zip(ids, times, strict=True)
        ]

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """The loop of ``generate`` at batch 1. An iterator that is dropped half-way cancels its request."""
        self._check_open()
        check_prompts(self.spec, [prompt], params, self._vocabulary)
        return (TokenEvent(token, elapsed) for _, tokens, elapsed in self._steps([prompt], params) for token in tokens)

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        """See ``enginegate.engines.base.ServingEngine``."""
        self._check_open()
        check_arrivals(self.spec, arrivals, self._vocabulary)
        return serve(self._loop(), arrivals, self._line())

    def _steps(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams
    ) -> Iterator[tuple[int, list[int], float]]:
        """Step until all prompts are answered; yield (prompt's index, its new tokens, seconds since submitting)."""
        loop = self._loop()
        left: dict[Any, int] = {}
        dropped = 0
        start = time.perf_counter()
        for row, prompt in enumerate(prompts):
            left[loop.add(prompt, params, 0)] = row
        try:
            while left:
                loop.advance()
                elapsed = time.perf_counter() - start
                for key, tokens, reason in loop.fresh():
                    if key in left:
                        row = left.pop(key) if reason else left[key]
                        dropped += reason == "error"
                        if tokens:
                            yield row, list(tokens), elapsed
        finally:
            if left:
                loop.cancel(list(left))
        if dropped:
            raise EngineError(
                f"{self.spec.id}: {dropped} of {len(prompts)} requests were dropped by the scheduler",
                "give the engine a larger kv_cache_bytes",
            )

    def _line(self) -> Line:
        """How requests wait in front of the engine while it serves, where its own scheduler has no such order."""
        return line_of(self.spec, self.runtime, self._own_orders)

    @abstractmethod
    def _loop(self) -> Loop[Any]:
        """The engine as it is stepped, idle."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise EngineError where the engine is closed."""
