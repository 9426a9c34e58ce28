"""Progress lines on the terminal while a test runs, past pytest's capturing."""

from __future__ import annotations

import pytest


class TerminalProgress:
    """Writes one short line per long step; silent in xdist workers and under ``-q -q``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, line: str) -> None:
        """Show ``line``."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self._config.option.verbose < -1:
            return
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=False)
        try:
            reporter.ensure_newline()
            # with -v pytest itself begins a new line before a test's name and outcome, without -v it does not
            verbose = reporter.verbosity > 0
            reporter.write(f"  .. {line}" + ("" if verbose else "\n"), flush=True, light=True)
            reporter.currentfspath = -2 if verbose else None
        finally:
            if capture is not None:
                capture.resume_global_capture()
