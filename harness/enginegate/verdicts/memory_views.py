"""The gate on predicted against measured memory, from a record."""

from __future__ import annotations

from enginegate.core.records import RunRecord
from enginegate.gates.memory_views import judge_views
from enginegate.gates.verdict import Verdict
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import MemoryLawInputs


def judge_memory_law_gate(inputs: MemoryLawInputs, record: RunRecord) -> Verdict:
    """Every view of one memory pass against the prediction that lies beside it."""
    entry = lookup.memory(record, inputs.candidate, inputs.workload)
    parts = entry.predicted
    views = {"the engine says": entry.kv_budget, "its pool has": entry.kv_used}
    if parts is not None and not parts.whole_pool:
        views = {}  # the cache grows, and is gone once the answer is
    return judge_views(
        kv=0 if parts is None else parts.kv,
        kv_views={} if parts is None else views,
        at_most=inputs.at_most,
        total=None if parts is None else parts.total,
        measured=entry.peak,
        tolerated=inputs.tolerated,
        spread=0 if parts is None else parts.spread,
        unsure="" if parts is None else parts.unsure,
        metric=inputs.metric,
        subject=inputs.subject,
    )
