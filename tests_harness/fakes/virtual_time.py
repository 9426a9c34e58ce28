"""A pytest plugin for inner sessions: the fake engines' time is virtual, and the arena reads the same clock."""

from __future__ import annotations

import contextlib
import functools

import enginegate_fake
import pytest

import harness.bench
import harness.measure.arena


@pytest.fixture(scope="session", autouse=True)
def virtual_time():
    with pytest.MonkeyPatch.context() as patch:
        clock = enginegate_fake.VirtualClock()
        patch.setattr(enginegate_fake, "CLOCK", clock)
        patch.setattr(harness.bench, "Arena", functools.partial(harness.measure.arena.Arena, clock=clock.now))
        patch.setattr(harness.measure.arena, "foreign_load", lambda *_: 0.0)
        patch.setattr(harness.measure.arena, "quiet_process", contextlib.nullcontext)
        yield clock
