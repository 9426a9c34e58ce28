"""Recomputing a session's verdicts from its run record alone, and whether they agree with what was stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

from enginegate.core.errors import EngineGateError
from enginegate.core.records import RunRecord, VerdictEntry
from enginegate.gates.verdict import Verdict
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

#: How far a recomputed estimate may be off: stored numbers have seven significant digits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Recomputed:
    """A stored verdict beside the one that its inputs and the record's samples give.

    Attributes:
        stored: as the session concluded it.
        again: as it comes out now; None where it cannot be recomputed.
        problem: why not, or "".
    """

    stored: VerdictEntry
    again: Verdict | None
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether status and estimate come out as they were stored."""
        if self.again is None or self.again.status.value != self.stored.status:
            return False
        ours, theirs = self.again.estimate, self.stored.estimate
        return math.isclose(ours, theirs, rel_tol=TOLERANCE) or (math.isnan(ours) and math.isnan(theirs))


def recompute_verdicts(record: RunRecord) -> list[Recomputed]:
    """Every verdict of the record, judged once more. One without inputs cannot be, and does not agree."""
    return [_recompute(record, stored) for stored in record.verdicts]


def _recompute(record: RunRecord, stored: VerdictEntry) -> Recomputed:
    if not stored.inputs:
        return Recomputed(stored, None, "the record keeps no inputs of this verdict")
    try:
        return Recomputed(stored, judge(restore_inputs(stored.inputs), record))
    except EngineGateError as error:
        return Recomputed(stored, None, error.problem)
    except ValueError as error:  # inputs that no session gives a gate, such as a baseline of 0 bytes
        return Recomputed(stored, None, str(error))
