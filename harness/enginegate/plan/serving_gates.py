"""The gates of serving of one engine: what each compares, with what, at which margins."""

from __future__ import annotations

from enginegate.core.serving_records import ServingEntry
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.serving import SloPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.plan.gates import EngineGates
from enginegate.verdicts.inputs import LevelInputs, ServedInputs, SloInputs

#: How many pairs the belief about their spread counts for, as that of launches.
_PRIOR_PAIRS = 4.0


def slo_inputs(gates: EngineGates, entry: ServingEntry) -> SloInputs:
    """The share of requests that keep the service level."""
    file = gates.candidate.config.file
    alpha = gates.alpha
    return SloInputs(
        metric="slo",
        candidate=gates.candidate.id,
        subject=f"{gates.name} at {entry.load.rate:g}/s",
        policy=SloPolicy(share=entry.slo.share, alpha=alpha, beta=file.gates.serving.beta),
        foreign_load_limit=file.arena.foreign_load_limit,
    )


def served_inputs(gates: EngineGates, entry: ServingEntry, latency: str) -> ServedInputs:
    """``ttft``, ``tpot`` or ``e2el`` beside the live base."""
    section, twin = gates.candidate.config.file.gates.serving, gates.facts.base
    return ServedInputs.model_validate(
        {
            "metric": f"serving_{latency}",
            "candidate": gates.candidate.id,
            "subject": f"{gates.name}{twin.head if twin else ''} at {entry.load.rate:g}/s {latency.upper()}",
            "latency": latency,
            "base": twin.id if twin else None,
            "label": twin.label if twin else "",
            "policy": SpeedPolicy(
                margin=section.margin,
                tolerated=section.tolerated,
                alpha=gates.alpha,
                beta=gates.candidate.config.file.gates.speed.beta,
                looks=(gates.candidate.config.file.serving.pairs,),
                shift=ShiftPrior(scale=section.spread, df=_PRIOR_PAIRS),
            ),
            "foreign_load_limit": gates.candidate.config.file.arena.foreign_load_limit,
            "notes": list(twin.notes) if twin else [],
        }
    )


def level_inputs(gates: EngineGates, entry: ServingEntry) -> LevelInputs:
    """The share of requests that keep the service level, beside the live base's."""
    file, twin = gates.candidate.config.file, gates.facts.base
    return LevelInputs(
        metric="serving_level",
        candidate=gates.candidate.id,
        subject=f"{gates.name}{twin.head if twin else ''} at {entry.load.rate:g}/s within {entry.slo}",
        base=twin.id if twin else None,
        policy=QualityPolicy(
            alpha=gates.alpha,
            beta=file.gates.quality.beta,
            visible=file.gates.serving.level_visible,
        ),
        foreign_load_limit=file.arena.foreign_load_limit,
        notes=list(twin.notes) if twin else [],
    )
