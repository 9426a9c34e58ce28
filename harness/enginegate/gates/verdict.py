"""What a gate concludes, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

#: What lies beyond either end of every two-sided interval that is shown, in verdicts, tables and histories alike.
TAIL = 0.025
#: Their confidence, 95 %.
CONFIDENCE = 1.0 - 2 * TAIL


class Status(str, Enum):
    """The four things a gate can say."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_BASELINE = "NO_BASELINE"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one gate, with everything needed to judge and to recompute it.

    Attributes:
        status: what was concluded.
        metric: what was gated, e.g. ``speedup``, ``peak_memory``, ``cloze_accuracy``.
        estimate: the measured value, in ``unit``.
        interval: 95 % confidence interval of ``estimate`` (NaN, NaN where there is none); how each gate builds it is in
            docs/gates.md.
        unit: ``x`` (ratio), ``bytes``, ``seconds``, ``points`` …
        baseline: the value compared with, in ``unit``, or None.
        change: relative change for the worse (0.05 = 5 % worse than the baseline; negative = better), or None.
        margin: the change for the worse that is tolerated, relative.
        alpha: probability of a false FAIL that this gate was given.
        smallest_visible: the smallest change for the worse that this gate could have seen with its stated power
            on the samples it had, relative; None where it has no meaning.
        samples: number of paired samples (blocks, items) behind the estimate.
        warnings: what weakens the verdict, as sentences.
        explanation: one sentence a person understands.
        accepted: whether the session's policy lets the test pass; set by the plugin, FAIL is never accepted.
    """

    status: Status
    metric: str
    estimate: float
    interval: tuple[float, float]
    unit: str
    baseline: float | None
    change: float | None
    margin: float
    alpha: float
    smallest_visible: float | None
    samples: int
    explanation: str
    warnings: tuple[str, ...] = ()
    accepted: bool = False

    def __bool__(self) -> bool:
        """True where a test that asserts this verdict should pass."""
        return self.accepted or self.status is Status.PASS

    def __repr__(self) -> str:
        return f"<{self.status.value}: {self.explanation}>"

    def accept(self) -> Verdict:
        """The same verdict, let through by the session's policy; a FAIL is never let through."""
        return self if self.status is Status.FAIL else replace(self, accepted=True)


def compared_first(verdict: Verdict, comparable: bool) -> Verdict:
    """The order of a gate's questions: are the samples usable, is there a baseline, do the samples suffice.

    Samples that cannot be used are a FAIL, whatever there is to compare them with. Where there is nothing, more samples
    would not help: no verdict is INCONCLUSIVE, let alone a PASS. Else a session that is always too short would never be
    asked for its baseline.

    Args:
        verdict: what the samples gave.
        comparable: whether there is a baseline, or a limit that stands in for one.
    """
    if comparable or verdict.status is Status.FAIL:
        return verdict
    return replace(verdict, status=Status.NO_BASELINE)
