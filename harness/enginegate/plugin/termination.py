"""SIGTERM, by which CI systems and schedulers end a job, is as Ctrl-C: engines are closed and a record is left."""

from __future__ import annotations

import signal
import threading

import pytest


def end_well_when_terminated(config: pytest.Config) -> None:
    """Until this session's end, unless somebody else handles the signal."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
        config.add_cleanup(_restore)


def finish_undisturbed() -> None:
    """The session is ending: a job cancelled by Ctrl-C is often sent SIGTERM next, which must not cut that short."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    finish_undisturbed()  # it often comes twice
    raise KeyboardInterrupt


def _restore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
