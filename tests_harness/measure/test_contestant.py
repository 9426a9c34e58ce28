"""On whose clock an answer is timed, and that nothing which holds it up goes missing."""

from __future__ import annotations

import time

import pytest
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Generation
from enginegate.engines.timing import SelfTimed, timed_answer
from enginegate.measure.slowed import SlowedContestant

PARAMS = SamplingParams(1)
ANSWER = [Generation((1,), (0.5,), "length")]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Here:
    """Takes half a second of its clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def generate(self, prompts, params):
        self._clock.now += 0.5
        return ANSWER


class Elsewhere(SelfTimed):
    """Says that it took 10 ms, whatever its caller's clock shows."""

    def timed(self, prompts, params):
        return ANSWER, 0.01


class Wrapper:
    """What a hook may put around an engine: slower by 20 ms, and passing on all else."""

    def __init__(self, engine) -> None:
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def generate(self, prompts, params):
        time.sleep(0.02)
        return self._engine.generate(prompts, params)


def test_an_engine_here_is_timed_by_the_callers_clock():
    clock = Clock()
    assert timed_answer(Here(clock), [[1]], PARAMS, clock) == (ANSWER, 0.5)


def test_one_that_times_itself_is_believed():
    assert timed_answer(Elsewhere(), [[1]], PARAMS, Clock()) == (ANSWER, 0.01)


def test_a_wrapper_that_passes_attributes_on_is_timed_from_outside():
    wrapped = Wrapper(Elsewhere())
    assert wrapped.timed([[1]], PARAMS) == (ANSWER, 0.01)
    assert timed_answer(wrapped, [[1]], PARAMS)[1] >= 0.02


class Subclass(Elsewhere):
    def generate(self, prompts, params):
        time.sleep(0.02)
        return super().generate(prompts, params)


def patched():
    engine = Elsewhere()
    generate = engine.generate
    engine.generate = lambda *arguments: time.sleep(0.02) or generate(*arguments)
    return engine


@pytest.mark.parametrize("make", [Subclass, patched])
def test_another_generate_is_timed_from_outside(make):
    answers, seconds = timed_answer(make(), [[1]], PARAMS)
    assert answers == ANSWER
    assert seconds >= 0.02


def test_slowing_adds_its_share_of_the_contestants_own_seconds_and_spends_it():
    start = time.perf_counter()
    [answer], seconds = timed_answer(SlowedContestant(Elsewhere(), 3.0), [[1]], PARAMS)
    assert 0.04 <= seconds <= 0.01 + time.perf_counter() - start
    assert answer.token_times == pytest.approx((2.0,))
