"""A case from the field: an input that people have met, what is right, and what the suite makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineGateError


@dataclass(frozen=True)
class Got:
    """What the suite made of an input.

    Attributes:
        outcome: one word or two: the class of an error, a verdict's status, ``exit 2``, ``accepted``, a count.
        text: the message that came with it.
    """

    outcome: str
    text: str = ""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: of the function that runs it.
        given: the input, in one line.
        kind: the kind of fault that it stands for.
        expected: the right outcome, as ``Got.outcome`` spells it.
        says: what the message must contain.
        run: gives the input to the suite; gets an empty folder.
    """

    name: str
    given: str
    kind: str
    expected: str
    says: tuple[str, ...]
    run: Callable[[Path], Got]

    def problem(self, got: Got) -> str:
        """What is wrong with an outcome; empty where it is right."""
        if got.outcome != self.expected:
            return f"{self.given}: {got.outcome} instead of {self.expected}: {got.text}"
        missing = [words for words in self.says if words not in got.text]
        return f"{self.given}: the message lacks {missing}: {got.text}" if missing else ""


CASES: list[Case] = []


def case(given: str, *, kind: str, expected: str, says: tuple[str, ...] = ()) -> Callable[..., Callable[[Path], Got]]:
    """Enter a function into the table: it feeds the input to the suite, in the empty folder that it gets."""

    def enter(run: Callable[[Path], Got]) -> Callable[[Path], Got]:
        CASES.append(Case(run.__name__, given, kind, expected, says, run))
        return run

    return enter


def attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> Got:
    """Call something that should refuse its input: the error's class and text, or ``accepted`` and the value."""
    try:
        value = function(*arguments, **options)
    except EngineGateError as error:
        return Got(type(error).__name__, str(error))
    except Exception as error:  # what the user would see as a traceback
        return Got(f"raw {type(error).__name__}", str(error))
    return Got("accepted", repr(value))
