"""Is there a baseline? That question comes before whether the samples suffice, in every gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.records import RunRecord
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.speed import judge_speed, replay_speed
from enginegate.gates.verdict import Status, compared_first
from enginegate.quality.bleu import BLEU_COLUMNS
from enginegate.verdicts import judge as judging
from enginegate.verdicts.inputs import (
    AccuracyInputs,
    BuildTimeInputs,
    CorpusInputs,
    DivergenceInputs,
    FlipsInputs,
    GateInputs,
    KvBytesInputs,
    KvSpeedInputs,
    LengthsInputs,
    LevelInputs,
    MemoryInputs,
    MemoryLawInputs,
    MismatchInputs,
    NllInputs,
    OrderInputs,
    ScalingInputs,
    ServedInputs,
    SizeInputs,
    SloInputs,
    SpeedInputs,
    StoredFloor,
    StoredSessions,
    TechniqueInputs,
    UnpairedInputs,
)
from enginegate.verdicts.judge import judge

from tests_harness.storage.factory import REFERENCE, engine_entry, memory_entry, quality_entry, run_record

INT8, WORKLOAD = "tiny-8m-openvino-int8_wo", "b1-i64-o64"
#: Fewer than any gate wants.
ITEMS = 3


def few(blocks: int = 3) -> RunRecord:
    """A session that was cut short: three blocks, three items of each metric."""
    record = run_record()
    arenas = [arena.model_copy(update={"blocks": arena.blocks[:blocks]}) for arena in record.arenas]
    return record.model_copy(
        update={
            "arenas": arenas,
            "memory": [memory_entry(INT8)],
            "engines": [engine_entry(REFERENCE, "reference"), engine_entry(INT8)],
            "quality": [quality_entry(name, metric, items=ITEMS) for name in (REFERENCE, INT8) for metric in METRICS],
        }
    )


METRICS = ("cloze", "similarity", "summaries", "perplexity", "divergence")
COMMON: Mapping[str, Any] = {"metric": "m", "candidate": INT8, "subject": ""}
QUALITY: Mapping[str, Any] = {**COMMON, "reference": None, "baseline": None, "policy": QualityPolicy()}


def corpus(metric: str, columns: list[str], score: str) -> CorpusInputs:
    return CorpusInputs(**QUALITY, source=metric, columns=columns, limit=None, score=score, unit="")


#: Every gate, without anything to compare with.
WITHOUT: dict[str, GateInputs] = {
    **{
        metric: SpeedInputs(
            **{**COMMON, "metric": metric},
            workload=WORKLOAD,
            reference=REFERENCE,
            reference_label="",
            against=None,
            policy=SpeedPolicy(),
        )
        for metric in ("speedup", "ttft", "itl")
    },
    "memory": MemoryInputs(
        **COMMON, workload=WORKLOAD, field="peak", baseline=None, limit=None, relative=0.0, quantum=0
    ),
    "memory law": MemoryLawInputs(**COMMON, workload=WORKLOAD, predicted=False, tolerated=0.05),
    "size": SizeInputs(**COMMON, baseline=None, limit=None),
    "build time": BuildTimeInputs(**COMMON, baseline=None),
    "accuracy": AccuracyInputs(**QUALITY, source="cloze", columns=["acc_norm"], limit=None),
    "flips": FlipsInputs(**QUALITY, source="cloze", columns=["chosen_norm"], limit=0.1),
    "bleu": corpus("similarity", list(BLEU_COLUMNS), "bleu"),
    "rouge": corpus("summaries", ["rougeL"], "mean"),
    "perplexity": NllInputs(**QUALITY, source="perplexity", columns=["nll", "tokens"], limit=None),
    "divergence": DivergenceInputs(**QUALITY, source="divergence", columns=["kld", "tokens"], limit=None, floor=0.001),
    "unpaired": UnpairedInputs(
        **COMMON,
        sessions=[],
        samples=[1.0],
        margin=0.05,
        tolerated=None,
        alpha=0.01,
        beta=0.05,
        higher_is_better=False,
        shift=SpeedPolicy().shift,
    ),
}


#: Gates of runs under load, without anything to compare with.
UNDER_LOAD: tuple[GateInputs, ...] = (
    ServedInputs(**COMMON, latency="ttft", base=None, label="", policy=SpeedPolicy(), foreign_load_limit=0.1),
    LevelInputs(**COMMON, base=None, policy=QualityPolicy(), foreign_load_limit=0.1),
    TechniqueInputs(**COMMON, technique="ngram", figure="tokens", higher=True, floor=None, alpha=0.01, beta=0.05),
)


@pytest.mark.parametrize("name", WITHOUT)
def test_without_a_baseline_few_samples_are_no_baseline(name: str) -> None:
    """A speed-up of three blocks was INCONCLUSIVE, which --require-baseline lets pass."""
    assert judge(WITHOUT[name], few()).status is Status.NO_BASELINE


def test_every_gate_is_asked() -> None:
    """Some can always compare: with the reference's lengths, with 16 bits of the same engine, with half the size."""
    among_themselves = {
        LengthsInputs,
        KvBytesInputs,
        KvSpeedInputs,
        ScalingInputs,
        SloInputs,
        MismatchInputs,
        OrderInputs,
    }
    asked = {type(each) for each in (*WITHOUT.values(), *UNDER_LOAD)}
    assert asked | among_themselves == set(judging._JUDGES)
    assert not any(each.comparable for each in UNDER_LOAD)
    lengths = LengthsInputs(**QUALITY, source="similarity", columns=["length", "reference_length"], limit=0.9)
    assert lengths.comparable
    assert judge(lengths, few()).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("ask", [judge_speed, replay_speed])
def test_the_speed_gate_by_itself(blocks: int, ask: Callable[..., Any]) -> None:
    more = {"final": True} if ask is judge_speed else {}
    verdict = ask([0.5] * blocks, None, SpeedPolicy(), **more)
    assert verdict.status is Status.NO_BASELINE
    assert "there is no baseline to compare with" in verdict.explanation
    assert f"only {blocks} blocks" in verdict.explanation


def test_with_a_baseline_few_samples_decide_nothing() -> None:
    inputs = WITHOUT["speedup"]
    for against in (StoredFloor(ratio=1.0), StoredSessions(sessions=[[0.9, 0.91, 0.92, 0.9]])):
        verdict = judge(inputs.model_copy(update={"against": against}), few())
        assert verdict.status is Status.INCONCLUSIVE, "more blocks would help"


def test_samples_that_cannot_be_used_are_worse_than_no_baseline() -> None:
    verdict = judge_speed([0.5, float("nan")], None, SpeedPolicy(), final=True)
    assert verdict is not None
    assert verdict.status is Status.FAIL
    with pytest.raises(MeasurementError, match="no blocks"):
        judge(WITHOUT["speedup"], few(blocks=0))


@pytest.mark.parametrize("status", Status)
def test_only_a_failure_stands_without_a_baseline(status: Status) -> None:
    verdict = judge(WITHOUT["size"], few())
    given = type(verdict)(**{**vars(verdict), "status": status})
    assert compared_first(given, True) == given
    assert compared_first(given, False).status is (Status.FAIL if status is Status.FAIL else Status.NO_BASELINE)
