"""The pretended engine as it serves: a scheduler of known speed, in real or in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from enginegate.core.specs import SamplingParams


class VirtualPace:
    """See ``enginegate.engines.pace.Pace``: on a clock that passes only where an engine works or waits."""

    def __init__(self, clock: Any, times: Sequence[float]) -> None:
        self._clock = clock
        self._start = clock.now()
        self._left = list(enumerate(times))

    def now(self) -> float:
        return self._clock.now() - self._start

    def arrived(self) -> list[tuple[int, float]]:
        now = self._clock.now()
        found = [each for each in self._left if self._start + each[1] <= now]
        self._left = self._left[len(found) :]
        return found

    def wait(self) -> None:
        due = self._start + self._left[0][1]
        while (left := due - self._clock.now()) > 0:
            self._clock.sleep(max(left, 1e-9))  # less is lost where a clock's time is large

    def __enter__(self) -> VirtualPace:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Request:
    def __init__(self, prompt: Sequence[int], tokens: tuple[int, ...], asked: int) -> None:
        self.prompt, self.tokens, self.asked = prompt, tokens, asked
        self.given = 0


class FakeLoop:
    """See ``enginegate.engines.serving.Loop``. Each running request gets a token a step, its first in two steps' time.

    ``engine``: a FakeEngine, whose spec says how many run at a time.
    """

    def __init__(self, engine: Any, clock: Any) -> None:
        self._engine, self._clock = engine, clock
        self._names = itertools.count()
        self._requests: dict[int, _Request] = {}
        self._fresh: list[tuple[int, tuple[int, ...], str]] = []

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> int:
        name = next(self._names)
        self._requests[name] = _Request(prompt, self._engine.answer(prompt, params), params.max_tokens)
        return name

    def advance(self) -> None:
        running = list(self._requests)[: self._engine.spec.max_batch_size]
        begins = any(not self._requests[name].given for name in running)
        self._clock.sleep(self._engine.step_seconds(len(running)) * (2 if begins else 1))
        self._fresh = [(name, *self._step(self._requests[name])) for name in running]

    def fresh(self) -> list[tuple[int, tuple[int, ...], str]]:
        for name, _, reason in self._fresh:
            if reason:
                del self._requests[name]
        return self._fresh

    def in_flight(self) -> int:
        return len(self._requests)

    def cancel(self, keys: Sequence[int]) -> None:
        for key in keys:
            self._requests.pop(key, None)

    def _step(self, request: _Request) -> tuple[tuple[int, ...], str]:
        tokens = request.tokens[request.given : request.given + 1]
        request.given += 1
        if request.given < len(request.tokens):
            return tokens, ""
        return tokens, "length" if len(request.tokens) == request.asked else "stop"
