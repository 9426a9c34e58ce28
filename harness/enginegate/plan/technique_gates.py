"""The gates of techniques of serving: what each compares, and at which limits."""

from __future__ import annotations

from enginegate.core.technique_records import TechniqueEntry
from enginegate.measure.techniques import TECHNIQUES
from enginegate.plan.gates import EngineGates
from enginegate.verdicts.inputs import MismatchInputs, OrderInputs, TechniqueInputs


def technique_inputs(gates: EngineGates, entry: TechniqueEntry) -> TechniqueInputs:
    """How much better the engine is with a technique than without it."""
    section, technique = gates.candidate.config.file.gates.techniques, TECHNIQUES[entry.technique]
    return TechniqueInputs(
        metric=f"{entry.technique}_{technique.judged}",
        candidate=gates.candidate.id,
        subject=f"{gates.name} {technique.title}, {technique.judged.replace('_', ' ')}",
        technique=entry.technique,
        figure=technique.judged,
        higher=technique.higher,
        floor=getattr(section.floors, entry.technique),
        alpha=gates.alpha,
        beta=section.beta,
    )


def mismatch_inputs(gates: EngineGates, entry: TechniqueEntry) -> MismatchInputs:
    """How many tokens a technique may change."""
    section, technique = gates.candidate.config.file.gates.techniques, TECHNIQUES[entry.technique]
    return MismatchInputs(
        metric=f"{entry.technique}_mismatches",
        candidate=gates.candidate.id,
        subject=f"{gates.name} {technique.title}, same tokens",
        technique=entry.technique,
        limit=section.mismatches,
        tie=section.tie,
        alpha=gates.alpha,
        beta=section.beta,
    )


def order_inputs(gates: EngineGates, entry: TechniqueEntry) -> OrderInputs:
    """How many later requests may be served first."""
    return OrderInputs(
        metric="overtaken",
        candidate=gates.candidate.id,
        subject=f"{gates.name} first come, first served",
        technique=entry.technique,
        limit=gates.candidate.config.file.gates.techniques.overtaken,
        alpha=gates.alpha,
    )
