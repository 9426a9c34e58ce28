"""Which figures belong to one series: those that agree in everything that is measured, and in how.

What a change may come from (build, library and driver versions, commit, schema) is no part of it: it belongs to the
point. Figures whose digests differ are never put on one line.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import ClassVar

from pydantic import ConfigDict

from enginegate.core.records import RunRecord
from enginegate.storage.summary import Measurement

#: The method of figures from histories that did not keep it.
NOT_KEPT = "not kept"
#: Hexadecimal digits of a digest: at 16, a million series meet by chance once in 30 million histories.
_DIGITS = 16
#: Metrics that are ratios over another engine, which so belongs to what is measured.
RATIOS = frozenset({"speedup", "ttft", "itl"})
_TIMED = frozenset({"latency", "throughput", "ttft_seconds", "itl_seconds", "itl_p95", "itl_p99"})
_FILES = frozenset({"engine_size", "build_seconds"})


@dataclass(frozen=True)
class SeriesKey:
    """What a series measures.

    Attributes:
        model_digest: of the checkpoint; "" where not known, and the engine's name stands for it.
        engine: the engine's short name, for people.
        backend, precision, variant, runtime_digest: which engine; see core.identity.EngineRef.
        workload: what it was asked to do; "" for figures of the engine as a whole.
        metric, unit: what was counted.
        machine: key of the machine's fingerprint.
        method: how it was measured, with what a ratio is over.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model_digest: str
    engine: str
    backend: str
    precision: str
    variant: str
    runtime_digest: str
    workload: str
    metric: str
    unit: str
    machine: str
    method: str

    @cached_property
    def digest(self) -> str:
        """The name of the series. The engine's name counts only where the model's digest is not known."""
        counted = asdict(self)
        if self.model_digest:
            del counted["engine"]
        canonical = json.dumps(counted, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]

    def row(self) -> dict[str, str]:
        """Its row in the table of series."""
        return {"digest": self.digest, **asdict(self)}


def series_keys(record: RunRecord, figures: list[Measurement]) -> list[SeriesKey]:
    """The series of each figure of a run, in their order."""
    engines = {entry.id: entry for entry in record.engines}
    methods = _Methods(record)
    keys = []
    for item in figures:
        entry = engines.get(item.engine)
        keys.append(
            SeriesKey(
                model_digest=record.model.digest,
                engine=item.engine,
                backend=entry.backend if entry else "",
                precision=entry.precision if entry else "",
                variant=entry.variant if entry else "",
                runtime_digest=entry.runtime_digest if entry else "",
                workload=item.workload,
                metric=item.metric,
                unit=item.unit,
                machine=record.fingerprint.key,
                # An engine that the record does not describe is told by its name alone.
                method=methods.of(item) if entry else f"{methods.of(item)}; engine {item.engine}",
            )
        )
    return keys


class _Methods:
    """How the figures of one run were measured."""

    def __init__(self, record: RunRecord) -> None:
        self._arenas = {arena.workload: arena for arena in record.arenas}
        self._served = {(entry.engine, entry.load.id): entry for entry in record.serving}
        self._devices = {(entry.engine, entry.workload): entry.device for entry in record.memory}
        self._quality = {(entry.engine, entry.metric): entry.version for entry in record.quality}
        self._verdicts = {(each.engine, each.workload or "", each.metric): each for each in record.verdicts}
        self._names = {entry.id: f"{entry.backend}-{entry.precision_label}" for entry in record.engines}
        self._runtimes = {entry.id: entry.runtime_digest for entry in record.engines}

    def of(self, item: Measurement) -> str:
        verdict = self._verdicts.get((item.engine, item.workload, item.metric))
        if item.metric in _TIMED or item.metric in RATIOS:
            if verdict is not None and verdict.is_raced:
                return "launches beside a live base"
            arena = self._arenas.get(item.workload)
            how = "rounds" if arena is None else f"rounds, seed {arena.seed}"
            if item.metric in RATIOS and arena is not None:
                reference = arena.reference
                over = self._names.get(reference, reference)
                return f"{how}, over {over} {self._runtimes.get(reference, '')}".rstrip()
            return how
        served = self._served.get((item.engine, item.workload))
        if served is not None and item.metric.startswith("serving_"):
            load = served.load
            source = f", from {load.source}" if load.source else ""
            beside = ", beside a live base" if served.base else ""
            level = f", level {served.slo}" if item.metric == "serving_goodput" else ""
            return f"{load}{source}, seed {load.seed}{beside}{level}"
        if (item.engine, item.workload) in self._devices and item.unit == "bytes":
            return f"process of its own on {self._devices[item.engine, item.workload]}"
        if item.metric in _FILES:
            return "files"
        quality = self._quality.get((item.engine, item.metric.partition(".")[0]))
        if quality is None:
            quality = self._quality.get((item.engine, item.metric.rpartition(".")[0]))
        return quality if quality is not None else "verdict" if verdict is not None else "figure"
