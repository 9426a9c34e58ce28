"""Gates on KV caches of less than 16 bits, from a record."""

from __future__ import annotations

from enginegate.core.errors import MeasurementError
from enginegate.core.records import RunRecord
from enginegate.gates.kv_cache import judge_kv_bytes
from enginegate.gates.verdict import Verdict
from enginegate.verdicts import lookup
from enginegate.verdicts.inputs import KvBytesInputs, KvSpeedInputs, SpeedInputs, StoredFloor
from enginegate.verdicts.speed import judge_arena

#: Element types of 16 bits.
_WIDE = ("fp16", "bf16")


def judge_kv_bytes_gate(inputs: KvBytesInputs, record: RunRecord) -> Verdict:
    """Bytes of a token in two pools. Raises MeasurementError where one does not tell, or the other has no 16 bits."""
    wide = lookup.engine(record, inputs.reference).effective
    if wide.get("kv_precision") not in _WIDE:
        raise MeasurementError(
            f"{inputs.reference} keeps its KV cache in {wide.get('kv_precision')}, not in 16 bits",
            "set kv_precision to fp16 or bf16 in its variant",
        )
    return judge_kv_bytes(
        token_bytes(record, inputs.candidate),
        token_bytes(record, inputs.reference),
        inputs.limit,
        metric=inputs.metric,
        subject=inputs.subject,
        reference=inputs.reference,
    )


def token_bytes(record: RunRecord, engine: str) -> float:
    """Bytes of one token in the pool of a running engine: all bytes over all blocks. Raises MeasurementError."""
    told = lookup.engine(record, engine).effective
    names = ("kv_pool_bytes", "kv_blocks", "tokens_per_block")
    missing = [name for name in names if not isinstance(told.get(name), int) or told[name] <= 0]
    if missing:
        raise MeasurementError(
            f"{engine} does not tell {', '.join(missing)} of its KV pool",
            "its backend states them in effective(): docs/adding_a_backend.md",
        )
    return float(told["kv_pool_bytes"] / (told["kv_blocks"] * told["tokens_per_block"]))


def speed_inputs(inputs: KvSpeedInputs) -> SpeedInputs:
    """As the gate of any speed takes them."""
    return SpeedInputs(
        metric="speedup",
        candidate=inputs.candidate,
        subject=inputs.subject,
        workload=inputs.workload,
        reference=inputs.reference,
        reference_label=inputs.reference_label,
        against=StoredFloor(ratio=inputs.floor),
        policy=inputs.policy,
    )


def judge_kv_speed_gate(inputs: KvSpeedInputs, record: RunRecord) -> Verdict:
    """Speed over 16 bits at the same work."""
    entry = lookup.kv_cache(record, inputs.reference, inputs.workload)
    return judge_arena(speed_inputs(inputs), entry, record, inputs.metric)
