"""From a record to a verdict: what a session concluded can be recomputed from its run record alone.

A gate is a dictionary of inputs (what is compared, with what, at which margins) that is stored with its verdict; the
samples lie in the record. ``judge`` is the only way from the two to a verdict, in the session and afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.gates.verdict import Verdict
from enginegate.verdicts.lookup import Inputs
from enginegate.verdicts.quality import (
    judge_accuracy_gate,
    judge_corpus_gate,
    judge_flips_gate,
    judge_lengths_gate,
    judge_nll_gate,
)
from enginegate.verdicts.resources import judge_build_time_gate, judge_memory_gate, judge_size_gate
from enginegate.verdicts.speed import judge_speed_gate, speed_undecided

__all__ = ["GATES", "Inputs", "judge", "speed_undecided"]

GATES: dict[str, Callable[[Inputs, RunRecord], Verdict]] = {
    "speed": judge_speed_gate,
    "memory": judge_memory_gate,
    "size": judge_size_gate,
    "build_time": judge_build_time_gate,
    "accuracy": judge_accuracy_gate,
    "corpus": judge_corpus_gate,
    "nll": judge_nll_gate,
    "flips": judge_flips_gate,
    "lengths": judge_lengths_gate,
}


def judge(inputs: Inputs, record: RunRecord) -> Verdict:
    """The verdict that ``inputs`` give on the samples of ``record``.

    Raises:
        RecordError: the inputs name a gate or samples that are not there.
    """
    gate = GATES.get(str(inputs.get("gate")))
    if gate is None:
        raise RecordError(f"no gate is named {inputs.get('gate')!r}", "the record is of another version of enginegate")
    return gate(inputs, record)
