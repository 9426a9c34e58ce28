"""What every quality measurement has in common: its version, its record, and the refusal of random weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from enginegate.core.errors import CapabilityError, MeasurementError
from enginegate.core.records import AnswersEntry, QualityEntry

if TYPE_CHECKING:
    from enginegate.engines.base import Engine
    from enginegate.models.checkpoint import Checkpoint
    from enginegate.quality.data import Item


def refuse_random_weights(checkpoint: Checkpoint) -> None:
    """Raise CapabilityError where the weights carry no meaning, before anything is built or asked."""
    if checkpoint.random_weights:
        raise CapabilityError(
            f"quality cannot be measured on {checkpoint.source}: its weights are random, so its answers mean nothing",
            "take a model with trained weights, or run tests_perf alone",
        )


def quality_entry(
    engine: Engine,
    metric: str,
    revision: int,
    settings: Mapping[str, object],
    columns: Sequence[str],
    items: Mapping[str, Sequence[float]],
    scores: Mapping[str, float],
    signatures: Mapping[str, str] | None = None,
    ceilings: Mapping[str, Mapping[str, float]] | None = None,
    texts: AnswersEntry | None = None,
) -> QualityEntry:
    """The record of one measurement.

    Args:
        engine: the engine that answered.
        metric: the metric's name.
        revision: raised when the metric's code changes the meaning of its numbers.
        settings: everything besides the items that moves the numbers, such as an output length.
        columns: names of the numbers of an item.
        items: item hash to as many numbers as there are columns.
        scores: the headline scores.
        signatures: how scores of texts are made, by their names.
        ceilings: what the reference's texts score against themselves, by the score's name and by item hash.
        texts: what the engine wrote.
    """
    return QualityEntry(
        engine=engine.spec.id,
        metric=metric,
        version=entry_version(metric, revision, settings, items),
        columns=list(columns),
        items={name: [float(value) for value in items[name]] for name in sorted(items)},
        scores={name: float(value) for name, value in scores.items()},
        signatures=dict(signatures or {}),
        ceilings={name: {item: values[item] for item in sorted(values)} for name, values in (ceilings or {}).items()},
        texts=texts,
    )


def entry_version(
    metric: str, revision: int, settings: Mapping[str, object], hashes: Sequence[str] | Mapping[str, object]
) -> str:
    """For instance ``cloze/1;prefix=none;items=0123456789abcdef``: code, settings, then a digest of the item set."""
    parts = [f"{metric}/{revision}", *(f"{name}={settings[name]}" for name in sorted(settings))]
    return ";".join([*parts, f"items={digest(sorted(hashes))}"])


def with_setting(version: str, name: str, value: object) -> str:
    """A version with one more setting, before its item set."""
    method, _, items = version.rpartition(";items=")
    return f"{method};{name}={value};items={items}"


def method_version(version: str) -> str:
    """The version without its item set: results that share it measure the same thing on the items they share."""
    return version.rpartition(";items=")[0]


def digest(parts: Sequence[object]) -> str:
    """16 hexadecimal digits that stand for a sequence; ``none`` for an empty one."""
    if not parts:
        return "none"
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()[:16]


def mean_column(columns: Sequence[str], rows: Mapping[str, Sequence[float]], name: str) -> float:
    """Plain mean of one column over all items."""
    index = columns.index(name)
    return fmean(row[index] for row in rows.values())


def standard_error(values: Sequence[float]) -> float:
    """Sample standard deviation over the square root of the count; NaN for fewer than two values."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def require_items(items: Sequence[Item], metric: str) -> None:
    """Raise MeasurementError where there is nothing to ask, or the same thing twice."""
    if not items:
        raise MeasurementError(f"{metric}: there are no items to measure on", "give at least one item")
    if len({item.hash for item in items}) < len(items):
        raise MeasurementError(
            f"{metric}: an item occurs more than once, so its results could not be told apart",
            "remove the repeated items",
        )
