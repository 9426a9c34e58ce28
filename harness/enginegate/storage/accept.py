"""Accepting a run: its samples join the perf baselines, its item scores replace the quality baselines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from enginegate.core.errors import BaselineError
from enginegate.core.files import round_floats, to_json, write_atomically
from enginegate.core.records import ArenaEntry, EngineEntry, MemoryEntry, QualityEntry, RunRecord
from enginegate.gates.robust import MIN_BLOCKS
from enginegate.measure.ratios import median_seconds, orders
from enginegate.storage.baselines import (
    MAX_SESSIONS,
    MemoryFigures,
    PerfBaseline,
    PerfEngine,
    PerfSession,
    Provenance,
    QualityBaseline,
    QualityMetric,
    lock_path,
    perf_path,
    quality_path,
    read_perf,
    read_quality,
    same_method,
)
from enginegate.storage.levels import Level, moved_levels
from enginegate.storage.summary import headline_scores, paired_log_ratios, reruns

#: Decimals kept of a stored log ratio: 0.001 %, a thousandth of the smallest margin anyone gates on.
LOG_RATIO_DECIMALS = 5


@dataclass(frozen=True)
class Change:
    """One accepted number that moves.

    Attributes:
        path: the baseline file.
        engine: engine id.
        workload: workload id, or "" for quality.
        metric: what moves.
        unit: ``x``, ``bytes``, ``seconds`` or ``score``.
        old: what was accepted before; None where nothing was.
        new: what is accepted now.
        note: what else to know, e.g. how many items came and went.
    """

    path: Path
    engine: str
    workload: str
    metric: str
    unit: str
    old: float | None
    new: float
    note: str = ""

    @property
    def percent(self) -> float | None:
        """How far it moves, in percent of the old value; None where there is none."""
        return None if self.old is None or self.old == 0 else 100 * (self.new / self.old - 1)


@dataclass(frozen=True)
class Update:
    """A baseline file as it will be, and what that changes.

    No changes: the run is in it already. ``replaces``: why what is there cannot be continued, or empty. ``moved``:
    sentences on engines whose level moved.
    """

    path: Path
    baseline: PerfBaseline | QualityBaseline
    changes: tuple[Change, ...]
    replaces: str = ""
    moved: tuple[str, ...] = ()


def plan_accept(record: RunRecord, root: Path, level: Level = Level.ASK) -> list[Change]:
    """What accepting the run would move; nothing is written. Raises BaselineError where there is nothing to accept."""
    return [change for update in _updates(record, root, level) for change in update.changes]


def apply_accept(
    record: RunRecord, root: Path, force: bool = False, level: Level = Level.ASK, *, dry_run: bool = False
) -> list[Path]:
    """Write the baselines and return their paths; ``dry_run`` checks all the same and writes nothing.

    Raises:
        BaselineError: without ``force``, the run is partial or has failures, or a baseline that cannot be continued
            would be lost; the level of an engine moved and ``level`` does not say what that means; the run was accepted
            before; it has nothing to accept; or a file cannot be written.
    """
    check_acceptable(record, force)
    updates = [update for update in _updates(record, root, level) if update.changes]
    moved = [sentence for update in updates for sentence in update.moved]
    if moved and level is Level.ASK:
        more = f"\n  and {len(moved) - 5} more" if len(moved) > 5 else ""
        raise BaselineError(
            "the level moved:\n  " + "\n  ".join(moved[:5]) + more + "\nTwo levels in one baseline would read as a"
            " shift between sessions, and blind the gate; nothing was written",
            "after a deliberate change: --replace, the old sessions of these engines go; where only the machine had"
            " another day: --append, or leave this run out",
        )
    for update in updates:
        if update.replaces and not force:
            raise BaselineError(
                f"{update.path} would be replaced, with all that was accepted before ({update.replaces})",
                "restore it from version control, or use --force; nothing was written",
            )
    if dry_run:
        return []
    for update in updates:
        try:
            write_atomically(update.path, to_json(round_floats(update.baseline.model_dump(mode="python"))))
        except OSError as error:
            raise BaselineError(
                f"baseline {update.path} cannot be written: {error.strerror or error}",
                "fix that and accept the run again: files already written are left as they are",
            ) from error
    return [*(update.path for update in updates), *_write_lock(record, root)]


def _write_lock(record: RunRecord, root: Path) -> list[Path]:
    """Pin the environment whose figures were accepted: ``--against accepted`` makes it again."""
    if not record.installed or len(record.machines) > 1:
        return []
    path = lock_path(root, record.fingerprint.key)
    text = f"# What was installed when run {record.id} was measured.\n" + "".join(
        f"{line}\n" for line in record.installed
    )
    try:
        write_atomically(path, text)
    except OSError as error:
        raise BaselineError(
            f"the lock {path} cannot be written: {error.strerror or error}", "see its folder"
        ) from error
    return [path]


def check_acceptable(record: RunRecord, force: bool) -> None:
    """Refuse a partial run, and one with failures, also those that went away by running again. Raises BaselineError.

    ``force``: accept it all the same.
    """
    if force:
        return
    if record.status != "complete":
        raise BaselineError(f"run {record.id} is partial: it was interrupted", "run pytest to its end, or use --force")
    failed = [verdict.test for verdict in record.verdicts if verdict.status == "FAIL"]
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise BaselineError(
            f"run {record.id} has {len(failed)} failed verdict(s): {', '.join(failed[:3])}{more}",
            "fix the regression, or accept it as the new normal: --force --replace",
        )
    withdrawn = [entry.explanation for entry in record.joint if entry.status == "FAIL"]
    if withdrawn:
        raise BaselineError(
            f"run {record.id} has an engine that is faster, but not the same:\n  " + "\n  ".join(withdrawn[:3]),
            "find out why its quality failed or was not measured, and run again; or use --force",
        )
    turned = [str(rerun) for rerun in reruns(record) if rerun.turned]
    if turned:
        more = f"\n  and {len(turned) - 3} more" if len(turned) > 3 else ""
        raise BaselineError(
            f"run {record.id} has tests that failed until they were run again:\n  " + "\n  ".join(turned[:3]) + more,
            "find out what changes from attempt to attempt, and run once more without --reruns; or use --force",
        )


def _updates(record: RunRecord, root: Path, level: Level) -> list[Update]:
    updates = [*_perf_updates(record, root, level), *_quality_updates(record, root)]
    if not updates:
        raise _nothing_to_accept(record)
    if not any(update.changes for update in updates):
        raise BaselineError(
            f"run {record.id} was accepted before, and a run is accepted once",
            "accept another run, or leave it as it is",
        )
    return updates


def _nothing_to_accept(record: RunRecord) -> BaselineError:
    """The error of a run without a figure that is compared with a stored one."""
    without_baseline = {
        "serving": record.serving,
        "techniques": record.techniques,
        "sweeps": record.sweeps,
        "KV caches": record.kv_caches,
    }
    only = " and ".join(name for name, entries in without_baseline.items() if entries)
    if not only:
        return BaselineError(f"run {record.id} measured nothing", "run tests_perf or tests_quality")
    return BaselineError(
        f"run {record.id} measured {only} alone, which have no stored baseline",
        "they are judged by the configuration's limits, and with --against by a live base; to accept speed or quality,"
        " run tests_perf or tests_quality without selecting these tests",
    )


def _perf_updates(record: RunRecord, root: Path, level: Level) -> Iterator[Update]:
    arenas: dict[str, list[ArenaEntry]] = {}
    for arena in record.arenas:
        if arena.blocks:
            arenas.setdefault(arena.workload, []).append(arena)
    memory: dict[str, list[MemoryEntry]] = {}
    for entry in record.memory:
        memory.setdefault(entry.workload, []).append(entry)
    if (arenas or memory) and len(record.machines) > 1:
        runs = " and ".join(f"`enginegate accept {shard.run}`" for shard in record.shards.held) if record.shards else ""
        raise BaselineError(
            f"run {record.id} was merged of shards that ran on {len(record.machines)} kinds of machine"
            f" ({', '.join(record.machines)}), and a baseline of speed and memory is of one",
            f"accept its shards instead: {runs}",
        )
    for workload in dict.fromkeys([*arenas, *memory]):
        yield _perf_update(record, root, workload, arenas.get(workload, []), memory.get(workload, []), level)


def _perf_update(
    record: RunRecord,
    root: Path,
    workload: str,
    arenas: list[ArenaEntry],
    memory: list[MemoryEntry],
    level: Level,
) -> Update:
    model, key = record.model, record.fingerprint.key
    path = perf_path(root, key, model.name, workload)
    references = sorted({arena.reference for arena in arenas})
    if len(references) > 1:
        raise BaselineError(
            f"run {record.id} has ratios over {' and '.join(references)} at {workload}:"
            " its shards had different references",
            "name the precision under reference.precision in the configuration, and run again",
        )
    reference = references[0] if references else _reference(record)
    note, old = "", None
    try:
        old = read_perf(root, key, model.name, workload)
        if old is not None:
            old.check(model.digest, reference)
    except BaselineError as error:
        note, old = f"replaces: {error.problem}", None
    engines = dict(old.engines) if old else {}
    sessions = {name: session for arena in arenas for name, session in _sessions(record, arena).items()}
    moved = moved_levels(engines, sessions, workload, record)
    if level is Level.REPLACE:
        engines |= {name: engines[name].model_copy(update={"sessions": []}) for name in moved}
    changes = [*_add_sessions(engines, sessions, workload, path, note, old)]
    changes += _add_memory(engines, record, memory, path, note)
    baseline = PerfBaseline(
        model=model.name,
        model_digest=model.digest,
        fingerprint=key,
        workload=workload,
        reference=reference or (old.reference if old else ""),
        engines=engines,
    )
    return Update(path, baseline, tuple(changes), note, tuple(moved.values()))


def _add_sessions(
    engines: dict[str, PerfEngine],
    sessions: Mapping[str, PerfSession],
    workload: str,
    path: Path,
    note: str,
    old: PerfBaseline | None,
) -> Iterator[Change]:
    for name, session in sessions.items():
        before = engines.get(name, PerfEngine())
        if any(entry.provenance.run == session.provenance.run for entry in before.sessions):
            continue
        joined = [*before.sessions, session][-MAX_SESSIONS:]
        engines[name] = before.model_copy(update={"sessions": joined})
        was = old.engines.get(name, PerfEngine()) if old else before
        gone = len(was.sessions) if not before.sessions else 0
        said = note or f"session {len(joined)} of at most {MAX_SESSIONS}"
        said += f", in place of {gone} at another level" if gone else ""
        yield from _session_changes(path, workload, name, was, session, said)


def _add_memory(
    engines: dict[str, PerfEngine], record: RunRecord, memory: list[MemoryEntry], path: Path, note: str
) -> Iterator[Change]:
    candidates = _candidates(record)
    for entry in memory:
        if entry.engine not in candidates:
            continue
        before = engines.get(entry.engine, PerfEngine())
        if before.memory and before.memory.provenance.run == record.measured(entry.engine)[0]:
            continue
        figures = _memory_figures(record, entry)
        engines[entry.engine] = before.model_copy(update={"memory": figures})
        for metric in ("disk", "loaded", "peak"):
            old = getattr(before.memory, metric) if before.memory else None
            new = getattr(figures, metric)
            yield Change(path, entry.engine, entry.workload, f"{metric}_memory", "bytes", old, new, note)


def _sessions(record: RunRecord, arena: ArenaEntry) -> dict[str, PerfSession]:
    """The run's session of every engine but the reference."""
    return {name: _session(record, arena, name) for name in arena.contestants if name != arena.reference}


def _session(record: RunRecord, arena: ArenaEntry, engine: str) -> PerfSession:
    entry = _engine(record, engine)
    if len(arena.blocks) < MIN_BLOCKS:
        raise BaselineError(
            f"run {record.id} has {len(arena.blocks)} blocks of {arena.workload}; a session needs {MIN_BLOCKS}",
            "run again with a larger --time-budget",
        )
    ratios = paired_log_ratios(arena, engine)
    return PerfSession(
        provenance=_provenance(record, entry),
        key=entry.key,
        runtime_digest=entry.runtime_digest,
        size_bytes=entry.size_bytes,
        build_seconds=entry.build_seconds,
        log_ratios={name: [round(value, LOG_RATIO_DECIMALS) for value in values] for name, values in ratios.items()},
        orders=orders(arena.blocks, arena.reference, engine),
        times={
            metric: (
                median_seconds(arena.blocks, arena.reference, metric),
                median_seconds(arena.blocks, engine, metric),
            )
            for metric in ratios
        },
    )


def _session_changes(
    path: Path, workload: str, engine: str, before: PerfEngine, session: PerfSession, note: str
) -> Iterator[Change]:
    for metric, ratios in session.log_ratios.items():
        accepted = [median(samples) for samples in before.log_ratios(metric)]
        old = math.exp(median(accepted)) if accepted else None
        yield Change(path, engine, workload, metric, "x", old, math.exp(median(ratios)), note)
    last = before.sessions[-1] if before.sessions else None
    size, seconds = (last.size_bytes, last.build_seconds) if last else (None, None)
    yield Change(path, engine, workload, "engine_size", "bytes", size, session.size_bytes, note)
    yield Change(path, engine, workload, "build_seconds", "seconds", seconds, session.build_seconds, note)


def _memory_figures(record: RunRecord, entry: MemoryEntry) -> MemoryFigures:
    engine = _engine(record, entry.engine)
    return MemoryFigures(
        provenance=_provenance(record, engine),
        key=engine.key,
        runtime_digest=engine.runtime_digest,
        **entry.model_dump(include=set(MemoryFigures.model_fields)),
    )


def _quality_updates(record: RunRecord, root: Path) -> Iterator[Update]:
    entries: dict[str, list[QualityEntry]] = {}
    candidates = _candidates(record)
    for entry in record.quality:
        if entry.engine not in candidates:
            continue
        entries.setdefault(entry.engine, []).append(entry)
    for name, measured in entries.items():
        yield _quality_update(record, root, _engine(record, name), measured)


def _quality_update(record: RunRecord, root: Path, engine: EngineEntry, measured: list[QualityEntry]) -> Update:
    model = record.model
    path = quality_path(root, model.name, engine)
    replaced, old = "", None
    try:
        old = read_quality(root, model.name, engine)
        if old is not None:
            old.check(model.digest, record="")
    except BaselineError as error:
        replaced, old = f"replaces: {error.problem}", None
    metrics = dict(old.metrics) if old else {}
    changes: list[Change] = []
    for entry in measured:
        before = metrics.get(entry.metric)
        if before and before.provenance.run == record.measured(engine.id)[0]:
            continue
        metrics[entry.metric] = QualityMetric(
            provenance=_provenance(record, engine),
            key=engine.key,
            runtime_digest=engine.runtime_digest,
            version=entry.version,
            columns=entry.columns,
            items=round_floats(entry.items),
            scores=round_floats(entry.scores),
        )
        note = replaced or _items_note(before, entry)
        for name, score in headline_scores(entry.scores).items():
            was = before.scores.get(name) if before else None
            changes.append(Change(path, engine.id, "", f"{entry.metric}.{name}", "score", was, score, note))
    baseline = QualityBaseline(
        model=model.name,
        model_digest=model.digest,
        backend=engine.backend,
        precision=engine.precision,
        variant=engine.variant,
        metrics=metrics,
    )
    return Update(path, baseline, tuple(changes), replaced)


def _items_note(before: QualityMetric | None, entry: QualityEntry) -> str:
    if before is None:
        return f"{len(entry.items)} items"
    if not same_method(before.version, entry.version):
        return f"version {before.version} becomes {entry.version}"
    added, removed = entry.items.keys() - before.items.keys(), before.items.keys() - entry.items.keys()
    if not added and not removed:
        return f"the same {len(entry.items)} items"
    return f"{len(entry.items)} items, {len(added)} added, {len(removed)} removed"


def _provenance(record: RunRecord, engine: EngineEntry) -> Provenance:
    versions = {"enginegate": record.enginegate, "engine": engine.version}
    reference = _reference(record)
    if reference and reference != engine.id:
        versions["reference"] = _engine(record, reference).version
    run, started = record.measured(engine.id)
    return Provenance(
        run=run,
        started=started,
        commit=record.commit,
        fingerprint=record.fingerprint.key,
        versions=versions,
        libraries=dict(record.fingerprint.context.get("libraries", {})),
    )


def _reference(record: RunRecord) -> str:
    return next((engine.id for engine in record.engines if engine.role == "reference"), "")


def _candidates(record: RunRecord) -> set[str]:
    """Engines that are gated; what a reference scored is measured in every session, or kept beside the engines.

    An engine may be both: its role is what it was first loaded for.
    """
    candidates = {engine.id for engine in record.engines if engine.role == "candidate"}
    return candidates | {verdict.engine for verdict in record.verdicts}


def _engine(record: RunRecord, name: str) -> EngineEntry:
    for engine in record.engines:
        if engine.id == name:
            return engine
    raise BaselineError(f"run {record.id} measured {name} but does not describe that engine", "record a new run")
