"""Signs of life from an engine's working loop.

An engine calls ``beat`` whenever a piece of work is done: a step's tokens, a scored batch. In a process of its own that
tells the session now and then that the work goes on, and renews the limit of its wait. Where quality is measured it
tells people how far it is. Elsewhere it does nothing. No thread does this beside the work: it would beat on while the
engine hangs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from enginegate.core.progress import Progress, Step

_tell: Callable[[float | None], None] | None = None
_every = math.inf
_next = math.inf
#: The part of the whole work that is done now, and how much of the whole is done as far as anybody has said.
_part = (0.0, 1.0)
_share: float | None = None


def beat(share: float | None = None) -> None:
    """A piece of work is done. Costs a tenth of a microsecond, and is told at most once in each interval.

    ``share``: how much of the work is done by now, 0 to 1, where that is known.
    """
    global _next, _share
    if _tell is None:
        return
    if share is not None:
        begin, end = _part
        _share = begin + share * (end - begin)
    if (now := time.monotonic()) >= _next:
        _next = now + _every
        _tell(_share)


@contextmanager
def beating(tell: Callable[[float | None], None], every: float) -> Iterator[None]:
    """Meanwhile, have beats told by ``tell``, the first after ``every`` seconds and then not more often than that.

    ``tell`` gets the share of the work that is done, or None where nobody has said.
    """
    global _tell, _every, _next, _part, _share
    _tell, _every, _next, _part, _share = tell, every, time.monotonic() + every, (0.0, 1.0), None
    try:
        yield
    finally:
        _tell, _every, _next = None, math.inf, math.inf


@contextmanager
def part(begin: float, end: float) -> Iterator[None]:
    """Meanwhile, the work is this part of the whole: 0 to 1 of it are ``begin`` to ``end`` of that."""
    global _part
    outer = _part
    low, high = outer
    _part = low + begin * (high - low), low + end * (high - low)
    try:
        yield
    finally:
        _part = outer


@contextmanager
def told(progress: Progress, what: str, remark: str = "", every: float = 1.0) -> Iterator[None]:
    """Around work that beats: ``progress`` is told of it as it begins, and then how far it is and the time left.

    ``remark``: what is said as it begins.
    """
    begun = time.monotonic()

    def tell(share: float | None) -> None:
        if share:
            seconds = time.monotonic() - begun
            progress(Step(what, f"{100 * share:.0f} %", share=share, left=seconds * (1 - share) / share))

    progress(Step(what, remark))
    with beating(tell, every):
        yield
