"""Accepted baselines: what a later run is compared with. Loading fails closed; only ``enginegate accept`` writes.

baselines/quality/<model>/<backend>-<precision>.json         per-item scores, independent of hardware
baselines/perf/<fingerprint key>/<model>/<workload>.json     log ratios of several sessions, memory, sizes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field, ValidationError

from enginegate.core.errors import BaselineError
from enginegate.core.files import first_problem
from enginegate.core.records import Stored
from enginegate.quality.entry import method_version

#: Raised when the meaning of a stored field changes; a baseline of another schema is refused.
SCHEMA = 1

#: Sessions kept for each engine and workload, newest last.
MAX_SESSIONS = 10

#: Said wherever a baseline cannot be used.
RECORD_NEW = "record a new one: move it away, run pytest, review the run, then `enginegate accept RUN`"


class EngineName(Protocol):
    """What a quality baseline is filed under; an EngineSpec and an EngineEntry both have it."""

    @property
    def backend(self) -> str:
        """The backend's name."""

    @property
    def precision(self) -> str:
        """The precision's name."""


class Provenance(Stored):
    """Where accepted numbers come from: the run, when and at which commit it was taken, and with what.

    ``versions`` has ``enginegate`` and the library versions of the ``engine`` and of the ``reference``.
    """

    run: str
    started: str
    commit: str
    fingerprint: str
    versions: dict[str, str]


class QualityMetric(Stored):
    """One metric's per-item numbers, as in QualityEntry, and the run they were accepted from."""

    provenance: Provenance
    version: str
    columns: list[str]
    items: dict[str, list[float]]
    scores: dict[str, float]


class QualityBaseline(Stored):
    """Accepted quality of one engine, whatever the hardware."""

    schema_version: int = SCHEMA
    model: str
    model_digest: str
    backend: str
    precision: str
    metrics: dict[str, QualityMetric]

    def metric(self, name: str, version: str) -> QualityMetric | None:
        """The metric's accepted items, or None where none were accepted. Their set may differ from the run's.

        Raises:
            BaselineError: they were scored by another version of the metric's code or with other settings.
        """
        found = self.metrics.get(name)
        if found is not None and not same_method(found.version, version):
            raise BaselineError(
                f"the quality baseline of {self.model} on {self.backend}-{self.precision} holds {name} of version"
                f" {found.version}, this run measures version {version}",
                RECORD_NEW,
            )
        return found

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs it was accepted from."""
        return frozenset(metric.provenance.run for metric in self.metrics.values())


class MemoryFigures(Stored):
    """Memory in bytes, as in MemoryEntry, and the run it was accepted from."""

    provenance: Provenance
    disk: int
    loaded: int
    peak: int
    kv_predicted: int | None
    kv_used: int | None
    kv_budget: int | None


class PerfSession(Stored):
    """One accepted session of one engine.

    Attributes:
        provenance: the run it comes from.
        size_bytes: size of the built engine on disk.
        build_seconds: what building it took.
        log_ratios: ``log(t_reference / t_engine)`` of every block, by metric (``speedup``, ``ttft``, ``itl``).
        orders: of every block, +1 where the reference ran first, else -1; empty where the blocks alternate.
    """

    provenance: Provenance
    size_bytes: int
    build_seconds: float
    log_ratios: dict[str, list[float]]
    orders: list[int] = Field(default_factory=list)


class PerfEngine(Stored):
    """What is accepted of one engine at one workload. Sessions are in the order they were accepted, newest last."""

    sessions: list[PerfSession] = Field(default_factory=list)
    memory: MemoryFigures | None = None

    def log_ratios(self, metric: str) -> list[list[float]]:
        """The metric's samples, one list for each accepted session that has them."""
        return [entry.log_ratios[metric] for entry in self.sessions if entry.log_ratios.get(metric)]

    def orders(self, metric: str) -> list[list[int]]:
        """The orders of the blocks of those sessions; an empty list for one whose blocks alternate."""
        return [entry.orders for entry in self.sessions if entry.log_ratios.get(metric)]

    @property
    def provenance(self) -> list[Provenance]:
        """Every run that this was accepted from."""
        found = [entry.provenance for entry in self.sessions]
        return [*found, self.memory.provenance] if self.memory else found


class PerfBaseline(Stored):
    """Accepted speed and memory of every engine at one workload on one kind of machine.

    ``reference`` is the engine id that every ratio is taken over, or "" while only memory was accepted.
    """

    schema_version: int = SCHEMA
    model: str
    model_digest: str
    fingerprint: str
    workload: str
    reference: str
    engines: dict[str, PerfEngine]

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs it was accepted from."""
        return frozenset(entry.run for engine in self.engines.values() for entry in engine.provenance)

    def version_changes(self, engine: str, versions: Mapping[str, str]) -> list[str]:
        """Sentences on libraries that differ from those of the newest accepted session of ``engine``.

        A ratio moves when the reference's library changes, though the engine did not.
        """
        sessions = self.engines[engine].sessions if engine in self.engines else []
        accepted = sessions[-1].provenance.versions if sessions else {}
        return [
            f"the baseline was taken with {role} {accepted[role]}, this run with {version}"
            for role, version in versions.items()
            if accepted.get(role, version) != version
        ]


def same_method(first: str, second: str) -> bool:
    """Whether two versions of a metric measure the same thing, if not on the same items.

    A version that names no item set is compared whole.
    """
    return (method_version(first) or first) == (method_version(second) or second)


def quality_path(root: Path, model: str, engine: EngineName) -> Path:
    """Where the quality baseline of one engine lies."""
    return root / "quality" / _part(model) / f"{_part(engine.backend)}-{_part(engine.precision)}.json"


def perf_path(root: Path, fingerprint: str, model: str, workload: str) -> Path:
    """Where the perf baseline of one workload on one kind of machine lies."""
    return root / "perf" / _part(fingerprint) / _part(model) / f"{_part(workload)}.json"


def load_quality(root: Path, model: str, digest: str, engine: EngineName) -> QualityBaseline | None:
    """The quality baseline of one engine, or None where none was accepted.

    Args:
        root: the baselines folder.
        model: the model's name.
        digest: digest of the checkpoint that is tested now.
        engine: backend and precision.

    Raises:
        BaselineError: it is damaged, of another schema, or of another checkpoint.
    """
    path = quality_path(root, model, engine)
    baseline = read_stored(path, QualityBaseline)
    if baseline is not None:
        wanted = {"model": model, "model_digest": digest, "backend": engine.backend, "precision": engine.precision}
        _must_match(path, baseline, wanted)
    return baseline


def load_perf(
    root: Path, fingerprint: str, model: str, digest: str, workload: str, reference: str
) -> PerfBaseline | None:
    """The perf baseline of one workload on this kind of machine, or None where none was accepted.

    Args:
        root: the baselines folder.
        fingerprint: key of this machine's fingerprint.
        model: the model's name.
        digest: digest of the checkpoint that is tested now.
        workload: workload id.
        reference: engine id of the reference that ratios are taken over now; its precision is part of it. Empty where
            nothing was timed: memory has no reference.

    Raises:
        BaselineError: it is damaged, or of another schema, checkpoint, machine or reference.
    """
    path = perf_path(root, fingerprint, model, workload)
    baseline = read_stored(path, PerfBaseline)
    if baseline is not None:
        wanted = {
            "model": model,
            "model_digest": digest,
            "fingerprint": fingerprint,
            "workload": workload,
        } | ({"reference": reference} if reference else {})
        _must_match(path, baseline, wanted)
    return baseline


def assert_not_own_baseline(record_id: str, baseline: PerfBaseline | QualityBaseline) -> None:
    """Refuse to gate a run by a baseline that was accepted from it. Raises BaselineError."""
    if record_id in baseline.runs:
        raise BaselineError(
            f"run {record_id} is part of the baseline it would be compared with; that says nothing",
            "gate a run that was taken after the baseline was accepted",
        )


Kind = TypeVar("Kind", bound=Stored)


def read_stored(
    path: Path, kind: type[Kind], *, what: str = "baseline", schema: int = SCHEMA, hint: str = RECORD_NEW
) -> Kind | None:
    """A file below the baselines folder, or None where there is none.

    Raises BaselineError where it cannot be read, is damaged or of another schema than ``schema``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaselineError(f"{what} {path} cannot be read: {error.strerror or error}", "check the path") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BaselineError(
            f"{what} {path} is not valid JSON ({error})", f"restore it from version control, or {hint}"
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != schema:
        raise BaselineError(f"{what} {path} has schema version {version}; this enginegate reads version {schema}", hint)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise BaselineError(
            f"{what} {path} is damaged: {first_problem(error)}", f"restore it from version control, or {hint}"
        ) from error


def _must_match(path: Path, baseline: PerfBaseline | QualityBaseline, wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        found = getattr(baseline, field)
        if found != value and not (field == "reference" and not found):
            label = field.replace("_", " ")
            raise BaselineError(f"baseline {path} is of {label} {found}, this run's is {value}", RECORD_NEW)


def _part(name: str) -> str:
    """``name``, which becomes part of a path and must not lead out of the baselines folder."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise BaselineError(f"{name!r} cannot name a baseline", "use a plain name without path separators")
    return name
