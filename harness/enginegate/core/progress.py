"""What is going on, as those who work tell it. ``enginegate.report.progress`` shows it to people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

#: Called with one short text. A ``Step`` says where the work is, until the next one does. Any other text is news, such
#: as a warning: it stays. The caller decides where they go.
Progress = Callable[[str], None]


class Step(str):
    """Where the work is. As a text it is one whole line; whoever draws takes its parts.

    Args:
        what: the task. Steps of one task have the same.
        at: where in it, in words, such as ``block 3 of at most 40``; may be empty.
        share: of the task that is done, 0 to 1; None where nobody knows.
        left: seconds until it is done; None where nobody knows.
        at_most: it may be done earlier than that.
        loud: whoever does it may write to the terminal, too, such as a bar of its own.
    """

    __slots__ = ("at", "loud", "share", "time", "what")

    what: str
    at: str
    share: float | None
    time: str
    loud: bool

    def __new__(
        cls,
        what: str,
        at: str = "",
        *,
        share: float | None = None,
        left: float | None = None,
        at_most: bool = False,
        loud: bool = False,
    ) -> Step:
        """As text: the task, where in it, and the time that is left."""
        time = "" if left is None else f"{'at most ' if at_most else ''}{duration(left)} left"
        where = ", ".join(filter(None, (at, time)))
        step = super().__new__(cls, f"{what}: {where}" if where else what)
        step.what, step.at, step.share, step.time, step.loud = what, at, share, time, loud
        return step


def duration(seconds: float) -> str:
    """A time for people: two or three digits, in the unit that fits."""
    for unit, size in (("s", 1), ("min", 60)):
        if seconds / size < 99.5:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def lasting(progress: Progress, what: str, expected: float | None = None, *, loud: bool = False) -> Iterator[None]:
    """Tell of a task that takes long, cannot say how far it is, and is not timed.

    A ``progress`` with a method ``counting`` shows the seconds meanwhile; see ``enginegate.report.progress``.

    Args:
        progress: told once, as it begins.
        what: the task.
        expected: seconds that it took last time, where that is known.
        loud: see Step.
    """
    step = Step(what, f"took {duration(expected)} last time" if expected is not None else "", loud=loud)
    progress(step)
    counting = getattr(progress, "counting", None)
    with nullcontext() if counting is None else counting(step, expected):
        yield
