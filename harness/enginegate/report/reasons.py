"""Why a session is not all PASS: one entry for all verdicts that share a reason, worst first. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from enginegate.core.records import RunRecord, VerdictEntry
from enginegate.storage.summary import SEVERITY

_NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?")
#: Where the reason begins in the sentence of a verdict that is no FAIL.
_BEGINNINGS = ("; undecided: ", "; there is ", ", no baseline")


@dataclass(frozen=True)
class Reason:
    """Verdicts of one status that have one reason.

    Attributes:
        status: FAIL, INCONCLUSIVE or NO_BASELINE.
        verdicts: all that share it, the one furthest for the worse first.
        alike: whether it is the same to the last digit for all of them.
    """

    status: str
    verdicts: tuple[VerdictEntry, ...]
    alike: bool

    def sentence(self, record: RunRecord) -> str:
        """What to print: of a single verdict its own sentence, of several who they are and what they share."""
        first = self.verdicts[0]
        if len(self.verdicts) == 1:
            return first.explanation
        metrics = ", ".join(dict.fromkeys(verdict.metric.replace("_", " ") for verdict in self.verdicts))
        who = f"{len(self.verdicts)} verdicts ({metrics} of {_engines(record, self.verdicts)})"
        return f"{who}: {_reason(first)}" if self.alike else f"{who}, such as {first.explanation}"


def reasons(record: RunRecord) -> list[Reason]:
    """One entry for each FAIL, and one for all others that share status and reason; the worst status first."""
    found: dict[tuple[str, str], list[VerdictEntry]] = {}
    for verdict in record.verdicts:
        if verdict.status == "FAIL":
            found[verdict.status, f"{verdict.test} {verdict.metric}"] = [verdict]
        elif verdict.status != "PASS":
            found.setdefault((verdict.status, _shape(_reason(verdict), record)), []).append(verdict)
    grouped = sorted(found.items(), key=lambda item: SEVERITY.index(item[0][0]))
    return [_group(status, verdicts) for (status, _), verdicts in grouped]


def warnings(record: RunRecord) -> list[str]:
    """What weakens the verdicts that are no PASS: of those that differ in the engine or in numbers alone, the first."""
    undecided = [verdict for verdict in record.verdicts if verdict.status != "PASS"]
    return alike([warning for verdict in undecided for warning in verdict.warnings], record)


def alike(texts: Iterable[str], record: RunRecord | None = None) -> list[str]:
    """Of sentences that differ in numbers, or in the record's engines, alone the first, and how many there are."""
    found: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        found.setdefault(_shape(text, record), []).append(text)
    return [f"{same[0]} (and {len(same) - 1} like it)" if len(same) > 1 else same[0] for same in found.values()]


def _shape(text: str, record: RunRecord | None) -> str:
    """A sentence without its numbers and without the names of the record's engines."""
    engines = [] if record is None else record.engines
    names = {name for engine in engines for name in (engine.id, engine.precision_label)}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "@")
    return _NUMBER.sub("#", text)


def _group(status: str, verdicts: Sequence[VerdictEntry]) -> Reason:
    worst_first = sorted(verdicts, key=lambda verdict: -(verdict.change or 0.0))
    return Reason(status, tuple(worst_first), len({_reason(verdict) for verdict in verdicts}) == 1)


def _reason(verdict: VerdictEntry) -> str:
    """The part of a verdict's sentence that says why it is undecided; all of it where it has no such part."""
    for beginning in _BEGINNINGS:
        _, found, rest = verdict.explanation.partition(beginning)
        if found:
            return (found.removeprefix("; undecided: ").lstrip(",; ")) + rest
    return verdict.explanation


def _engines(record: RunRecord, verdicts: Iterable[VerdictEntry]) -> str:
    single = len({engine.backend for engine in record.engines if engine.role == "candidate"}) == 1
    labels = {
        engine.id: engine.precision_label if single else f"{engine.backend} {engine.precision_label}"
        for engine in record.engines
    }
    return ", ".join(dict.fromkeys(labels.get(verdict.engine, verdict.engine) for verdict in verdicts))
