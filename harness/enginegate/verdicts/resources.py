"""Gates on memory, engine size and build time, from a record."""

from __future__ import annotations

from enginegate.core.errors import MeasurementError
from enginegate.core.records import RunRecord
from enginegate.gates.resources import judge_build_time, judge_memory, judge_size
from enginegate.gates.verdict import Verdict
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import BuildTimeInputs, MemoryInputs, SizeInputs


def judge_memory_gate(inputs: MemoryInputs, record: RunRecord) -> Verdict:
    """One figure of a memory pass against its baseline or limit."""
    value = getattr(lookup.memory(record, inputs.candidate, inputs.workload), inputs.field)
    if value is None:
        raise MeasurementError(f"{inputs.subject}: the engine does not tell its {inputs.field}")
    return judge_memory(
        value,
        inputs.baseline,
        quantum=inputs.quantum,
        relative=inputs.relative,
        limit=inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
    )


def judge_size_gate(inputs: SizeInputs, record: RunRecord) -> Verdict:
    """Bytes of the engine's files."""
    value = lookup.engine(record, inputs.candidate).size_bytes
    return judge_size(value, inputs.baseline, limit=inputs.limit, subject=inputs.subject)


def judge_build_time_gate(inputs: BuildTimeInputs, record: RunRecord) -> Verdict:
    """Seconds that building the engine took; advisory."""
    value = lookup.engine(record, inputs.candidate).build_seconds
    return judge_build_time(value, inputs.baseline, subject=inputs.subject)
