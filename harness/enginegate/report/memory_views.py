"""Predicted memory beside what the engine, its pool, the allocator and the driver say; from a record alone."""

from __future__ import annotations

from enginegate.core.records import MemoryEntry, MemoryParts, RunRecord
from enginegate.report.side_table import SideTable

_HEADINGS = (
    "Engine",
    "Batch",
    "Weights law",
    "engine",
    "KV law",
    "engine",
    "pool",
    "Activations law",
    "Own law",
    "Total law",
    "allocator",
    "driver",
)
#: What stands under the table.
_NOTE = (
    "law: predicted by the backend's memory law. allocator: handed out by the C library or torch, without mapped"
    " files, with a pool that nobody wrote to yet. driver: as the kernel (pages that were written) or NVML counts, at"
    " the peak. Where weights are mapped and packed anew, the total counts them twice."
)


def memory_table(record: RunRecord) -> SideTable | None:
    """A row for each memory pass that was predicted; None where none was."""
    labels = {engine.id: f"{engine.backend} {engine.precision_label}" for engine in record.engines}
    rows = tuple(
        (labels.get(entry.engine, entry.engine), *_cells(entry, entry.predicted))
        for entry in record.memory
        if entry.predicted is not None
    )
    title = f"{record.model.label}: memory as predicted, and in four views (MB)"
    return SideTable("memory_views", title, _HEADINGS, rows, (_NOTE,), brief=False) if rows else None


def _cells(entry: MemoryEntry, law: MemoryParts) -> tuple[str, ...]:
    batch = entry.workload.partition("-")[0].removeprefix("b")
    figures = (
        *(law.weights, entry.weights, law.kv, entry.kv_budget, entry.kv_used),
        *(law.activations, law.own, law.total, entry.allocator, entry.peak),
    )
    return (batch, *("" if value is None else f"{value / 1e6:.1f}" for value in figures))
