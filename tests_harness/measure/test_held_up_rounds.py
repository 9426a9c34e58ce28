"""Rounds that a CPU quota held up, and engines in processes that a wrapper stands around."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from enginegate.core.specs import Workload
from enginegate.engines.base import Generation
from enginegate.machine.load import CpuClock
from enginegate.measure import arena as arena_module
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool


class Engine:
    """Answers at once."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def generate(self, prompts, params):
        times = tuple((index + 1) * 1e-9 for index in range(params.max_tokens))
        return [Generation(tuple(range(params.max_tokens)), times, "length") for _ in prompts]


class Wrapper:
    """What a hook may put around an engine."""

    def __init__(self, engine) -> None:
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)


@pytest.fixture
def read(monkeypatch):
    """The arena reads these clocks, one after another; says what it asked for."""
    asked, throttled = [], iter(())

    def clocks(*values: float) -> list[list[int]]:
        nonlocal throttled
        throttled = iter(values)
        return asked

    def read_cpu_clock(children):
        asked.append(list(children))
        return CpuClock(0.0, 0.0, throttled=next(throttled))

    monkeypatch.setattr(arena_module, "read_cpu_clock", read_cpu_clock)
    return clocks


def arena(**engines: object) -> Arena:
    pool = PromptPool(tuple(range(200)))
    return Arena(engines, next(iter(engines)), Workload(1, 4, 5), pool, ArenaPolicy(retries=0))


def test_a_round_that_a_quota_held_up_is_disturbed_and_says_for_how_long(read):
    read(7.0, 7.0, 7.0, 7.25)
    race = arena(a=Engine())
    clean, held_up = (race.round("a", [[1, 2, 3, 4]]) for _ in range(2))
    assert (clean.disturbed, clean.throttled_seconds) == (False, 0.0)
    assert (held_up.disturbed, held_up.throttled_seconds) == (True, 0.25)


def test_an_engine_in_a_process_of_its_own_is_named_through_a_wrapper(read):
    """Only a bare ChildEngine was, so that the work of a wrapped one was foreign."""
    asked = read(0.0, 0.0)
    arena(here=Engine(), there=Wrapper(Engine(pid=4711))).round("there", [[1, 2, 3, 4]])
    assert asked == [[4711], [4711]]


def test_what_the_monitor_could_not_see_is_in_the_record():
    race = arena(a=Engine())
    race.monitor = SimpleNamespace(warnings=["nobody knows"])
    assert race.entry().warnings == ["nobody knows"]
