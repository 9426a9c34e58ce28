"""Predicted memory beside what the engine, its pool, the allocator and the driver say; from a record alone."""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.records import MemoryEntry, RunRecord

HEADINGS = (
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
NOTE = (
    "MB. law: predicted by the backend's memory law. allocator: handed out by the C library or torch, without mapped"
    " files, with a pool that nobody wrote to yet. driver: as the kernel (pages that were written) or NVML counts, at"
    " the peak. Where weights are mapped and packed anew, the total counts them twice."
)


def memory_rows(record: RunRecord) -> Iterator[list[str]]:
    """A row for each memory pass that was predicted, as text; ``n/a`` for what nobody tells."""
    labels = {engine.id: f"{engine.backend} {engine.precision_label}" for engine in record.engines}
    for entry in record.memory:
        if entry.predicted is not None:
            yield [labels.get(entry.engine, entry.engine), *_cells(entry)]


def _cells(entry: MemoryEntry) -> list[str]:
    law = entry.predicted
    assert law is not None
    batch = entry.workload.partition("-")[0].removeprefix("b")
    figures = (
        *(law.weights, entry.weights, law.kv, entry.kv_budget, entry.kv_used),
        *(law.activations, law.own, law.total, entry.allocator, entry.peak),
    )
    return [batch, *("n/a" if value is None else f"{value / 1e6:.1f}" for value in figures)]
