"""Progress on the terminal while a test runs, beside pytest's own lines and past its capturing."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from enginegate.core.terminal import is_watched

if TYPE_CHECKING:
    from enginegate.core.progress import Step
    from enginegate.report.progress import Display


class TerminalProgress:
    """A live line below pytest's own where a person watches a terminal, plain lines among them elsewhere.

    Silent in xdist workers and under ``-q -q``. Where not all is captured (``-s``, ``--capture=sys``), tests and
    libraries may print at any time: plain lines there, too. Whoever writes by pytest's reporter need not know of the
    live line: it goes before they write.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._display: Display | None = None
        self._end = ExitStack()

    def __call__(self, text: str) -> None:
        """Show a step, or news."""
        if (display := self._shown_by()) is not None:
            display(text)

    def counting(self, step: Step, expected: float | None) -> AbstractContextManager[None]:
        """See Display."""
        display = self._shown_by()
        return nullcontext() if display is None else display.counting(step, expected)

    def settle(self) -> None:
        """See Display."""
        if self._display is not None:
            self._display.settle()

    def finish(self) -> None:
        """The tests are over: news that is held is shown, and no step."""
        if (forget := getattr(self._display, "forget_steps", None)) is not None:
            forget()
        self.settle()

    def close(self) -> None:
        """The session has ended: pytest has its terminal to itself again."""
        self.settle()
        self._display = None
        self._end.close()

    def _shown_by(self) -> Display | None:
        """What shows it, made when something is first told; None where nobody is to see it."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self._config.option.verbose < -1:
            return None
        if self._display is None:
            self._display = self._made(reporter)
        return self._display

    def _made(self, reporter: Any) -> Display:
        from enginegate.report.progress import MARK, ClearsFirst, LiveLine, PlainLines, same_terminal

        def write(line: str) -> None:
            with self._uncaptured():
                reporter.ensure_newline()
                # with -v pytest itself begins a new line before a test's name and outcome, without -v it does not
                verbose = reporter.verbosity > 0
                reporter.write(f"{MARK}{line}" + ("" if verbose else "\n"), flush=True)
                reporter.currentfspath = -2 if verbose else None

        writer, stream = reporter._tw, reporter._tw._file
        all_captured = self._config.getoption("capture") == "fd"
        with self._uncaptured():
            # another plugin's reporter may move the cursor itself
            if not (all_captured and type(reporter) is pytest.TerminalReporter and is_watched(stream)):
                return PlainLines(write)
            terminal = self._end.enter_context(same_terminal(stream))
        live = LiveLine(terminal, write, colour=writer.hasmarkup, column=lambda: int(writer.width_of_current_line))
        self._end.callback(live.close)
        self._end.callback(setattr, writer, "_file", stream)
        writer._file = ClearsFirst(stream, live.clear)
        return live

    def _uncaptured(self) -> AbstractContextManager[None]:
        """Meanwhile, pytest's own stream leads to the terminal."""
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            return nullcontext()
        uncaptured: AbstractContextManager[None] = capture.global_and_fixture_disabled()
        return uncaptured
