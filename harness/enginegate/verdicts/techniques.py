"""The verdicts on techniques of serving, from a record."""

from __future__ import annotations

import math

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.core.technique_records import TechniqueEntry
from enginegate.gates.techniques import judge_mismatches, judge_overtaken, judge_ratio
from enginegate.gates.verdict import Verdict
from enginegate.verdicts.inputs import MismatchInputs, OrderInputs, TechniqueInputs


def entry_of(record: RunRecord | None, engine: str, technique: str) -> TechniqueEntry:
    """One technique of one engine. Raises RecordError where the record has none, or several."""
    found = [each for each in record.techniques if each.key == (engine, technique)] if record is not None else []
    if len(found) != 1:
        raise RecordError(f"the record holds {len(found)} entries of {technique} of {engine}, not one", "run it again")
    return found[0]


def ratios(entry: TechniqueEntry, figure: str, higher: bool) -> list[float]:
    """How many times better each pair's run with the technique is; NaN where a run lacks the figure."""
    pairs = []
    for on, off in zip(entry.on, entry.off, strict=True):
        better, worse = (on, off) if higher else (off, on)
        top, bottom = better.get(figure, math.nan), worse.get(figure, math.nan)
        pairs.append(top / bottom if bottom else math.nan)
    return pairs


def judge_technique_gate(gate: TechniqueInputs, record: RunRecord | None) -> Verdict:
    """How much better an engine is with a technique than without it."""
    entry = entry_of(record, gate.candidate, gate.technique)
    found = ratios(entry, gate.figure, gate.higher)
    return judge_ratio(found, gate.floor, metric=gate.metric, subject=gate.subject, alpha=gate.alpha, beta=gate.beta)


def judge_mismatch_gate(gate: MismatchInputs, record: RunRecord | None) -> Verdict:
    """How many tokens a technique changed."""
    entry = entry_of(record, gate.candidate, gate.technique)
    wrong = sum(each.differs and not each.gap <= gate.tie for each in entry.answers)
    compared = sum(each.compared for each in entry.answers)
    return judge_mismatches(
        wrong, compared, gate.limit, metric=gate.metric, subject=gate.subject, alpha=gate.alpha, beta=gate.beta
    )


def judge_order_gate(gate: OrderInputs, record: RunRecord | None) -> Verdict:
    """Whether requests are served in the order of their arrival."""
    entry = entry_of(record, gate.candidate, gate.technique)
    most = [run.get("overtaken", math.nan) for run in entry.on]
    return judge_overtaken(most, gate.limit, metric=gate.metric, subject=gate.subject, alpha=gate.alpha)
