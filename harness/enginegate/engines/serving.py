"""Serving requests that arrive over time: one loop for every engine that is driven step by step.

The engine is driven as its own server would drive it: between two steps it is handed what has arrived meanwhile. The
times of arrival come from a ``Pace``, which the engine's steps cannot hold up. What is new here is no scheduler: the
engine decides what runs in each step. Only where another order or static batches are asked for that the engine's own
scheduler does not have, requests wait in a line in front of it; see ``Line``.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival, Engine, ServingEngine, ServingEvent
from enginegate.engines.pace import PacerProcess, Pacing
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import check_prompts
from enginegate.engines.timing import quiet_process

Key = TypeVar("Key", bound=Hashable)
#: What a step gave a request: the name that the loop calls it by, its new tokens, and why it ended: "length", "stop" or
#: "error"; empty while it goes on.
Fresh = tuple[Key, Sequence[int], str]


class Loop(Protocol[Key]):
    """An engine that is stepped from outside. A mock needs no more than this to be served; see ``serve``."""

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> Key:
        """Hand a request to the engine; gives the name by which ``fresh`` calls it. Must not wait for the engine."""
        ...

    def advance(self) -> None:
        """One step of the engine's scheduler, of whatever requests it picks; returns when its tokens are there."""
        ...

    def fresh(self) -> Iterable[Fresh[Key]]:
        """What the last step gave."""
        ...

    def in_flight(self) -> int | None:
        """How many requests the engine itself counts after the last step, waiting or running; None: it has no count."""
        ...

    def cancel(self, keys: Sequence[Key]) -> None:
        """Give these up, so that the engine is idle again."""
        ...


@dataclass(frozen=True)
class Line:
    """How requests wait in front of an engine.

    Attributes:
        order: "fcfs" (by arrival), "sjf" (shortest job first: by prompt plus asked output tokens) or "priority" (by the
            arrival's priority, the smallest first); equal ones by arrival.
        batch: how many the engine takes at a time; None hands each in as it arrives, and the engine's own scheduler
            keeps those waiting that it has no room for.
        static: a batch goes in only when the one before is all done.
    """

    order: str = "fcfs"
    batch: int | None = None
    static: bool = False

    def room(self, running: int) -> int | None:
        """How many more the engine takes now; None for all."""
        if self.batch is None:
            return None
        return 0 if self.static and running else max(0, self.batch - running)

    def rank(self, arrival: Arrival) -> int:
        """What is handed in first has the smallest."""
        if self.order == "sjf":
            return len(arrival.prompt) + arrival.params.max_tokens
        return arrival.priority if self.order == "priority" else 0


def line_of(spec: EngineSpec, runtime: RuntimeSpec, own_orders: Collection[str] = ()) -> Line:
    """The line in front of an engine that keeps what its runtime asks for, where its own scheduler does not.

    ``own_orders``: those that its scheduler has, besides first come, first served.
    """
    static, order = runtime.scheduler_policy == "static", runtime.queue_order
    if static or order not in ("fcfs", *own_orders):
        return Line(order, spec.max_batch_size, static)
    return Line()


@dataclass
class _Run:
    """What is known of a run's requests; which of them wait in line, and which the engine has."""

    arrivals: Sequence[Arrival]
    line: Line
    waiting: list[tuple[int, int]] = field(default_factory=list)

    def arrive(self, request: int) -> None:
        heapq.heappush(self.waiting, (self.line.rank(self.arrivals[request]), request))

    def next(self, running: int) -> list[int]:
        """The requests that go to the engine now."""
        room = self.line.room(running)
        count = len(self.waiting) if room is None else min(room, len(self.waiting))
        return [heapq.heappop(self.waiting)[1] for _ in range(count)]


def serve(
    loop: Loop[Key], arrivals: Sequence[Arrival], line: Line | None = None, pacing: Pacing = PacerProcess
) -> Iterator[ServingEvent]:
    """Serve requests that arrive over time; see ``enginegate.engines.base.ServingEngine.submit``.

    Whoever takes the events should be quick about it, as the engine waits meanwhile; an iterator that is dropped
    half-way cancels what is left.

    Args:
        loop: the engine, idle.
        arrivals: in the order of their times; see ``check_arrivals``.
        line: how they wait in front of it; None hands each in as it arrives.
        pacing: makes them arrive.
    """
    run = _Run(arrivals, line or Line())
    running: dict[Key, int] = {}
    left, told = len(arrivals), 0.0
    with pacing([each.time for each in arrivals]) as pace, quiet_process():
        try:
            while left:
                if not running and not run.waiting:
                    pace.wait()
                arrived = pace.arrived()
                stepped: list[ServingEvent] = []
                if running:
                    loop.advance()
                    now = pace.now()
                    arrived += pace.arrived()
                    stepped = _stepped(loop, running, now, len(run.waiting))
                    left -= sum(event.kind == "finished" for event in stepped)
                beat()
                for request, _ in arrived:
                    run.arrive(request)
                # A stamp that came too late to be told of in its place has the time at which it could be seen at last.
                sent = [ServingEvent(request, "sent", max(at, told)) for request, at in arrived]
                events = sorted([*sent, *stepped], key=lambda event: event.time)
                told = events[-1].time if events else told
                yield from events
                for request in run.next(len(running)):
                    arrival = arrivals[request]
                    running[loop.add(arrival.prompt, arrival.params, arrival.priority)] = request
        finally:
            if running:
                loop.cancel(list(running))


def _stepped(loop: Loop[Key], running: dict[Key, int], now: float, waiting: int) -> list[ServingEvent]:
    """The events of one step; what has ended is taken out of ``running``. ``waiting``: in line before the engine."""
    fresh = list(loop.fresh())
    count = loop.in_flight()
    if count is not None:
        count += waiting
    events = []
    for key, tokens, reason in fresh:
        if key not in running:
            continue  # of a request that was given up before
        request = running[key]
        if tokens:
            events.append(ServingEvent(request, "tokens", now, tuple(tokens), in_flight=count))
        if reason:
            del running[key]
            events.append(ServingEvent(request, "finished", now, reason=reason, in_flight=count))
    return events


def check_arrivals(spec: EngineSpec, arrivals: Sequence[Arrival], vocabulary: int) -> None:
    """Raise EngineError unless an engine can be asked this: see ``check_prompts``, for each request alone.

    Times must be finite, none negative and none before the one ahead of it.
    """
    if not arrivals:
        raise EngineError(f"{spec.id}: no request arrives", "pass at least one arrival")
    before = 0.0
    for position, arrival in enumerate(arrivals):
        if not (math.isfinite(arrival.time) and arrival.time >= before):
            raise EngineError(
                f"{spec.id}: request {position} arrives at {arrival.time:g} s, after one at {before:g} s",
                "give the arrivals in the order of their times, none negative",
            )
        before = arrival.time
        try:
            check_prompts(spec, [arrival.prompt], arrival.params, vocabulary)
        except EngineError as error:
            problem = error.problem.removeprefix(f"{spec.id}: ")
            raise EngineError(f"{spec.id}: request {position} of {len(arrivals)}: {problem}", error.hint) from error


def serving(engine: Engine) -> ServingEngine:
    """An engine as one that serves. Raises CapabilityError where it is of a backend that cannot."""
    if getattr(engine, "submit", None) is None:
        raise cannot_serve(engine.spec)
    return cast("ServingEngine", engine)


def cannot_serve(spec: EngineSpec) -> CapabilityError:
    """The error where an engine has no ``submit``."""
    return CapabilityError(
        f"{spec.id}: backend {spec.backend} has no submit: nothing can be handed to it while it is at work",
        "serve with openvino or vllm; docs/adding_a_backend.md says what `submit` gives",
    )


_KINDS = ("sent", "tokens", "finished")
_REASONS = ("length", "stop", "error", "cancelled")
_REPORT = "report it against the backend: docs/adding_a_backend.md says what `submit` gives"


def checked_events(
    subject: str, events: Iterable[ServingEvent], arrivals: Sequence[Arrival], vocabulary: int | None
) -> Iterator[ServingEvent]:
    """The events as they come, each looked at. Raises EngineError at the first that cannot be.

    Each request is sent once, gets tokens after that, and ends once; times never fall; no request gets more tokens than
    it asked for, and one that ends by "length" got them all. A run that is over has ended all its requests.
    """
    check = _EventCheck(subject, arrivals, vocabulary)
    for event in events:
        check.take(event)
        yield event
    check.end()


class _EventCheck:
    def __init__(self, subject: str, arrivals: Sequence[Arrival], vocabulary: int | None) -> None:
        self._subject = subject
        self._arrivals = arrivals
        self._vocabulary = vocabulary
        self._time = 0.0
        self._tokens: dict[int, int] = {}
        self._ended: set[int] = set()

    def take(self, event: ServingEvent) -> None:
        if not isinstance(event, ServingEvent) or event.kind not in _KINDS:
            raise self._wrong(f"gave {event!r:.80}, which is no event of serving")
        request = event.request
        if not 0 <= request < len(self._arrivals):
            raise self._wrong(f"told of request {request} of {len(self._arrivals)}")
        if not event.time >= self._time or math.isinf(event.time):
            raise self._wrong(f"told of request {request} at {event.time:g} s, after an event at {self._time:g} s")
        self._time = event.time
        if (event.kind == "sent") == (request in self._tokens) or request in self._ended:
            raise self._wrong(f"told '{event.kind}' of request {request} out of turn")
        if event.kind == "sent":
            self._tokens[request] = 0
        elif event.kind == "tokens":
            self._take_tokens(event)
        else:
            self._finish(event)

    def end(self) -> None:
        left = len(self._arrivals) - len(self._ended)
        if left:
            raise self._wrong(f"ended a run with {left} of {len(self._arrivals)} requests unfinished")

    def _take_tokens(self, event: ServingEvent) -> None:
        for token in event.token_ids:
            if token < 0 or (self._vocabulary is not None and token >= self._vocabulary):
                raise self._wrong(f"gave request {event.request} the token id {token}, which the model has not")
        self._tokens[event.request] += len(event.token_ids)
        asked = self._arrivals[event.request].params.max_tokens
        if not event.token_ids or self._tokens[event.request] > asked:
            raise self._wrong(
                f"gave request {event.request} {self._tokens[event.request]} tokens, asked were {asked}"
                if event.token_ids
                else f"told of new tokens of request {event.request} and named none"
            )

    def _finish(self, event: ServingEvent) -> None:
        if event.reason not in _REASONS:
            raise self._wrong(f"ended request {event.request} by {event.reason!r}, not one of {', '.join(_REASONS)}")
        asked = self._arrivals[event.request].params.max_tokens
        if event.reason == "length" and self._tokens[event.request] != asked:
            raise self._wrong(
                f"ended request {event.request} by length with {self._tokens[event.request]} of {asked} tokens"
            )
        self._ended.add(event.request)

    def _wrong(self, what: str) -> EngineError:
        return EngineError(f"{self._subject} {what}", _REPORT)
