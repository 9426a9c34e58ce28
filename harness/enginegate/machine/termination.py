"""SIGTERM, by which CI systems and schedulers end a job, as Ctrl-C: engines are closed and a record is left."""

from __future__ import annotations

import signal
import threading


def interrupt_when_terminated() -> bool:
    """From now on SIGTERM raises KeyboardInterrupt; False where somebody else handles it, or this is no main thread."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        return False
    signal.signal(signal.SIGTERM, _interrupt)
    return True


def finish_undisturbed() -> None:
    """All is ending: a job cancelled by Ctrl-C is often sent SIGTERM next, which must not cut that short."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def as_ever() -> None:
    """SIGTERM ends this process again, once ``interrupt_when_terminated`` was True."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    finish_undisturbed()  # it often comes twice
    raise KeyboardInterrupt
