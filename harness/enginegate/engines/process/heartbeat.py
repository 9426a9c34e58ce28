"""Signs of life from an engine's working loop.

An engine calls ``beat`` whenever a piece of work is done: a step's tokens, a scored batch. In a process of its own that
tells the session now and then that the work goes on, and renews the limit of its wait; elsewhere it does nothing. No
thread does this beside the work: it would beat on while the engine hangs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_tell: Callable[[], None] | None = None
_every = math.inf
_next = math.inf


def beat() -> None:
    """A piece of work is done. Costs a tenth of a microsecond, and is told at most once in each interval."""
    global _next
    if _tell is not None and (now := time.monotonic()) >= _next:
        _next = now + _every
        _tell()


@contextmanager
def beating(tell: Callable[[], None], every: float) -> Iterator[None]:
    """Meanwhile, have beats told by ``tell``, the first after ``every`` seconds and then not more often than that."""
    global _tell, _every, _next
    _tell, _every, _next = tell, every, time.monotonic() + every
    try:
        yield
    finally:
        _tell, _every, _next = None, math.inf, math.inf
