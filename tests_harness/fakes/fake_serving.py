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


#: Tokens that the pretended speculation guesses at a time; it is always right about all but the last.
GUESSES = 3
#: Tokens of prompts that a step reads in the time of one token, and that it reads at most where prefill is chunked.
PREFILL, CHUNK = 50, 32
#: Tokens in a block of the prefix cache.
BLOCK = 16


class _Request:
    def __init__(self, prompt: Sequence[int], tokens: tuple[int, ...], asked: int, unread: int) -> None:
        self.prompt, self.tokens, self.asked, self.unread = tuple(prompt), tokens, asked, unread
        self.given = 0


class FakeLoop:
    """See ``enginegate.engines.serving.Loop``. Each running request whose prompt is read gets a token a step, or more.

    Args:
        engine: a FakeEngine. Its spec says how many run at a time; its habits, in what way it misbehaves: "caches"
            prompts unasked, serves the "newest" first, guesses "carelessly", reads prompts "whole".
        clock: passes where it works.
    """

    def __init__(self, engine: Any, clock: Any) -> None:
        self._engine, self._clock = engine, clock
        self._names = itertools.count()
        self._requests: dict[int, _Request] = {}
        self._running: list[int] = []
        self._fresh: list[tuple[int, tuple[int, ...], str]] = []
        self._habits: set[str] = engine.habits

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> int:
        name = next(self._names)
        unread = len(prompt) - self._cached(tuple(prompt))
        self._requests[name] = _Request(prompt, self._engine.answer(prompt, params), params.max_tokens, unread)
        return name

    def advance(self) -> None:
        waiting = [name for name in self._requests if name not in self._running]
        if "newest" in self._habits:
            waiting.reverse()
        self._running += waiting[: self._engine.spec.max_batch_size - len(self._running)]
        chunked = self._engine.runtime.chunked_prefill and "whole" not in self._habits
        budget = CHUNK if chunked else 1 << 30
        read = 0
        for name in self._running:
            request = self._requests[name]
            part = min(request.unread, budget - read)
            request.unread -= part
            read += part
        self._clock.sleep(self._engine.step_seconds(len(self._running)) * (1 + read / PREFILL))
        self._fresh = [
            (name, *self._step(self._requests[name])) for name in self._running if not self._requests[name].unread
        ]

    def fresh(self) -> list[tuple[int, tuple[int, ...], str]]:
        for name, _, reason in self._fresh:
            if reason:
                del self._requests[name]
                self._running.remove(name)
        return self._fresh

    def in_flight(self) -> int:
        return len(self._requests)

    def cancel(self, keys: Sequence[int]) -> None:
        for key in keys:
            self._requests.pop(key, None)
        self._running = [name for name in self._running if name in self._requests]

    def _cached(self, prompt: tuple[int, ...]) -> int:
        """Tokens of a prompt that the cache holds; the last is never among them."""
        if not (self._engine.runtime.prefix_caching or "caches" in self._habits):
            return 0
        known = max((_common(prompt, each) for each in self._engine.prefixes), default=0)
        self._engine.prefixes.append(prompt)
        return min(known // BLOCK * BLOCK, len(prompt) - 1)

    def _step(self, request: _Request) -> tuple[tuple[int, ...], str]:
        speculates = self._engine.runtime.speculation != "none" and request.given
        tokens = request.tokens[request.given : request.given + (GUESSES if speculates else 1)]
        request.given += len(tokens)
        if speculates and "carelessly" in self._habits:
            tokens = (*tokens[:-1], tokens[-1] + 20)
        if request.given < len(request.tokens):
            return tokens, ""
        return tokens, "length" if len(request.tokens) == request.asked else "stop"


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return next(
        (at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs),
        min(len(one), len(other)),
    )
