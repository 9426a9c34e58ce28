"""Children that build engines, and the limit of waiting for them.

``Backend.build`` is the protocol of other people's backends, too, and says nothing of limits. So whoever starts builds
sets the limit around them, by ``build_limits``, and a backend that builds in a child calls ``run_build``, which finds
it. A context variable and no global: two configurations of one session may differ, and the default is back afterwards.
A build in this process cannot be ended without ending the session, so it has no limit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from enginegate.core.specs import DEFAULT_TIMEOUTS, Limit, Timeouts
from enginegate.machine.processes import run_module

_timeouts: ContextVar[Timeouts] = ContextVar("timeouts", default=DEFAULT_TIMEOUTS)


@contextmanager
def build_limits(timeouts: Timeouts) -> Iterator[None]:
    """Meanwhile, children that build and print nothing for as long as this says are ended."""
    token = _timeouts.set(timeouts)
    try:
        yield
    finally:
        _timeouts.reset(token)


def build_limit() -> Limit:
    """The limit that ``build_limits`` has set; the default one outside of it."""
    return _timeouts.get().limit("build")


def run_build(module: str, job: bytes, *, subject: str, hint: str, python: str = sys.executable) -> None:
    """``run_module`` under the limit of ``build_limits``; what the child prints is progress. Raises EngineError."""
    run_module(module, job, subject=subject, hint=hint, limit=build_limit(), python=python)
