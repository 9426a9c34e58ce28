"""Serving requests that arrive over time: the loop, the line in front of an engine, the pacer, the look at events."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, SamplingParams
from enginegate.engines import pace
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Arrival, ServingEvent
from enginegate.engines.serving import Line, checked_events, serve

VOCABULARY = 10


class Clock:
    """Time that passes where an engine works, and where nothing is left but to wait for an arrival."""

    def __init__(self) -> None:
        self.time = 0.0

    def pacing(self, times: Sequence[float]) -> VirtualPace:
        return VirtualPace(self, times)


class VirtualPace:
    def __init__(self, clock: Clock, times: Sequence[float]) -> None:
        self._clock = clock
        self._left = list(enumerate(times))

    def now(self) -> float:
        return self._clock.time

    def arrived(self) -> list[tuple[int, float]]:
        found = [each for each in self._left if each[1] <= self._clock.time]
        self._left = self._left[len(found) :]
        return found

    def wait(self) -> None:
        self._clock.time = max(self._clock.time, self._left[0][1])

    def __enter__(self) -> VirtualPace:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Server:
    """Gives each of at most ``batch`` requests a token in each step of one second, first come first served."""

    def __init__(self, clock: Clock, batch: int) -> None:
        self._clock, self._batch = clock, batch
        self._names = itertools.count()
        self.left: dict[int, int] = {}

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> int:
        name = next(self._names)
        self.left[name] = params.max_tokens
        return name

    def advance(self) -> None:
        self._clock.time += 1.0
        self._now = list(self.left)[: self._batch]
        for name in self._now:
            self.left[name] -= 1

    def fresh(self) -> list[tuple[int, list[int], str]]:
        given = [(name, [5], "" if self.left[name] else "length") for name in self._now]
        for name, _, reason in given:
            if reason:
                del self.left[name]
        return given

    def in_flight(self) -> int:
        return len(self.left)

    def cancel(self, keys: Sequence[int]) -> None:
        for key in keys:
            del self.left[key]


def arrival(at: float, tokens: int, prompt: int = 1, priority: int = 0) -> Arrival:
    return Arrival((3,) * prompt, SamplingParams(tokens), at, priority)


def finished(arrivals: Sequence[Arrival], line: Line, batch: int = 2) -> dict[int, float]:
    clock = Clock()
    events = serve(Server(clock, batch), arrivals, line, clock.pacing)
    checked = checked_events("server", events, arrivals, VOCABULARY)
    return {event.request: event.time for event in checked if event.kind == "finished"}


def test_requests_are_handed_in_between_steps_and_come_out_as_queueing_says():
    """One server, four requests of two seconds each that arrive faster than it works."""
    arrivals = [arrival(0.5 * number, 2) for number in range(4)]
    assert finished(arrivals, Line(), batch=1) == {0: 2.0, 1: 4.0, 2: 6.0, 3: 8.0}
    assert finished([arrival(0, 2), arrival(10, 2)], Line()) == {0: 2.0, 1: 12.0}


def test_events_come_in_the_order_of_their_times_and_say_what_the_engine_counts():
    clock = Clock()
    arrivals = [arrival(0, 2), arrival(0.5, 1), arrival(1.5, 1)]
    events = list(serve(Server(clock, 2), arrivals, None, clock.pacing))
    told = [(event.kind, event.request, event.time, event.in_flight) for event in events]
    assert told == [
        ("sent", 0, 0.0, None),
        ("sent", 1, 0.5, None),
        ("tokens", 0, 1.0, 1),
        ("sent", 2, 1.5, None),
        ("tokens", 0, 2.0, 0),
        ("finished", 0, 2.0, 0),
        ("tokens", 1, 2.0, 0),
        ("finished", 1, 2.0, 0),
        ("tokens", 2, 3.0, 0),
        ("finished", 2, 3.0, 0),
    ]


@pytest.mark.parametrize(
    ("line", "order"),
    [
        (Line("fcfs", batch=1), [0, 1, 2, 3]),
        (Line("sjf", batch=1), [0, 3, 2, 1]),
        (Line("priority", batch=1), [0, 2, 1, 3]),
    ],
)
def test_a_line_is_served_in_its_order(line, order):
    arrivals = [arrival(0, 3), arrival(1, 5), arrival(1, 3, prompt=2, priority=-1), arrival(2, 2)]
    assert list(finished(arrivals, line)) == order


def test_a_static_batch_waits_until_the_one_before_is_all_done():
    """The second batch begins when the long request of the first ends; in flight, a short one takes its free place."""
    arrivals = [arrival(0, 10), arrival(0, 1), arrival(0, 1)]
    assert finished(arrivals, Line())[2] == 2.0
    assert finished(arrivals, Line(batch=2, static=True))[2] == 11.0


def test_a_run_that_is_dropped_gives_its_requests_up():
    clock = Clock()
    server = Server(clock, 2)
    run = serve(server, [arrival(0, 5), arrival(0, 5)], None, clock.pacing)
    next(event for event in run if event.kind == "tokens")
    run.close()
    assert server.left == {}


class Holding(Server):
    """Its steps hold Python's lock from their beginning to their end, as OpenVINO's do."""

    STEP = 0.2

    def advance(self) -> None:
        super().advance()
        ctypes.PyDLL(None).usleep(int(1e6 * self.STEP))


def test_the_pacer_keeps_the_schedule_while_a_step_holds_pythons_lock():
    arrivals = [arrival(0.02 * number, 1) for number in range(30)]
    server = Holding(Clock(), 30)
    events = list(checked_events("server", serve(server, arrivals), arrivals, VOCABULARY))
    late = sorted(event.time - arrivals[event.request].time for event in events if event.kind == "sent")
    assert late[0] >= 0.0
    assert late[len(late) // 2] < Holding.STEP / 10, "a thread of this process would be late by half a step"


def test_a_pacer_that_ended_is_an_error_and_no_endless_wait():
    with pace.PacerProcess([0.0, 60.0]) as paced:
        while not paced.arrived():
            paced.wait()
        paced._process.kill()
        paced._process.wait()
        with pytest.raises(EngineError, match="times the arrivals ended with code -9, 1 requests unsent"):
            paced.arrived()


def test_a_dropped_run_ends_its_pacer():
    with pace.PacerProcess([60.0]) as paced:
        pass
    assert paced._process.returncode == 0


def event(kind: str, time: float, tokens: tuple[int, ...] = (), reason: str = "", request: int = 0) -> ServingEvent:
    return ServingEvent(request, kind, time, tokens, reason)


SENT, TOKENS = event("sent", 0.0), event("tokens", 1.0, (5, 6))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([SENT, TOKENS], "1 of 1 requests unfinished"),
        ([TOKENS], "'tokens' of request 0 out of turn"),
        ([SENT, SENT], "'sent' of request 0 out of turn"),
        ([event("sent", 0.0, request=1)], "request 1 of 1"),
        ([event("begun", 0.0)], "no event of serving"),
        (["sent"], "no event of serving"),
        ([SENT, event("tokens", float("nan"), (5,))], "at nan s"),
        ([SENT, TOKENS, event("tokens", 0.5, (5,))], "at 0.5 s, after an event at 1 s"),
        ([SENT, event("tokens", 1.0)], "named none"),
        ([SENT, event("tokens", 1.0, (VOCABULARY,))], "token id 10"),
        ([SENT, TOKENS, event("tokens", 2.0, (5,))], "3 tokens, asked were 2"),
        ([SENT, event("finished", 1.0, reason="length")], "by length with 0 of 2"),
        ([SENT, TOKENS, event("finished", 1.0, reason="tired")], "by 'tired'"),
        ([SENT, TOKENS, event("finished", 1.0, reason="length"), TOKENS], "out of turn"),
    ],
)
def test_events_that_cannot_be_are_refused(events, said):
    with pytest.raises(EngineError, match=said):
        list(checked_events("m", events, [arrival(0, 2)], VOCABULARY))


class Whole:
    """An engine that answers whole batches only."""

    spec = EngineSpec("m", "hf", "fp32")
    runtime = None


def test_an_engine_that_answers_whole_batches_only_says_so():
    with pytest.raises(CapabilityError, match="backend hf has no submit"):
        list(CheckedEngine(Whole()).submit([arrival(0, 2)]))
