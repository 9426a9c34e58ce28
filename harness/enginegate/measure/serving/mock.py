"""A server of known service times: what queueing says of it is known, so what the suite says of it can be checked."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from enginegate.engines.base import Arrival, ServingEvent

#: What a mock's answers are made of.
_TOKEN = 0


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
        for number, (arrival, time) in enumerate(zip(arrivals, handed, strict=True)):
            begin = max(time, heapq.heappop(free))
            end = begin + self.service[number]
            heapq.heappush(free, end)
            found.append((time, 0, number, "sent", ()))
            found += [(at, 1, number, "tokens", (_TOKEN,) * size) for at, size in self._tokens(arrival, begin, end)]
            found.append((end, 2, number, "finished", ()))
        events, flight = [], 0
        for time, _, number, kind, tokens in sorted(found, key=lambda each: (each[0], each[1], each[2])):
            flight += {"sent": 1, "finished": -1}.get(kind, 0)
            reason = "length" if kind == "finished" else ""
            events.append(ServingEvent(number, kind, time, tokens, reason, flight))
        return events

    def _tokens(self, arrival: Arrival, begin: float, end: float) -> list[tuple[float, int]]:
        """When tokens come, and how many together; the last with the end."""
        count = arrival.params.max_tokens
        sizes = [min(self.chunk, count - done) for done in range(0, count, self.chunk)]
        first = begin + self.first_share * (end - begin) if len(sizes) > 1 else end
        step = (end - first) / max(1, len(sizes) - 1)
        times = [first + step * index for index in range(len(sizes))]
        return list(zip([*times[:-1], end], sizes, strict=True))
