"""The shards of one session: what each says of itself in its record, and their records as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from enginegate.core.errors import RecordError
from enginegate.core.records import Fingerprint, QualityEntry, RunRecord, ShardRun, ShardsEntry
from enginegate.plan.plan import Plan
from enginegate.session.recording import merge_records
from enginegate.verdicts.joint import joint_verdicts

#: What the records of all shards have in common, and those of one model besides, by what a message calls it.
_SESSION: Mapping[str, Callable[[RunRecord], object]] = MappingProxyType(
    {
        "the version of enginegate": lambda record: record.enginegate,
        "the commit": lambda record: record.commit,
        "the models": lambda record: _shards(record).models,
        "the number of shards": lambda record: len(_shards(record).engines),
        "what the whole session tests (tests, engines, options)": lambda record: _shards(record).plan,
    }
)
_MODEL: Mapping[str, Callable[[RunRecord], object]] = MappingProxyType(
    {
        "the checkpoint": lambda record: record.model.digest,
        "the configuration": lambda record: record.config,
        "what is installed": lambda record: dict(line.partition("==")[::2] for line in record.installed),
        "what each shard runs": lambda record: _shards(record).engines,
    }
)


def own_shard(plan: Plan, model: str, run: str, started: str, base: str) -> ShardsEntry | None:
    """What the record of one model says of the shard that made it; None where the session has no shards.

    Args:
        plan: the session's.
        model: its name.
        run, started: id of the record, and when the session began.
        base: the commit of the live base, or empty.
    """
    if plan.shard is None:
        return None
    model_of = {each.id: each.config.name for each in plan.selection.candidates}
    return ShardsEntry(
        plan=plan.digest,
        base=base,
        models=sorted({model_of[engine] for engines in plan.dealt for engine in engines}),
        engines=[[engine for engine in engines if model_of[engine] == model] for engines in plan.dealt],
        held=[ShardRun(number=plan.shard.number, run=run, started=started, machine=plan.machine.key)],
    )


def merge_shards(parts: Sequence[RunRecord], run: str) -> list[RunRecord]:
    """The records of one session's shards as those of the session: one for each of its models.

    Verdicts are those of the shards; speed and quality are taken together anew, over the whole. What is missing makes
    a record partial, and is said in its warnings.

    Args:
        parts: of the shards, in any order; of several models where the session tests several.
        run: id of the session that they become.

    Raises:
        RecordError: one is no shard, two are not of one session, or a shard is there twice.
    """
    models = _shards(parts[0]).models
    for part in parts[1:]:
        _refuse_stranger(parts[0], part, _SESSION)
    merged = []
    for model in models:
        ours = sorted((part for part in parts if part.model.name == model), key=_number)
        for part in ours[1:]:
            _refuse_stranger(ours[0], part, _MODEL)
        for one, other in pairwise(ours):
            if _number(one) == _number(other):
                which = (
                    f"run {one.id} is named twice"
                    if one.id == other.id
                    else f"runs {one.id} and {other.id} are both it"
                )
                raise RecordError(
                    f"shard {_number(one)} of {len(_shards(one).engines)}: {which}", "name each shard once"
                )
        if ours:
            merged.append(_merged(ours, f"{run}-{model}" if len(models) > 1 else run))
    return merged


def missing_shards(record: RunRecord) -> list[int]:
    """Numbers of the shards that were to run engines of a record's model, and are not in it."""
    shards = record.shards
    if shards is None:
        return []
    held = {shard.number for shard in shards.held}
    return [number for number, engines in enumerate(shards.engines, 1) if engines and number not in held]


def missing_models(records: Sequence[RunRecord]) -> list[str]:
    """Models of the session of which no shard was merged at all."""
    there = {record.model.name for record in records}
    shards = records[0].shards
    return [model for model in (shards.models if shards is not None else ()) if model not in there]


def _merged(parts: Sequence[RunRecord], run: str) -> RunRecord:
    """The shards of one model that belong together, in order."""
    tested = [set(_shards(part).engines[_number(part) - 1]) for part in parts]
    everywhere = {engine for own in tested for engine in own}
    kept = [_without(part, everywhere - own) for part, own in zip(parts, tested, strict=True)]
    whole = merge_records(kept, run, "complete", [])
    held = [
        _shards(part).held[0].model_copy(update={"quality": _otherwise(part.quality, whole.quality)}) for part in parts
    ]
    record = whole.model_copy(
        update={
            "started": min(part.started for part in parts),
            "finished": max(part.finished for part in parts),
            "arguments": _without_shard(parts[0].arguments),
            "fingerprint": _machine(parts),
            "arenas": [arena for part in parts for arena in part.arenas],  # shards race apart, at one workload, too
            "quality_planned": sorted({engine for part in parts for engine in part.quality_planned}),
            "shards": _shards(parts[0]).model_copy(update={"base": _base(parts), "held": held}),
        }
    )
    status = "partial" if missing_shards(record) else whole.status
    told = {"warnings": [*_warnings(parts, record)], "status": status, "joint": joint_verdicts(record)}
    return record.model_copy(update=told)


def _without(part: RunRecord, engines: set[str]) -> RunRecord:
    """A shard without what it has of engines that other shards test: here they were a reference."""
    return part.model_copy(
        update={
            "engines": [entry for entry in part.engines if entry.id not in engines],
            "memory": [entry for entry in part.memory if entry.engine not in engines],
            "quality": [entry for entry in part.quality if entry.engine not in engines],
        }
    )


def _otherwise(measured: Sequence[QualityEntry], merged: Sequence[QualityEntry]) -> list[QualityEntry]:
    """The scores of a shard that are not those of the merged record: by them its verdicts are recomputed."""
    kept = {(entry.engine, entry.metric): entry for entry in merged}
    return [entry for entry in measured if kept.get((entry.engine, entry.metric)) != entry]


def _machine(parts: Sequence[RunRecord]) -> Fingerprint:
    """The machine of all shards; of several kinds, one of no real machine, so that nothing is compared with it."""
    keys = {str(_number(part)): part.fingerprint.key for part in parts}
    count = len(set(keys.values()))
    if count == 1:
        return parts[0].fingerprint
    digest = hashlib.sha256(" ".join(sorted(set(keys.values()))).encode()).hexdigest()[:8]
    return Fingerprint(key=f"{count}-machines-{digest}", identity={"shards": keys}, context={})


def _warnings(parts: Sequence[RunRecord], record: RunRecord) -> Iterator[str]:
    if len(record.machines) > 1:
        yield (
            f"the shards ran on {len(record.machines)} kinds of machine ({', '.join(record.machines)}): each verdict"
            " and each ratio holds on its own; times and memory of engines of different shards cannot be compared"
        )
    assert record.shards is not None
    for number in missing_shards(record):
        yield f"shard {number} is missing, with {', '.join(record.shards.engines[number - 1])}"
    for part in parts:
        if part.status == "partial":
            yield f"shard {_number(part)} did not come to its end, or has tests without a verdict: run {part.id}"
        yield from (f"shard {_number(part)}: {line}" for line in part.warnings)


def _base(parts: Sequence[RunRecord]) -> str:
    """The commit that all shards were compared with; empty where they had none. Raises RecordError for two."""
    with_base = [part for part in parts if _shards(part).base]
    for part in with_base[1:]:
        _refuse_stranger(with_base[0], part, {"the commit of the base": lambda record: _shards(record).base})
    return _shards(with_base[0]).base if with_base else ""


def _shards(record: RunRecord) -> ShardsEntry:
    """Raises RecordError where a record is not that of one shard."""
    shards = record.shards
    if shards is None:
        raise RecordError(
            f"run {record.id} is no shard of a session",
            "name runs of pytest with --shard I/N; `enginegate report` joins tables",
        )
    if record.is_merged:
        raise RecordError(f"run {record.id} is merged already", "name the runs of its shards")
    return shards


def _number(record: RunRecord) -> int:
    return _shards(record).held[0].number


def _refuse_stranger(one: RunRecord, other: RunRecord, common: Mapping[str, Callable[[RunRecord], object]]) -> None:
    """Raise RecordError where two records are not of one session, and say by what."""
    for what, of in common.items():
        if of(one) != of(other):
            raise RecordError(
                f"runs {one.id} and {other.id} are no shards of one session: {what} differs:"
                f" {_difference(of(one), of(other))}",
                "merge the shards of one commit, one command line and one environment",
            )


def _difference(one: object, other: object, place: str = "") -> str:
    """The first difference of two values, for people; of objects, the first key that differs."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        key = next(key for key in sorted({*one, *other}, key=str) if one.get(key) != other.get(key))
        return _difference(one.get(key), other.get(key), f"{place}.{key}" if place else str(key))
    said = f"{_shown(one)} and {_shown(other)}"
    return f"{place}: {said}" if place else said


def _shown(value: object) -> str:
    return "none" if value is None or value == "" else str(value)


def _without_shard(arguments: Sequence[str]) -> list[str]:
    """A command line without the option that says which shard."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        named = name in ("--shard", "--eg-shard")
        if not named and not skip:
            kept.append(argument)
        skip = named and not equals
    return kept
