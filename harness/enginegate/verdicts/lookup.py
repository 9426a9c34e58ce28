"""Finding the samples of one gate in a run record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from enginegate.config.schema import GatesSection
from enginegate.core.errors import RecordError
from enginegate.core.records import ArenaEntry, EngineEntry, MemoryEntry, QualityEntry, RaceEntry, RunRecord, SweepEntry
from enginegate.core.serving_records import ServingEntry
from enginegate.quality.ties import Results, first_wins, has_column, reader
from enginegate.storage.configured import kept_gates

Entry = TypeVar("Entry")


def beside(record: RunRecord, engine: str) -> RunRecord:
    """What was measured in one session with an engine: of merged shards its own, else all of the record."""
    shard = record.shards.of_engine(engine) if record.shards is not None and record.is_merged else None
    if shard is None or record.shards is None:
        return record
    ours = set(record.shards.engines[shard.number - 1])
    quality = {(entry.engine, entry.metric): entry for entry in (*record.quality, *shard.quality)}
    return record.model_copy(
        update={
            "arenas": [
                entry for entry in record.arenas if ours & ({*entry.contestants, *entry.failures} - {entry.reference})
            ],
            "quality": list(quality.values()),
        }
    )


def arena(record: RunRecord, workload: str) -> ArenaEntry:
    """The arena of one workload."""
    return _one([entry for entry in record.arenas if entry.workload == workload], f"arena {workload}")


def kv_cache(record: RunRecord, reference: str, workload: str) -> ArenaEntry:
    """The race of one engine's KV caches over that of 16 bits."""
    found = [each for each in record.kv_caches if (each.reference, each.workload) == (reference, workload)]
    return _one(found, f"the race of KV caches over {reference} at {workload}")


def sweep(record: RunRecord, engine_id: str) -> SweepEntry:
    """One engine at several sizes of work."""
    return _one([entry for entry in record.sweeps if entry.engine == engine_id], f"the sweep of {engine_id}")


def race(record: RunRecord, head: str) -> RaceEntry:
    """The race of one engine against its live base."""
    return _one([entry for entry in record.races if entry.head.engine == head], f"the race of {head}")


def engine(record: RunRecord, engine_id: str) -> EngineEntry:
    """One engine."""
    return _one([entry for entry in record.engines if entry.id == engine_id], f"engine {engine_id}")


def memory(record: RunRecord, engine_id: str, workload: str) -> MemoryEntry:
    """The memory figures of one engine under one workload."""
    found = [entry for entry in record.memory if entry.engine == engine_id and entry.workload == workload]
    return _one(found, f"memory of {engine_id} at {workload}")


def quality(record: RunRecord, engine_id: str, metric: str) -> QualityEntry:
    """One quality metric of one engine."""
    found = [entry for entry in record.quality if entry.engine == engine_id and entry.metric == metric]
    return _one(found, f"{metric} of {engine_id}")


def serving(record: RunRecord, engine_id: str) -> ServingEntry:
    """Serving of one engine."""
    return _one([entry for entry in record.serving if entry.engine == engine_id], f"serving of {engine_id}")


def gates(record: RunRecord | None) -> GatesSection:
    """The gates as the run was configured; what it does not say has its default, as all has where there is no record.

    Raises RecordError where a value cannot be used.
    """
    return GatesSection() if record is None else kept_gates(record, GatesSection)


def columns(entry: QualityEntry, names: Sequence[str], other: Results | None = None) -> dict[str, list[float]]:
    """Item hash to the named numbers; see ``pick``. Raises RecordError where the entry lacks one."""
    for name in names:
        if not has_column(entry.columns, name):
            raise RecordError(f"{entry.metric} of {entry.engine} has no column {name!r}", "record a new run")
    return pick(entry, names, other)


def pick(scores: Results, names: Sequence[str], other: Results | None = None) -> dict[str, list[float]]:
    """Item hash to the named numbers, all of which are there or follow from others.

    ``other``: what they are compared with; without the items that the two deal with in different ways.
    """
    apart = frozenset[str]()
    if other is not None:
        apart = apart.union(*(first_wins(*pair, name) for name in names for pair in ((scores, other), (other, scores))))
    readers = [reader(scores.columns, name) for name in names]
    return {item: [read(row) for read in readers] for item, row in scores.items.items() if item not in apart}


def _one(found: Sequence[Entry], name: str) -> Entry:
    if len(found) != 1:
        raise RecordError(f"the record holds {len(found)} entries for {name}, not one", "take the run again")
    return found[0]
