"""How a session ends that was not to end yet, or not so.

SIGTERM, by which CI systems and schedulers end a job, is as Ctrl-C: engines are closed and a record is left. Whoever
ends a session early, or sets its exit code, cannot make it green where a verdict was refused.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from enginegate.session.gate_session import GateSession


class LastWord:
    """The hooks that see a session's end first and last."""

    def __init__(self, gates: GateSession) -> None:
        self._gates = gates

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C, SIGTERM or ``pytest.exit``, which may ask for any exit code: tests are missing from the record."""
        self._gates.ended_early = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """No exit code 0 with a refused verdict, whatever asked for it."""
        try:
            return (yield)
        except pytest.exit.Exception as end:  # its code becomes the session's
            if end.returncode == pytest.ExitCode.OK and self._gates.is_refused:
                end.returncode = pytest.ExitCode.TESTS_FAILED
            raise
        finally:
            if session.exitstatus == pytest.ExitCode.OK and self._gates.is_refused:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
