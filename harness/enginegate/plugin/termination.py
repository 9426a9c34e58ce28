"""How a session ends that was not to end yet, or not so.

SIGTERM is as Ctrl-C. Whoever ends a session early, or sets its exit code, cannot make it green where a verdict was
refused.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from enginegate.machine.termination import as_ever, finish_undisturbed, interrupt_when_terminated

if TYPE_CHECKING:
    from enginegate.session.gate_session import GateSession


class LastWord:
    """The hooks that see a session's end first and last.

    Args:
        gates: the session.
        owns_signal: SIGTERM interrupts this session, not one around it in the same process, whose signal it stays.
    """

    def __init__(self, gates: GateSession, *, owns_signal: bool) -> None:
        self._gates = gates
        self._owns_signal = owns_signal

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C, SIGTERM or ``pytest.exit``, which may ask for any exit code: tests are missing from the record.

        Engines are still to be closed, and the record to be written.
        """
        self._gates.ended_early = True
        if self._owns_signal:
            finish_undisturbed()

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


def end_well_when_terminated(config: pytest.Config) -> bool:
    """Until this session's end, unless somebody else handles the signal; gives whether it does."""
    taken = interrupt_when_terminated()
    if taken:
        config.add_cleanup(as_ever)
    return taken
