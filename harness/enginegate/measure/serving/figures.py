"""What a run of serving says: latencies by request, their percentiles, throughput and goodput."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from enginegate.core.errors import MeasurementError
from enginegate.core.serving_records import PercentileEntry, ServingRun, SloEntry
from enginegate.measure.serving.timeline import PERCENTILES, Times, entry_of

#: Latencies of one request, seconds, by the field's names.
METRICS = ("ttft", "tpot", "e2el")


def latencies(run: ServingRun, metric: str, *, measured: bool = True) -> Times:
    """A latency of each request, in the order of arrival, seconds; NaN where it has none.

    ``ttft``: from the scheduled arrival to the first token. ``e2el``: to the end. ``tpot``: from the first token to the
    last, over the tokens behind the first. ``measured``: without warm-up and cool-down.
    """
    due, first, last = (np.asarray(getattr(run, name), np.float64) for name in ("due", "first", "last"))
    if metric == "ttft":
        values = first - due
    elif metric == "e2el":
        values = np.asarray(run.finished, np.float64) - due
    elif metric == "tpot":
        behind = np.asarray(run.tokens, np.float64) - 1
        values = np.divide(last - first, behind, out=np.full_like(due, math.nan), where=behind > 0)
    else:
        raise MeasurementError(f"{metric!r} is no latency of serving", f"take one of {', '.join(METRICS)}")
    values[list(run.failed)] = math.nan
    return values[run.begin : run.end] if measured else values


def lateness(run: ServingRun, slo: SloEntry, *, measured: bool = True) -> list[float]:
    """Of each request the largest of latency over limit; above 1 it is late; infinite where it failed.

    An answer of one token has no TPOT, and keeps every limit of it. Without any limit, all that ended keep it.
    ``measured``: without warm-up and cool-down.
    """
    score = np.zeros(len(run.due))
    for metric in METRICS:
        limit = getattr(slo, metric)
        if limit is not None:
            values = latencies(run, metric, measured=False) / limit
            score = np.maximum(score, np.nan_to_num(values, nan=0.0) if metric == "tpot" else values)
    score[list(run.failed)] = math.inf
    return [float(value) for value in (score[run.begin : run.end] if measured else score)]


@dataclass(frozen=True)
class ServingFigures:
    """One run in numbers.

    Attributes:
        percentiles: of ``ttft``, ``itl``, ``tpot`` and ``e2el``, seconds, by metric and ``p50`` …
        means: of the same but ``itl``, seconds.
        offered: requests a second that were due.
        requests_per_second, tokens_per_second: answered while the measured requests came.
        goodput: of these requests those that kept the service level, a second.
        kept: share of the measured requests that keep it.
        measured, failed: counts.
    """

    percentiles: Mapping[str, Mapping[str, PercentileEntry]]
    means: Mapping[str, float]
    offered: float
    requests_per_second: float
    tokens_per_second: float
    goodput: float
    kept: float
    measured: int
    failed: int


def figures(run: ServingRun, slo: SloEntry) -> ServingFigures:
    """What a run says. What nothing was measured of is left out, or NaN."""
    percentiles: dict[str, Mapping[str, PercentileEntry]] = {}
    means: dict[str, float] = {}
    for metric in METRICS:
        values = latencies(run, metric)
        values = values[np.isfinite(values)]
        if len(values):
            percentiles[metric] = {name: entry_of(values, share) for name, share in PERCENTILES.items()}
            means[metric] = float(values.mean())
    if run.itl:
        percentiles["itl"] = run.itl
    count = run.end - run.begin
    kept = float(np.mean(np.asarray(lateness(run, slo)) <= 1))
    begin, end = run.due[run.begin], run.due[run.end - 1]
    span = end - begin
    finished = np.asarray(run.finished, np.float64)
    inside = (finished > begin) & (finished <= end)
    good = inside & (np.asarray(lateness(run, slo, measured=False)) <= 1)
    offered = (count - 1) / span if span > 0 else math.nan
    return ServingFigures(
        percentiles=percentiles,
        means=means,
        offered=offered,
        requests_per_second=float(inside.sum() / span) if span > 0 else math.nan,
        tokens_per_second=float(np.asarray(run.tokens)[inside].sum() / span) if span > 0 else math.nan,
        goodput=float(good.sum() / span) if span > 0 else math.nan,
        kept=kept,
        measured=count,
        failed=sum(run.begin <= index < run.end for index in run.failed),
    )
