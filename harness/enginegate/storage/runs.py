"""Run records on disk: written whole, found by name, checked when read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from enginegate.core.errors import RecordError, edge
from enginegate.core.files import expanded, round_floats, to_json, write_atomically
from enginegate.core.records import SCHEMA, QualityEntry, RunRecord, ShardRun, ShardsEntry
from enginegate.quality.bleu import BLEU_COLUMNS
from enginegate.quality.lm_eval import METRIC as TASK_METRIC
from enginegate.quality.ties import half_right
from enginegate.storage.migration import RECORD
from enginegate.storage.reading import Format, repeated, table_problem
from enginegate.storage.serving import serving_problem
from enginegate.storage.texts import save_texts

#: The name of a run's record inside its folder.
RECORD_NAME = "run.json"

#: Counts of an item's tokens, words or bytes, and sums over them, that nothing comes near.
_MOST = 1e9
#: What the numbers of an item can be, by their column: the suite's own scores make no others. A likelihood is what the
#: engine says it is, so its sign is for the gate to judge.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("acc", "acc_norm", "acc_calibrated", "exact", "rouge1", "rouge2", "rougeL", "rougeLsum"), (0.0, 1.0)
    ),
    **dict.fromkeys((*BLEU_COLUMNS, "length", "reference_length", "tokens", "bytes"), (0.0, _MOST)),
    "nll": (-_MOST, _MOST),
}


def _problem(record: RunRecord) -> str | None:
    """What is there twice, of which one would hide the other, or is laid out otherwise than its columns; or None."""
    named: list[tuple[str, list[str]]] = [
        ("engine", [entry.id for entry in record.engines]),
        _races(record),
        ("memory of", [f"{entry.engine} at {entry.workload}" for entry in record.memory]),
        ("quality:", [f"{entry.metric} of {entry.engine}" for entry in record.quality]),
        ("the sweep of", [entry.engine for entry in record.sweeps]),
        ("the race of KV caches over", [f"{entry.reference} at {entry.workload}" for entry in record.kv_caches]),
        ("serving of", [entry.engine for entry in record.serving]),
        ("techniques:", [f"{entry.technique} of {entry.engine}" for entry in record.techniques]),
    ]
    for arena in (*record.arenas, *record.kv_caches):
        named.append((f"at {arena.workload}, engine", arena.contestants))
        for number, block in enumerate(arena.blocks):
            named.append((f"in block {number} at {arena.workload}, a round of", [turn.engine for turn in block.rounds]))
    for sweep in record.sweeps:
        named.append((f"in the sweep of {sweep.engine}, size", [point.id for point in sweep.points]))
        for number, block in enumerate(sweep.blocks):
            where = f"in block {number} of the sweep of {sweep.engine}, a round of"
            named.append((where, [turn.engine for turn in block.rounds]))
    for what, names in named:
        twice = repeated(names)
        if twice is not None:
            return f"{what} {twice} is there twice"
    libraries = record.fingerprint.context.get("libraries", {})
    if not isinstance(libraries, dict) or not all(isinstance(version, str) for version in libraries.values()):
        return "fingerprint.context.libraries is no object of names to versions"
    for engine in record.engines:
        devices = engine.spec.get("tensor_parallel", 1)
        if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
            return f"spec.tensor_parallel of {engine.id} is no number of devices"
    for entry in (*record.quality, *(each for shard in _held(record) for each in shard.quality)):
        problem = table_problem(entry.columns, entry.items) or _impossible(entry)
        if problem is not None:
            return f"{entry.metric} of {entry.engine}: {problem}"
    return serving_problem(record.serving) or _shards_problem(record.shards)


def _races(record: RunRecord) -> tuple[str, list[str]]:
    """What of the races may be there once: a workload; each engine at it, where shards raced apart."""
    if not record.is_merged:
        return "the race at", [entry.workload for entry in record.arenas]
    turns = ((name, arena) for arena in record.arenas for name in arena.contestants if name != arena.reference)
    return "in a race,", [f"{name} at {arena.workload}" for name, arena in turns]


def _held(record: RunRecord) -> list[ShardRun]:
    return record.shards.held if record.shards is not None else []


def _shards_problem(shards: ShardsEntry | None) -> str | None:
    """What is wrong with the shards of a record: a number that is none, or what is there twice."""
    if shards is None:
        return None
    numbers = [shard.number for shard in shards.held]
    if max(numbers) > len(shards.engines):
        return f"it holds shard {max(numbers)} of {len(shards.engines)}"
    engines = [name for each in shards.engines for name in each]
    for what, names in (("shard", [str(number) for number in numbers]), ("in the shards, engine", engines)):
        twice = repeated(names)
        if twice is not None:
            return f"{what} {twice} is there twice"
    return None


def _impossible(entry: QualityEntry) -> str | None:
    """The first number of an item that is none of its column, or None. NaN is a score that an engine may have.

    A task of lm-eval may call any number by the name of one of ours: its gate looks at them.
    """
    if entry.metric.startswith(TASK_METRIC):
        return None
    for place, column in enumerate(entry.columns):
        if column not in _RANGES:
            continue
        low, high = _RANGES[column]
        for item, row in entry.items.items():
            if row[place] < low or row[place] > high:
                return f"{column} of item {item} is {row[place]:g}, which is not between {low:g} and {high:g}"
    return half_right(entry)


FORMAT = Format(RunRecord, "run record", SCHEMA, RECORD, RecordError, "restore it, or record a new run", _problem)


#: What lies beside the record, in a file of its own.
_BESIDE: dict[str, Any] = {"__all__": {"texts"}}


def save_record(record: RunRecord, folder: Path) -> Path:
    """Write ``<folder>/<record id>/run.json``, and the texts beside it; return its path. Raises RecordError."""
    path = folder / record.id / RECORD_NAME
    hint = "look at that folder, or name another one with --runs DIR"
    with edge(RecordError, f"run record {path} cannot be written", hint):
        beside = {"quality": _BESIDE, "shards": {"held": {"__all__": {"quality": _BESIDE}}}}
        write_atomically(path, to_json(round_floats(record.model_dump(mode="python", exclude=beside))))
        save_texts(record, path.parent)
    return path


def load_record(path: Path) -> RunRecord:
    """Read a run record from its file, or from the folder that holds it. Raises RecordError."""
    file = record_file(path)
    record = FORMAT.read(file)
    if record is None:
        raise RecordError(
            f"there is no run record at {file}", "run pytest first, or name the run's folder or its run.json"
        )
    return record


def record_file(path: Path) -> Path:
    """The file of a run that is named by it or by its folder."""
    return path / RECORD_NAME if os.path.isdir(path) else path  # noqa: PTH112 - Path.is_dir raises for some names


def latest_record(runs: Path) -> Path:
    """The record in ``runs`` that was written last. Raises RecordError where there is none."""
    records = sorted(runs.glob(f"*/{RECORD_NAME}"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name))
    if not records:
        raise RecordError(f"there is no run in {runs}", "run pytest first, or name the runs folder with --runs DIR")
    return records[-1]


def find_record(name: str, runs: Path) -> Path:
    """The record that a command line names: a file, a run's folder, a run id inside ``runs``, or ``latest``."""
    # Those of os.path say no, where those of Path raise: a name that is too long, a folder that may not be entered.
    given = expanded(name)
    if os.path.exists(given):  # noqa: PTH110
        return given
    if name == "latest":
        return latest_record(runs)
    inside = runs / name / RECORD_NAME
    return inside if os.path.isfile(inside) else given  # noqa: PTH113
