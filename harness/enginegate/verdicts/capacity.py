"""The rate up to which an engine keeps its service level, and its throughput-latency curve on the way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from enginegate.core.serving_records import ServingRun, SloEntry
from enginegate.gates.serving import Capacity, RateTrial, SloPolicy, capacity, judge_slo, knee, next_rate
from enginegate.gates.verdict import Status, Verdict
from enginegate.measure.serving.figures import ServingFigures, figures, lateness
from enginegate.verdicts.serving import piling_up, why_not

#: Runs at one rate before it is left undecided; what they show is pooled.
LOOKS = 3


class ServesAt(Protocol):
    """Serves one run: the number of the run decides its seed."""

    def __call__(self, rate: float, number: int) -> ServingRun:
        """One run at a rate, requests a second."""
        ...


@dataclass(frozen=True)
class CurvePoint:
    """One rate.

    Attributes:
        rate: requests a second.
        verdict: whether the service level is kept there.
        figures: of its last run.
        runs: how many it took.
        saturated: whether requests surely piled up.
        believed: whether every invariant of every run held.
    """

    rate: float
    verdict: Verdict
    figures: ServingFigures
    runs: int
    saturated: bool
    believed: bool


@dataclass(frozen=True)
class Curve:
    """Rates that were tried.

    Attributes:
        engine: its id.
        slo: the service level.
        points: by rate.
        capacity: the highest rate that keeps the level lies between its ends.
        knee: the rate at which latency turns up; None of fewer than three rates.
        level: probability with which any rate's verdict is wrong on either side.
        load: how requests came and how long they were, in words.
    """

    engine: str
    slo: SloEntry
    points: tuple[CurvePoint, ...]
    capacity: Capacity
    knee: float | None
    level: float
    load: str = ""


def try_rate(serve: ServesAt, rate: float, slo: SloEntry, policy: SloPolicy, first: int) -> CurvePoint:
    """Serve at one rate until it is known whether the level is kept, three runs at most.

    Each look has its share of the error probabilities, so that all of them together hold to ``policy``.
    """
    shared = replace(policy, alpha=policy.alpha / LOOKS, beta=policy.beta / LOOKS)
    runs: list[ServingRun] = []
    while True:
        runs.append(serve(rate, first + len(runs)))
        backlog = piling_up(runs, shared.alpha / 2)
        verdict = judge_slo(
            [score for run in runs for score in lateness(run, slo)],
            shared,
            subject=f"{rate:.3g}/s",
            level=str(slo),
            backlog=backlog,
            invalid=why_not(runs),
        )
        if verdict.status is not Status.INCONCLUSIVE or len(runs) == LOOKS or why_not(runs) is not None:
            break
    return CurvePoint(
        rate=rate,
        verdict=verdict,
        figures=figures(runs[-1], slo),
        runs=len(runs),
        saturated=backlog is not None and backlog.saturated,
        believed=why_not(runs) is None,
    )


def find_curve(
    engine: str,
    serve: ServesAt,
    slo: SloEntry,
    policy: SloPolicy,
    *,
    rates: Sequence[float] = (),
    start: float,
    tolerance: float,
    most: int,
    load: str = "",
    told: Callable[[CurvePoint], None] = lambda _: None,
) -> Curve:
    """Try rates, and say what they show.

    Args:
        engine: its id.
        serve: serves one run.
        slo: the service level.
        policy: the share that must keep it, and the error probabilities of one rate.
        rates: those to try; empty for a search of the capacity.
        start: the first rate of the search.
        tolerance: the search ends where the capacity is known to so much.
        most: rates that a search tries.
        load: how requests come, in words.
        told: called with each point.
    """
    points: list[CurvePoint] = []
    waiting = list(rates)
    while True:
        trials = [RateTrial(point.rate, point.verdict.status) for point in points]
        if rates:
            rate = waiting.pop(0) if waiting else None
        else:
            rate = next_rate(trials, start, tolerance) if len(points) < most else None
        if rate is None:
            break
        points.append(try_rate(serve, rate, slo, policy, LOOKS * len(points)))
        told(points[-1])
        if not points[-1].believed and not rates:
            break  # a generator that lags at this rate lags at every higher one
    ordered = tuple(sorted(points, key=lambda point: point.rate))
    seen = [point for point in ordered if "e2el" in point.figures.percentiles]
    return Curve(
        engine=engine,
        slo=slo,
        points=ordered,
        capacity=capacity([RateTrial(point.rate, point.verdict.status) for point in ordered]),
        knee=knee([point.rate for point in seen], [point.figures.percentiles["e2el"]["p50"].value for point in seen]),
        level=max(policy.alpha, policy.beta),
        load=load,
    )
