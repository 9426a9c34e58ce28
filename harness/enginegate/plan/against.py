"""``--against WHAT``: which live base a run is compared with, as it is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from enginegate.core.errors import ConfigError, EngineGateError

#: Kind and what stands behind it, for errors and help.
KINDS = {
    "git": "git:REF",
    "lock": "lock:FILE",
    "python": "python:PATH",
    "exec": "exec:COMMAND",
    "config": "config:FILE",
    "accepted": "accepted",
}


@dataclass(frozen=True)
class Against:
    """What was asked for.

    Attributes:
        kind: one of KINDS.
        value: the commit, the file or the command; empty for ``accepted``.
        option: what asked, for errors.
    """

    kind: str
    value: str = ""
    option: str = field(default="--against", compare=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind

    @contextmanager
    def named(self) -> Iterator[None]:
        """Meanwhile, an error says which option asked for what goes wrong."""
        try:
            yield
        except EngineGateError as error:
            told = error.problem.removeprefix(f"{self}: ")
            link = " " if told.startswith(f"{self} ") else f" {self}: "
            raise type(error)(f"{self.option}{link}{told}", error.hint) from error


def read_against(text: str, option: str = "--against") -> Against | None:
    """What an option says; None where it says nothing. Raises ConfigError for what it cannot mean."""
    if not text:
        return None
    kind, colon, value = text.partition(":")
    if kind not in KINDS or bool(colon) != (kind != "accepted") or (colon and not value.strip()):
        known = ", ".join(KINDS.values())
        raise ConfigError(f"{option} {text!r} names no base", f"write one of {known}")
    if kind == "exec":
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ConfigError(
                f"{option} {text!r} cannot be read as a command: {error}", "quote as in a shell"
            ) from error
        if not words:
            raise ConfigError(
                f"{option} {text!r} names no command", "for example exec:'docker run --rm -i IMAGE python3'"
            )
    return Against(kind, value.strip(), option)
