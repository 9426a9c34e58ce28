"""A run record in numbers: what each engine measured, one figure per engine, workload and metric. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from enginegate.core.errors import MeasurementError, RecordError
from enginegate.core.records import ArenaEntry, RunRecord, VerdictEntry
from enginegate.core.serving_records import ServingEntry
from enginegate.gates.sequential import RATIO_SHIFT
from enginegate.gates.sessions import ShiftPrior
from enginegate.gates.verdict import TAIL
from enginegate.measure.ratios import TIMED, has_value, log_ratios
from enginegate.measure.serving.figures import figures
from enginegate.storage.configured import speed_as_written

#: Statuses from the worst to the best.
SEVERITY = ("FAIL", "INCONCLUSIVE", "NO_BASELINE", "PASS")

#: Scores that say how another was come by, and are neither better nor worse themselves.
DESCRIPTIVE_SCORES = frozenset({"stderr", "stderr_norm", "chance", "tokens", "items", "ties"})

#: Metrics that are medians of a round's figures, in seconds, and the figures' names.
_FIGURES = {"ttft_seconds": "ttft", "itl_seconds": "itl_p50", "itl_p95": "itl_p95", "itl_p99": "itl_p99"}


@dataclass(frozen=True)
class Measurement:
    """One figure of a run.

    Attributes:
        engine: engine id.
        workload: workload id, or "" where the figure belongs to the engine as a whole.
        metric: e.g. ``latency``, ``speedup``, ``peak_memory``, ``cloze.acc_norm``. ``speedup``, ``ttft`` and ``itl``
            are ratios over the reference (more is faster), ``ttft_seconds`` and ``itl_seconds`` the times themselves.
        unit: ``seconds``, ``tokens/s``, ``requests/s``, ``x``, ``bytes``, ``J`` or ``score``.
        value: the figure, in ``unit``.
        low: lower end of its interval, or None.
        high: upper end of its interval, or None.
        verdict: status of the gate on exactly this figure, or "".
    """

    engine: str
    workload: str
    metric: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    verdict: str = ""


def session_shift(record: RunRecord, metric: str) -> ShiftPrior:
    """What the run's configuration believes of the shift of a speed metric's ratio between sessions.

    Raises RecordError where the configuration cannot be used.
    """
    configured = speed_as_written(record).shift
    return replace(RATIO_SHIFT, scale=configured.get(metric, RATIO_SHIFT.scale))


def paired_log_ratios(arena: ArenaEntry, engine: str) -> dict[str, list[float]]:
    """``log(t_reference / t_engine)`` of every block, by metric that has values; positive is faster.

    Raises MeasurementError.
    """
    both = (arena.reference, engine)
    return {
        metric: log_ratios(arena.blocks, *both, metric) for metric in TIMED if has_value(arena.blocks, both, metric)
    }


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Distribution-free 95 % confidence interval of the median by order statistics; None where the values are too few.

    Source: W. R. Thompson, Annals of Mathematical Statistics 7 (1936) 122-128.
    """
    count = len(values)
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += math.comb(count, rank) / 2**count
        if tail > TAIL:
            break
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]


def worst(statuses: Sequence[str]) -> str:
    """The worst of the statuses, or "" of none."""
    return min(statuses, key=SEVERITY.index, default="")


@dataclass(frozen=True)
class Rerun:
    """A test that ran more than once in its session.

    Attributes:
        test: its id.
        before: how each earlier attempt ended: its worst status, or ``error``.
        last: how the last one did, which counts; ``no verdict`` where it had none.
    """

    test: str
    before: tuple[str, ...]
    last: str

    @property
    def turned(self) -> bool:
        """Whether a FAIL went away by running again."""
        return "FAIL" in self.before and self.last != "FAIL"

    def __str__(self) -> str:
        count = len(self.before) + 1
        text = f"{self.test}: {self.last} at attempt {count} of {count}, after {', '.join(self.before)}"
        if self.turned:
            text += "; a gate's error rates hold for one attempt, not for the best of several"
        return text


def reruns(record: RunRecord) -> list[Rerun]:
    """The tests that ran more than once, in the order of their first attempts."""
    before: dict[str, list[str]] = {}
    for attempt in record.attempts:
        status = "error" if attempt.errors else worst([verdict.status for verdict in attempt.verdicts])
        failed = any(verdict.status == "FAIL" for verdict in attempt.verdicts)
        before.setdefault(attempt.test, []).append("FAIL" if failed else status)
    last = {test: worst([verdict.status for verdict in record.verdicts if verdict.test == test]) for test in before}
    return [Rerun(test, tuple(statuses), last[test] or "no verdict") for test, statuses in before.items()]


def headline_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores worth a line in a table: without those of single subjects and the numbers that only describe."""
    return {name: score for name, score in scores.items() if "/" not in name and name not in DESCRIPTIVE_SCORES}


def measurements(record: RunRecord) -> list[Measurement]:
    """Every figure of the run, joined with the verdicts on them; a verdict on a figure of its own adds that figure.

    What merged shards measured each for itself, the times of their reference, is as the first of them has it.

    Raises:
        RecordError, MeasurementError: a time of the record is not a positive finite number.
    """
    found: dict[tuple[str, str, str], Measurement] = {}
    for item in _measured(record):
        found.setdefault((item.engine, item.workload, item.metric), item)
    for verdict in record.verdicts:
        key = (verdict.engine, verdict.workload or "", verdict.metric)
        known = found.get(key)
        status = verdict.status if known is None else worst([s for s in (known.verdict, verdict.status) if s])
        found[key] = replace(_from_verdict(verdict, known), verdict=status)
    return list(found.values())


def _from_verdict(verdict: VerdictEntry, known: Measurement | None) -> Measurement:
    low, high = (None if math.isnan(end) else end for end in verdict.interval)
    if known is not None and (low is None or math.isnan(verdict.estimate)):
        return known
    return Measurement(
        verdict.engine, verdict.workload or "", verdict.metric, verdict.unit, verdict.estimate, low, high
    )


def _measured(record: RunRecord) -> Iterator[Measurement]:
    for arena in record.arenas:
        for engine in arena.contestants:
            yield from _timed(arena, engine)
    for entry in record.memory:
        figures = {
            "disk_memory": entry.disk,
            "loaded_memory": entry.loaded,
            "peak_memory": entry.peak,
            "kv_predicted": entry.kv_predicted,
            "kv_used": entry.kv_used,
        }
        for metric, size in figures.items():
            if size is not None:
                yield Measurement(entry.engine, entry.workload, metric, "bytes", size)
    for built in record.engines:
        yield Measurement(built.id, "", "engine_size", "bytes", built.size_bytes)
        yield Measurement(built.id, "", "build_seconds", "seconds", built.build_seconds)
    for served in record.serving:
        yield from _served(served)
    for quality in record.quality:
        for name, score in headline_scores(quality.scores).items():
            yield Measurement(quality.engine, "", f"{quality.metric}.{name}", "score", score)


def _served(entry: ServingEntry) -> Iterator[Measurement]:
    """Of the first run alone: further ones are of other requests."""
    for run in entry.runs[:1]:
        said, work = figures(run, entry.slo), entry.load.id
        for metric, percentiles in said.percentiles.items():
            for name, found in percentiles.items():
                low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
                yield Measurement(entry.engine, work, f"serving_{metric}_{name}", "seconds", found.value, low, high)
        for metric, unit, value in (
            ("serving_goodput", "requests/s", said.goodput),
            ("serving_throughput", "tokens/s", said.tokens_per_second),
        ):
            if math.isfinite(value):
                yield Measurement(entry.engine, work, metric, unit, value)


def _timed(arena: ArenaEntry, engine: str) -> Iterator[Measurement]:
    turns = [turn for block in arena.blocks for turn in block.rounds if turn.engine == engine]
    turns = [turn for turn in turns if not turn.disturbed] or turns
    if not turns:
        return
    if not all(0 < turn.seconds < math.inf for turn in turns):
        raise RecordError(f"a round of {engine} at {arena.workload} has no positive time", "record a new run")

    def middle(metric: str, unit: str, values: list[float]) -> Measurement:
        low, high = median_interval(values) or (None, None)
        return Measurement(engine, arena.workload, metric, unit, median(values), low, high)

    yield middle("latency", "seconds", [turn.seconds for turn in turns])
    yield middle("throughput", "tokens/s", [turn.tokens / turn.seconds for turn in turns])
    joules = [value for turn in turns if (value := turn.figure("joules")) is not None]
    tokens = sum(turn.tokens for turn in turns)
    if len(joules) == len(turns) and tokens:
        yield Measurement(engine, arena.workload, "joules_per_token", "J", sum(joules) / tokens)
    for metric, figure in _FIGURES.items():
        values = [value for turn in turns if (value := turn.figure(figure)) is not None]
        if len(values) == len(turns):
            yield middle(metric, "seconds", values)
    if engine != arena.reference:
        for metric in TIMED:
            try:
                ratios = log_ratios(arena.blocks, arena.reference, engine, metric)
            except MeasurementError:
                continue  # no value, or a time that is no time: the gate that reads it says so
            yield middle(metric, "x", [math.exp(ratio) for ratio in ratios])
