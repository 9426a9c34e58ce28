"""A pytest plugin for inner sessions: the fake engines' time is virtual, and the arena reads the same clock."""

from __future__ import annotations

import contextlib
import functools

import enginegate.engines.timing
import enginegate.measure.arena
import enginegate.measure.serving.pairs
import enginegate.measure.slowed
import enginegate.session.audit_race
import enginegate.session.bench
import enginegate_fake
import pytest


class Ticking:
    """A ``time`` whose counter moves when it is looked at, for those who wait by looking."""

    def __init__(self, clock: enginegate_fake.VirtualClock) -> None:
        self._clock = clock

    def perf_counter(self) -> float:
        self._clock.sleep(1e-5)
        return self._clock.now()


@pytest.fixture(scope="session", autouse=True)
def virtual_time():
    with pytest.MonkeyPatch.context() as patch:
        clock = enginegate_fake.VirtualClock()
        patch.setattr(enginegate_fake, "CLOCK", clock)
        arena = functools.partial(enginegate.measure.arena.Arena, clock=clock.now)
        patch.setattr(enginegate.session.bench, "Arena", arena)
        patch.setattr(enginegate.session.audit_race, "Arena", arena)
        patch.setattr(enginegate.measure.slowed, "time", Ticking(clock))
        patch.setattr(enginegate.measure.arena, "foreign_load", lambda *_: 0.0)
        patch.setattr(enginegate.measure.serving.pairs, "foreign_load", lambda *_: 0.0)
        patch.setattr(enginegate.measure.arena, "throttled_seconds", lambda *_: 0.0)
        patch.setattr(enginegate.engines.timing, "quiet_process", contextlib.nullcontext)
        yield clock
