"""What the page of runs shows, as plain values from the records alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from enginegate.core.errors import MeasurementError
from enginegate.core.records import RaceEntry, RunRecord, VerdictEntry
from enginegate.measure.ratios import log_ratios
from enginegate.report.dashboard.pareto import front
from enginegate.report.rows import MEGABYTE
from enginegate.storage.summary import measurements, median_interval
from enginegate.verdicts.speed import launch_numbers


@dataclass(frozen=True)
class Quality:
    """A score that speed is held against: its name in ``storage.summary``, for people, a factor, and its better end."""

    metric: str
    label: str
    factor: float
    more_is_better: bool


QUALITIES = (
    Quality("perplexity.perplexity", "Perplexity", 1, False),
    Quality("cloze.accuracy_norm", "Accuracy, cloze (%)", 100, True),
    Quality("letters.accuracy", "Accuracy, letters (%)", 100, True),
    Quality("similarity.bleu", "BLEU against the reference", 1, True),
    Quality("divergence.kld", "KL divergence (nats a token)", 1, False),
    Quality("summaries.rougeL", "ROUGE-L of summaries", 100, True),
)
#: Beside them, for records without quality: memory alone.
MEMORY = "Peak memory (MiB)"
#: Speed metrics for people.
SPEEDS = {"speedup": "Whole answers", "ttft": "Time to the first token", "itl": "Gap between tokens"}


@dataclass(frozen=True)
class Who:
    """An engine as filters know it."""

    machine: str
    model: str
    backend: str
    precision: str

    @property
    def name(self) -> str:
        """Without machine and model."""
        return f"{self.backend} {self.precision}"


def who(record: RunRecord, engine: str) -> Who:
    """Whose figures are told under an engine's id; a race without pytest describes its sides alone."""
    shard = record.shards.of_engine(engine) if record.shards else None
    machine = shard.machine if shard else record.fingerprint.key
    for entry in record.engines:
        if entry.id == engine:
            return Who(machine, record.model.name, entry.backend, entry.precision_label)
    backend, _, precision = engine.removeprefix(f"{record.model.name}-").partition("-")
    for side in (side for race in record.races for side in (race.head, race.base)):
        if side.engine == engine and side.spec.get("backend"):
            backend = str(side.spec["backend"])
            precision = engine.removeprefix(f"{record.model.name}-{backend}-")
    return Who(machine, record.model.name, backend, precision)


@dataclass(frozen=True)
class Tradeoff:
    """An engine's speed against one other figure of it, and its memory.

    Attributes:
        engine: which one.
        workload: of speed and memory.
        against: what ``y`` is.
        speed: tokens a second.
        y: quality, or MiB.
        memory: peak, MiB; None where it was not measured.
        reference: whether it is one.
        front: whether no engine beside it is at least as good in all three (two without memory), and better in one.
        edge: the same of ``speed`` and ``y`` alone, for the line of a chart.
    """

    engine: Who
    workload: str
    against: str
    speed: float
    y: float
    memory: float | None
    reference: bool
    front: bool = False
    edge: bool = False


def tradeoffs(records: Sequence[RunRecord]) -> list[Tradeoff]:
    """Every engine that speed is known of, against each quality that is. Live bases are left out.

    Speed, memory and quality may be of several of the runs, where they are of one build on one machine; of figures
    that several runs have, the last one's count. Random weights have no quality.
    """
    found: dict[tuple[str, ...], tuple[Who, bool, dict[tuple[str, str], float]]] = {}
    for record in records:
        bases = {race.base.engine for race in record.races}
        engines = {entry.id: entry for entry in record.engines if entry.id not in bases}
        for item in measurements(record):
            entry = engines.get(item.engine)
            if entry is None or not math.isfinite(item.value) or (record.model.random_weights and item.unit == "score"):
                continue
            name = who(record, entry.id)
            key = (name.machine, record.model.digest, entry.id, entry.runtime_digest, entry.key)
            _, _, figures = found.setdefault(key, (name, entry.role != "candidate", {}))
            figures[item.workload, item.metric] = item.value
    points = [point for name, reference, figures in found.values() for point in _points(name, reference, figures)]
    return _with_fronts(points)


def _points(name: Who, reference: bool, figures: Mapping[tuple[str, str], float]) -> Iterator[Tradeoff]:
    for (workload, metric), speed in figures.items():
        if metric != "throughput":
            continue
        peak = figures.get((workload, "peak_memory"))
        memory = None if peak is None else peak / MEGABYTE
        for quality in QUALITIES:
            score = figures.get(("", quality.metric))
            if score is not None:
                yield Tradeoff(name, workload, quality.label, speed, quality.factor * score, memory, reference)
        if memory is not None:
            yield Tradeoff(name, workload, MEMORY, speed, memory, memory, reference)


def _with_fronts(points: Sequence[Tradeoff]) -> list[Tradeoff]:
    groups: dict[tuple[str, ...], list[Tradeoff]] = {}
    for point in points:
        groups.setdefault((point.engine.machine, point.engine.model, point.workload, point.against), []).append(point)
    more = {quality.label: quality.more_is_better for quality in QUALITIES}
    found = []
    for (*_, against), group in groups.items():
        sides = [True, more.get(against, False)]
        edges = front([(point.speed, point.y) for point in group], sides)
        measured = [point.memory for point in group if point.memory is not None]
        fronts = edges
        if len(measured) == len(group):
            fronts = front(
                [(point.speed, point.y, memory) for point, memory in zip(group, measured, strict=True)], [*sides, False]
            )
        found += [replace(point, front=best, edge=edge) for point, best, edge in zip(group, fronts, edges, strict=True)]
    return found


@dataclass(frozen=True)
class Pair:
    """An engine against its live base, in one speed metric.

    Attributes:
        run: id of the run.
        engine, workload, metric, status: of the verdict.
        base: what it raced against.
        change: how much slower it is, as a share; negative is faster. NaN where nothing was measured.
        low, high: the interval of that; NaN where it is undecided yet.
        margin, tolerated: of the gate.
        launches: how much slower it was in each.
        explanation: the verdict's sentence.
    """

    run: str
    engine: Who
    workload: str
    metric: str
    status: str
    base: str
    change: float
    low: float
    high: float
    margin: float
    tolerated: float
    launches: tuple[float, ...]
    explanation: str


def pairs(record: RunRecord) -> list[Pair]:
    """Every verdict over a live base."""
    races = {race.head.engine: race for race in record.races}
    return [_pair(record, verdict, races.get(verdict.engine)) for verdict in record.verdicts if verdict.is_raced]


def _pair(record: RunRecord, verdict: VerdictEntry, race: RaceEntry | None) -> Pair:
    policy = verdict.inputs.get("policy")
    tolerated = policy.get("tolerated") if isinstance(policy, dict) else None
    label = str(verdict.inputs["against"].get("label") or verdict.inputs["against"].get("base", ""))
    high, low = (slower(end) for end in verdict.interval)
    return Pair(
        run=record.id,
        engine=who(record, verdict.engine),
        workload=verdict.workload or "",
        metric=verdict.metric,
        status=verdict.status,
        base=label,
        change=slower(verdict.estimate) if verdict.change is None else verdict.change,
        low=low,
        high=high,
        margin=verdict.margin,
        tolerated=float(tolerated) if isinstance(tolerated, int | float) else math.nan,
        launches=_launches(race, verdict),
        explanation=verdict.explanation,
    )


def slower(ratio: float) -> float:
    """A ratio of speeds, more being faster, as how much slower that is: 0.8 is 0.25. NaN for none."""
    return 1 / ratio - 1 if ratio > 0 else math.nan


def _launches(race: RaceEntry | None, verdict: VerdictEntry) -> tuple[float, ...]:
    if race is None:
        return ()
    try:
        numbers = launch_numbers(race, verdict.workload or "", verdict.metric)
    except (MeasurementError, KeyError):  # a race that broke off has no such numbers; its verdict says why
        return ()
    return tuple(math.expm1(-number) for number in numbers)


@dataclass(frozen=True)
class Cell:
    """An engine at one precision: how many of its verdicts have which status."""

    engine: Who
    counts: Mapping[str, int]


def matrix(records: Sequence[RunRecord]) -> list[Cell]:
    """What became of every engine that was gated, in the order of the records."""
    found: dict[Who, dict[str, int]] = {}
    for record in records:
        for verdict in record.verdicts:
            counts = found.setdefault(who(record, verdict.engine), {})
            counts[verdict.status] = counts.get(verdict.status, 0) + 1
    return [Cell(engine, counts) for engine, counts in found.items()]


def speedups(record: RunRecord) -> list[dict[str, Any]]:
    """Each engine's speed over the reference in the same blocks, with its interval, as values of a chart.

    Of a session with a live base the verdicts are over that; these are over the reference all the same.
    """
    bases = {race.base.engine for race in record.races}
    found = []
    for arena in record.arenas:
        for engine in arena.contestants:
            if engine == arena.reference or engine in bases:
                continue
            try:
                ratios = log_ratios(arena.blocks, arena.reference, engine)
            except MeasurementError:  # no block has both
                continue
            low, high = median_interval(ratios) or (math.nan, math.nan)
            values = {"speedup": math.exp(median(ratios)), "low": math.exp(low), "high": math.exp(high)}
            reference = who(record, arena.reference).name
            found.append({**asdict(who(record, engine)), "workload": arena.workload, "reference": reference, **values})
    return found
