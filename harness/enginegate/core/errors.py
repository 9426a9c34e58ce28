"""The one exception family. Every error names the thing, the reason and the hint."""

from __future__ import annotations


class EngineGateError(Exception):
    """Base of all errors that enginegate raises on purpose.

    Args:
        problem: what is wrong with which thing, and why, in one sentence.
        hint: what the reader can do about it (a command, a key, a file), or empty.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}\n  hint: {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class ConfigError(EngineGateError):
    """A configuration, option or data file that cannot be used as written."""


class ModelError(EngineGateError):
    """A model source that cannot be fetched, verified, converted or read."""


class CapabilityError(EngineGateError):
    """A backend was asked for something it cannot do here."""


class EngineError(EngineGateError):
    """An engine that failed to build, load or answer, or is not what was asked for."""


class StoreError(EngineGateError):
    """The engine store cannot be read or written."""


class MeasurementError(EngineGateError):
    """Samples that cannot be trusted, or could not be taken."""


class BaselineError(EngineGateError):
    """A baseline that is missing, foreign, stale or damaged."""


class RecordError(EngineGateError):
    """A run record that cannot be read or written."""
