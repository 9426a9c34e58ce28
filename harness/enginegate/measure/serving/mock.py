"""A server of known service times: what queueing says of it is known, so what the suite says of it can be checked."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival, ServingEvent

#: What a mock's answers are made of.
_TOKEN = 0
#: Seconds after which a mock looks for what has come.
_MOMENT = 0.001


@dataclass(frozen=True)
class MockServer:
    """Requests wait in one line, first come, first served, for the first of some servers that is free.

    Attributes:
        servers: how many requests are served at once.
        service: seconds that each request takes once it is served, by its index.
        first_share: share of these until the first token; the others follow at equal distances.
        chunk: tokens that come together.
    """

    servers: int
    service: Sequence[float]
    first_share: float = 0.1
    chunk: int = 1

    def events(self, arrivals: Sequence[Arrival], sent: Sequence[float] | None = None) -> list[ServingEvent]:
        """What happens, in the order of time, without waiting for any of it.

        Args:
            arrivals: the requests.
            sent: when each was handed in; None for the moment that it was due.
        """
        handed = [arrival.time for arrival in arrivals] if sent is None else list(sent)
        free = [0.0] * self.servers
        found: list[tuple[float, int, int, str, tuple[int, ...]]] = []
        for number, (arrival, come) in enumerate(zip(arrivals, handed, strict=True)):
            begin = max(come, heapq.heappop(free))
            end = begin + self.service[number]
            heapq.heappush(free, end)
            found.append((come, 0, number, "sent", ()))
            tokens = self.tokens(arrival.params.max_tokens, begin, end)
            found += [(at, 1, number, "tokens", (_TOKEN,) * size) for at, size in tokens]
            found.append((end, 2, number, "finished", ()))
        events, flight = [], 0
        for at, _, number, kind, given in sorted(found, key=lambda each: (each[0], each[1], each[2])):
            flight += {"sent": 1, "finished": -1}.get(kind, 0)
            reason = "length" if kind == "finished" else ""
            events.append(ServingEvent(number, kind, at, given, reason, flight))
        return events

    def loop(self) -> MockLoop:
        """The same server in real time, to be driven by ``enginegate.engines.serving.serve``, as engines are."""
        return MockLoop(self)

    def tokens(self, count: int, begin: float, end: float) -> list[tuple[float, int]]:
        """When tokens of one answer come, and how many together; the last with the end."""
        sizes = [min(self.chunk, count - done) for done in range(0, count, self.chunk)]
        first = begin + self.first_share * (end - begin) if len(sizes) > 1 else end
        step = (end - first) / max(1, len(sizes) - 1)
        times = [first + step * index for index in range(len(sizes))]
        return list(zip([*times[:-1], end], sizes, strict=True))


@dataclass
class MockLoop:
    """See ``enginegate.engines.serving.Loop``: a server of known service times that computes nothing.

    What keeps the schedule of arrivals beside it is what keeps it beside a real engine.
    """

    server: MockServer
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _waiting: list[tuple[int, SamplingParams]] = field(default_factory=list)
    _running: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    _fresh: list[tuple[int, tuple[int, ...], str]] = field(default_factory=list)
    _named: int = 0

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> int:
        """See Loop."""
        del prompt, priority
        self._waiting.append((self._named, params))
        self._named += 1
        self._begin()
        return self._named - 1

    def advance(self) -> None:
        """Until the next tokens are due; no longer than a moment, as a free server takes what comes meanwhile."""
        due = min(tokens[0][0] for tokens in self._running.values())
        self.sleep(min(_MOMENT, max(0.0, due - self.clock())))
        now = self.clock()
        self._fresh = []
        for name, tokens in list(self._running.items()):
            given = 0
            while tokens and tokens[0][0] <= now:
                given += tokens.pop(0)[1]
            if given:
                self._fresh.append((name, (_TOKEN,) * given, "" if tokens else "length"))
            if not tokens:
                del self._running[name]
        self._begin()

    def fresh(self) -> list[tuple[int, tuple[int, ...], str]]:
        """See Loop."""
        return self._fresh

    def in_flight(self) -> int:
        """See Loop."""
        return len(self._running) + len(self._waiting)

    def cancel(self, keys: Sequence[int]) -> None:
        """See Loop."""
        self._waiting = [each for each in self._waiting if each[0] not in keys]
        for key in keys:
            self._running.pop(key, None)

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self.server.servers:
            name, params = self._waiting.pop(0)
            begin = self.clock()
            end = begin + self.server.service[name]
            self._running[name] = self.server.tokens(params.max_tokens, begin, end)
