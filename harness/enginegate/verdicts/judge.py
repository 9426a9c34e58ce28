"""From a record to a verdict: what a session concluded can be recomputed from its run record alone.

``judge`` is the only way from a gate's inputs and the samples of a record to a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enginegate.core.errors import RecordError
from enginegate.core.records import RunRecord
from enginegate.gates.verdict import Verdict, compared_first
from enginegate.verdicts import inputs
from enginegate.verdicts.kv_cache import judge_kv_bytes_gate, judge_kv_speed_gate
from enginegate.verdicts.lookup import beside
from enginegate.verdicts.memory_views import judge_memory_law_gate
from enginegate.verdicts.quality import (
    judge_accuracy_gate,
    judge_corpus_gate,
    judge_divergence_gate,
    judge_flips_gate,
    judge_lengths_gate,
    judge_nll_gate,
)
from enginegate.verdicts.resources import judge_build_time_gate, judge_memory_gate, judge_size_gate
from enginegate.verdicts.scaling import judge_scaling_gate
from enginegate.verdicts.serving import judge_level_gate, judge_served_gate, judge_slo_gate
from enginegate.verdicts.speed import judge_speed_gate, judge_unpaired_gate
from enginegate.verdicts.techniques import judge_mismatch_gate, judge_order_gate, judge_technique_gate

_JUDGES: dict[type[inputs.GateInputs], Callable[[Any, Any], Verdict]] = {
    inputs.SpeedInputs: judge_speed_gate,
    inputs.MemoryInputs: judge_memory_gate,
    inputs.MemoryLawInputs: judge_memory_law_gate,
    inputs.SizeInputs: judge_size_gate,
    inputs.BuildTimeInputs: judge_build_time_gate,
    inputs.AccuracyInputs: judge_accuracy_gate,
    inputs.CorpusInputs: judge_corpus_gate,
    inputs.NllInputs: judge_nll_gate,
    inputs.DivergenceInputs: judge_divergence_gate,
    inputs.FlipsInputs: judge_flips_gate,
    inputs.LengthsInputs: judge_lengths_gate,
    inputs.KvBytesInputs: judge_kv_bytes_gate,
    inputs.KvSpeedInputs: judge_kv_speed_gate,
    inputs.ScalingInputs: judge_scaling_gate,
    inputs.SloInputs: judge_slo_gate,
    inputs.ServedInputs: judge_served_gate,
    inputs.LevelInputs: judge_level_gate,
    inputs.TechniqueInputs: judge_technique_gate,
    inputs.MismatchInputs: judge_mismatch_gate,
    inputs.OrderInputs: judge_order_gate,
    inputs.UnpairedInputs: judge_unpaired_gate,
}


def judge(gate: inputs.GateInputs, record: RunRecord | None) -> Verdict:
    """The verdict that a gate's inputs give on the samples of ``record``.

    Only unpaired samples, which are all in the inputs, need no record. Whatever a gate makes of the samples, without
    anything to compare them with it says NO_BASELINE, or FAIL where they cannot be used.

    Raises:
        RecordError: the inputs name samples that are not there.
        MeasurementError: the samples are not what the gate can read.
    """
    if record is None and not isinstance(gate, inputs.UnpairedInputs):
        raise RecordError(f"the gate of {gate.metric} needs a run record", "name one")
    own = None if record is None else beside(record, gate.candidate)
    return compared_first(_JUDGES[type(gate)](gate, own), gate.comparable)
