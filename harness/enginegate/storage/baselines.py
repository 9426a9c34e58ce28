"""Accepted baselines: what a later run is compared with. Loading fails closed; only ``enginegate accept`` writes.

baselines/quality/<model>/<backend>-<precision>[@<variant>].json   per-item scores, independent of hardware
baselines/perf/<fingerprint key>/<model>/<workload>.json           log ratios of several sessions, memory, sizes
baselines/locks/<fingerprint key>.txt                              what was installed when they were measured
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from enginegate.core.errors import BaselineError
from enginegate.core.records import Amount, Count, Number, Stored
from enginegate.core.specs import engine_id
from enginegate.quality.entry import method_version
from enginegate.quality.ties import by_method, half_right
from enginegate.storage import migration
from enginegate.storage.reading import Format, table_problem

#: Raised when the meaning of a stored field changes; older baselines are migrated when they are read.
SCHEMA = 2

#: Sessions kept for each engine and workload, newest last.
MAX_SESSIONS = 10

#: Said wherever a baseline cannot be used.
RECORD_NEW = "record a new one: move it away, run pytest, review the run, then `enginegate accept RUN`"


class EngineName(Protocol):
    """What a quality baseline is filed under; an EngineSpec, an EngineRef and an EngineEntry have it."""

    @property
    def backend(self) -> str:
        """The backend's name."""

    @property
    def precision(self) -> str:
        """The precision's name."""

    @property
    def variant(self) -> str:
        """What tells it from another engine of the same two, or empty."""


class Provenance(Stored):
    """Where accepted numbers come from: the run, when and at which commit it was taken, and with what.

    Attributes:
        versions: of ``enginegate``, and what the backends of the ``engine`` and of the ``reference`` state of theirs.
        libraries: versions of the session's libraries by name; empty where an older version stored none.
    """

    run: str
    started: str
    commit: str
    fingerprint: str
    versions: dict[str, str]
    libraries: dict[str, str]

    def changes(self, versions: Mapping[str, str], libraries: Mapping[str, str]) -> list[str]:
        """Sentences on what differs now: what the backends state, and each stored library that they do not speak of.

        A ratio moves when the reference's library changes, though the engine did not.
        """
        pairs = [(f"{role}:", then, versions[role]) for role, then in self.versions.items() if role in versions]
        stated = " ".join(then for _, then, _ in pairs)
        names = sorted({*self.libraries, *libraries}) if self.libraries else []
        pairs += [
            (name, self.libraries.get(name, "absent"), libraries.get(name, "absent"))
            for name in names
            if f"{name} {self.libraries.get(name)}" not in stated
        ]
        changed = [pair for pair in pairs if pair[1] != pair[2]]
        return [f"the baseline was taken with {name} {old}, this run with {new}" for name, old, new in changed]


class QualityMetric(Stored):
    """One metric's per-item numbers, as in QualityEntry, and the run and build they were accepted from."""

    provenance: Provenance
    key: str
    runtime_digest: str
    version: str
    columns: list[str]
    items: dict[str, list[Number]]
    scores: dict[str, Number]


class QualityBaseline(Stored):
    """Accepted quality of one engine, whatever the hardware."""

    schema_version: int = SCHEMA
    model: str
    model_digest: str
    backend: str
    precision: str
    variant: str
    metrics: dict[str, QualityMetric]

    def metric(self, name: str, version: str) -> QualityMetric | None:
        """The metric's accepted items, or None where none were accepted. Their set may differ from the run's.

        Raises:
            BaselineError: they were scored by another version of the metric's code or with other settings.
        """
        found = self.metrics.get(name)
        if found is not None and not same_method(found.version, version):
            raise BaselineError(
                f"the quality baseline of {self._engine} holds {name} of version {found.version}, this run measures"
                f" version {version}",
                RECORD_NEW,
            )
        return found

    def check(self, digest: str, record: str) -> None:
        """Raise BaselineError unless it is of the checkpoint ``digest``, and not made of the run ``record`` itself."""
        _must_match(self, f"the quality baseline of {self._engine}", {"model_digest": digest})
        _assert_not_own(record, self.runs)

    @property
    def _engine(self) -> str:
        return engine_id(self.model, self.backend, self.precision, self.variant)

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs it was accepted from."""
        return frozenset(metric.provenance.run for metric in self.metrics.values())


class MemoryFigures(Stored):
    """Memory in bytes, as in MemoryEntry, and the run and build it was accepted from."""

    provenance: Provenance
    key: str
    runtime_digest: str
    disk: Count
    loaded: Count
    peak: Count
    kv_predicted: Count | None
    kv_used: Count | None
    kv_budget: Count | None


class PerfSession(Stored):
    """One accepted session of one engine.

    Attributes:
        provenance: the run it comes from.
        key, runtime_digest: which build it was, and how it was loaded; empty where an older version stored neither.
        size_bytes: size of the built engine on disk.
        build_seconds: what building it took.
        log_ratios: ``log(t_reference / t_engine)`` of every block, by metric (``speedup``, ``ttft``, ``itl``).
        orders: of every block, +1 where the reference ran first, else -1; empty where the blocks alternate.
        times: by metric, the median seconds of the reference and of the engine; empty where an older version kept none:
            whether the reference has moved since cannot be told then, and the session decides nothing.
    """

    provenance: Provenance
    key: str
    runtime_digest: str
    size_bytes: Count
    build_seconds: Amount
    log_ratios: dict[str, list[float]]
    orders: list[int] = Field(default_factory=list)
    times: dict[str, tuple[float, float]] = Field(default_factory=dict)


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

    def decisive(self, metric: str) -> PerfEngine:
        """With those sessions alone that keep times of their own in the metric."""
        return self.model_copy(update={"sessions": [entry for entry in self.sessions if metric in entry.times]})

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

    def check(self, digest: str, reference: str, record: str = "") -> None:
        """Raise BaselineError where it cannot judge a run.

        Args:
            digest: of the checkpoint that is tested now.
            reference: engine id that ratios are taken over now; empty where nothing was timed: memory has no reference.
            record: the run's own id: a run is not judged by itself.
        """
        wanted = {"model_digest": digest}
        if reference and self.reference:
            wanted["reference"] = reference
        _must_match(self, f"the perf baseline of {self.model} at {self.workload}", wanted)
        _assert_not_own(record, self.runs)

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs it was accepted from."""
        return frozenset(entry.run for engine in self.engines.values() for entry in engine.provenance)

    def version_changes(self, engine: str, versions: Mapping[str, str], libraries: Mapping[str, str]) -> list[str]:
        """Sentences on versions that differ from those of the newest accepted session of ``engine``.

        Args:
            engine: engine id.
            versions: what the backends of this run's ``engine`` and ``reference`` state.
            libraries: this run's libraries by name.
        """
        sessions = self.engines[engine].sessions if engine in self.engines else []
        return sessions[-1].provenance.changes(versions, libraries) if sessions else []


_RESTORE = f"restore it from version control, or {RECORD_NEW}"


def _quality_problem(baseline: QualityBaseline) -> str | None:
    problems = (
        (name, table_problem(metric.columns, metric.items) or half_right(metric))
        for name, metric in baseline.metrics.items()
    )
    return next((f"{name}: {problem}" for name, problem in problems if problem is not None), None)


def _perf_problem(baseline: PerfBaseline) -> str | None:
    """Sessions whose orders are not those of their blocks, or None."""
    for name, engine in baseline.engines.items():
        for session in engine.sessions:
            for metric, ratios in session.log_ratios.items():
                if session.orders and ratios and len(session.orders) != len(ratios):
                    return f"{metric} of {name}: {len(ratios)} blocks, and the order of {len(session.orders)}"
            if any(order not in (1, -1) for order in session.orders):
                return f"{name}: an order of blocks other than 1 and -1"
    return None


_QUALITY = Format(QualityBaseline, "baseline", SCHEMA, migration.QUALITY, BaselineError, _RESTORE, _quality_problem)
_PERF = Format(PerfBaseline, "baseline", SCHEMA, migration.PERF, BaselineError, _RESTORE, _perf_problem)


def same_method(first: str, second: str) -> bool:
    """Whether two versions of a metric measure the same thing, if not on the same items.

    A version that names no item set is compared whole. Of two that deal with ties in different ways, see
    ``ties.first_wins``.
    """
    first, second = by_method(first), by_method(second)
    return (method_version(first) or first) == (method_version(second) or second)


def quality_path(root: Path, model: str, engine: EngineName) -> Path:
    """Where the quality baseline of one engine lies."""
    name = engine_id("", engine.backend, engine.precision, engine.variant).removeprefix("-")
    return root / "quality" / _part(model) / f"{_part(name)}.json"


def perf_path(root: Path, fingerprint: str, model: str, workload: str) -> Path:
    """Where the perf baseline of one workload on one kind of machine lies."""
    return root / "perf" / _part(fingerprint) / _part(model) / f"{_part(workload)}.json"


def lock_path(root: Path, fingerprint: str) -> Path:
    """Where the lock of the environment lies whose figures were accepted on one kind of machine."""
    return root / "locks" / f"{_part(fingerprint)}.txt"


def read_quality(root: Path, model: str, engine: EngineName) -> QualityBaseline | None:
    """The quality baseline of one engine, or None where none was accepted.

    Whether it fits the checkpoint is not known before that is there: see ``QualityBaseline.check``.

    Args:
        root: the baselines folder.
        model: the model's name.
        engine: backend, precision and variant.

    Raises:
        BaselineError: it is damaged, of an unknown schema, or of another engine than its place says.
    """
    path = quality_path(root, model, engine)
    baseline = _QUALITY.read(path)
    if baseline is not None:
        wanted = {
            "model": model,
            "backend": engine.backend,
            "precision": engine.precision,
            "variant": engine.variant,
        }
        _must_match(baseline, f"baseline {path}", wanted)
    return baseline


def read_perf(root: Path, fingerprint: str, model: str, workload: str) -> PerfBaseline | None:
    """The perf baseline of one workload on one kind of machine, or None where none was accepted.

    Whether it fits the checkpoint and the reference is not known before those are there: see ``PerfBaseline.check``.

    Args:
        root: the baselines folder.
        fingerprint: key of the machine's fingerprint.
        model: the model's name.
        workload: workload id.

    Raises:
        BaselineError: it is damaged, of an unknown schema, or of another machine, model or workload than its place
            says.
    """
    path = perf_path(root, fingerprint, model, workload)
    baseline = _PERF.read(path)
    if baseline is not None:
        _must_match(baseline, f"baseline {path}", {"model": model, "fingerprint": fingerprint, "workload": workload})
    return baseline


def _assert_not_own(record: str, runs: frozenset[str]) -> None:
    if record and record in runs:
        raise BaselineError(
            f"run {record} is part of the baseline it would be compared with; that says nothing",
            "gate a run that was taken after the baseline was accepted",
        )


def _must_match(baseline: PerfBaseline | QualityBaseline, what: str, wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        found = getattr(baseline, field)
        if found != value:
            label = field.replace("_", " ")
            raise BaselineError(
                f"{what} is of {label} {found or '(none)'}, this run's is {value or '(none)'}", RECORD_NEW
            )


def _part(name: str) -> str:
    """``name``, which becomes part of a path and must not lead out of the baselines folder."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise BaselineError(f"{name!r} cannot name a baseline", "use a plain name without path separators")
    return name
