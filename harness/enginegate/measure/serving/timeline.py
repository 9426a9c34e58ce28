"""From what happened to requests, event by event, to one run of the record, with what must be so of every run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import EngineError
from enginegate.core.serving_records import CheckEntry, PercentileEntry, ServingRun
from enginegate.engines.base import ServingEvent
from enginegate.gates.order_statistics import percentile
from enginegate.measure.serving.schedule import Trace

Times = NDArray[np.float64]

#: The percentiles that are shown.
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
#: A request is sent late by at most this, seconds, where the server is a mock that computes nothing.
MOCK_LAG = 0.001
#: Else by at most this share of the median latency: by so much what is measured is the generator's.
LAG_SHARE = 0.01
#: Little's law, and the parts of a latency, hold within these shares.
LITTLE, IDENTITY = 0.02, 0.01
#: Peak throughput is the best of windows of at most so many seconds.
PEAK_WINDOW = 1.0

_REPORT = "report it against the backend: docs/adding_a_backend.md says what `submit` gives"


@dataclass
class _Request:
    """What has been heard of one request."""

    sent: float = math.nan
    finished: float = math.nan
    reason: str = ""
    times: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


def run_of(
    trace: Trace,
    events: Iterable[ServingEvent],
    *,
    subject: str,
    seed: int = 0,
    warmup: float = 0.0,
    cooldown: float = 0.0,
    lag_limit: float | None = None,
    foreign_load: float = math.nan,
) -> ServingRun:
    """The run that these events make.

    Args:
        trace: what was to be sent.
        events: in the order of their times; all of them are read.
        subject: the engine, for messages.
        seed: of the trace.
        warmup, cooldown: shares of the requests, at the start and at the end, that are not measured.
        lag_limit: seconds that a request may be sent late, at the 99th percentile; None for ``LAG_SHARE`` of the
            median latency.
        foreign_load: share of the machine that others took.

    Raises EngineError where the events cannot be those of this trace.
    """
    events = list(events)
    heard = _listen(trace, events, subject)
    count = len(trace)
    begin, end = measured_part(count, warmup, cooldown)
    due = np.asarray(trace.times)
    sent = np.array([each.sent for each in heard])
    finished = np.array([each.finished for each in heard])
    first = np.array([each.times[0] if each.times else math.nan for each in heard])
    last = np.array([each.times[-1] if each.times else math.nan for each in heard])
    tokens = [sum(each.counts) for each in heard]
    gaps = [_gaps(each) for each in heard]
    pooled = np.concatenate([np.zeros(0), *gaps[begin:end]])
    peak, mean = _throughput(heard)
    checks = [
        _lag(due, sent, finished, lag_limit),
        _little(due, finished, counted_seconds(events)),
        _tokens(heard, trace),
        _peak(peak, mean),
        _identity(due, first, finished, gaps),
    ]
    return ServingRun(
        trace=trace.digest,
        seed=seed,
        due=list(trace.times),
        sent=sent.tolist(),
        first=first.tolist(),
        last=last.tolist(),
        finished=finished.tolist(),
        tokens=tokens,
        failed={index: why for index, each in enumerate(heard) if (why := _why_failed(each))},
        begin=begin,
        end=end,
        itl={name: entry_of(pooled, share) for name, share in PERCENTILES.items()} if len(pooled) else {},
        peak_tokens=peak,
        checks=checks,
        foreign_load=foreign_load,
    )


def measured_part(count: int, warmup: float, cooldown: float) -> tuple[int, int]:
    """The first request that is measured and the one behind the last, by shares at either end; at least one is."""
    begin = min(math.ceil(warmup * count), count - 1)
    return begin, max(begin + 1, count - math.floor(cooldown * count))


def entry_of(series: Times | Sequence[float], share: float) -> PercentileEntry:
    """A percentile of a series as the record keeps it."""
    found = percentile(series, share)
    return PercentileEntry(value=found.value, low=found.low, high=found.high)


def _listen(trace: Trace, events: Sequence[ServingEvent], subject: str) -> list[_Request]:
    """What was heard of each request."""
    heard = [_Request() for _ in trace.times]
    before = -math.inf
    for event in events:
        number, time = event.request, event.time
        if not 0 <= number < len(heard):
            raise EngineError(f"{subject} told of request {number}; there are {len(heard)}, from 0 on", _REPORT)
        if not math.isfinite(time) or time < before:
            raise EngineError(
                f"{subject} told of request {number} at {time:g} s, after an event at {before:g} s: "
                "events come in the order of their times",
                _REPORT,
            )
        before, each = time, heard[number]
        if each.reason:
            raise EngineError(f"{subject} told of request {number} again after it had finished", _REPORT)
        if event.kind == "sent":
            each.sent = time
        elif event.kind == "tokens":
            each.times.append(time)
            each.counts.append(len(event.token_ids))
        elif event.kind == "finished":
            each.finished, each.reason = time, event.reason or "error"
        else:
            raise EngineError(f"{subject} told of an event {event.kind!r}, not sent, tokens or finished", _REPORT)
    unsent = [number for number, each in enumerate(heard) if math.isnan(each.sent)]
    if unsent:
        named = ", ".join(map(str, unsent[:3])) + (f" and {len(unsent) - 3} more" if len(unsent) > 3 else "")
        raise EngineError(f"{subject} never handed in request {named} of {len(heard)}", _REPORT)
    return heard


def counted_seconds(events: Sequence[ServingEvent]) -> float:
    """Seconds that requests were in flight, all together, by the engine's own count; NaN where it tells none.

    An engine counts after each of its steps, and is handed what came during a step when that is over. So of those that
    came since the count before, as many as the count lacks are added to it; never more, and none that the engine says
    it has besides.

    Args:
        events: in the order of their times.
    """
    if all(event.in_flight is None for event in events):
        return math.nan
    whole, before = 0.0, 0.0
    count = ours = new = 0
    for time, group in itertools.groupby(events, key=lambda event: event.time):
        whole += (count + new) * (time - before)
        before = time
        told, came = None, 0
        for event in group:
            ours += {"sent": 1, "finished": -1}.get(event.kind, 0)
            if event.in_flight is None:
                came += event.kind == "sent"
            else:
                told = event.in_flight
        new += came
        if told is not None:
            count, new = told + min(new, max(0, ours - told)), 0
    return whole


def _why_failed(request: _Request) -> str:
    if request.reason in ("length", "stop"):
        return "" if request.times else "it ended without a token"
    return request.reason or "it never ended"


def _gaps(request: _Request) -> Times:
    """Seconds between tokens, one fewer than there are tokens: tokens that came together share the wait for them.

    Those that come with the first token waited for nothing after it.
    """
    if not request.times:
        return np.zeros(0)
    counts = np.asarray(request.counts)
    waits = np.diff(np.asarray(request.times))
    shared = np.repeat(np.divide(waits, counts[1:], out=np.zeros_like(waits), where=counts[1:] > 0), counts[1:])
    return np.concatenate([np.zeros(max(0, int(counts[0]) - 1)), shared])


def _throughput(heard: Sequence[_Request]) -> tuple[float, float]:
    """Tokens a second in the best window, and over all windows from the first token to the last."""
    pairs = [pair for each in heard for pair in zip(each.times, each.counts, strict=True)]
    if not pairs:
        return math.nan, math.nan
    times, counts = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    begin, span = times.min(), np.ptp(times)
    if span <= 0:
        return math.nan, math.nan
    windows = math.ceil(span / PEAK_WINDOW)
    place = np.minimum(((times - begin) / span * windows).astype(np.int64), windows - 1)
    width = span / windows
    return float(np.bincount(place, counts, windows).max() / width), float(counts.sum() / span)


def _lag(due: Times, sent: Times, finished: Times, limit: float | None) -> CheckEntry:
    late = sent - due
    found = float(np.quantile(late, 0.99))
    median = float(np.nanmedian(finished - due)) if np.isfinite(finished).any() else math.inf
    allowed = LAG_SHARE * median if limit is None else limit
    early = float(late.min())
    reason = ""
    if found > allowed:
        reason = (
            f"the load generator lagged: requests were sent {1e3 * found:.2f} ms late at the 99th percentile, "
            f"{1e3 * allowed:.2f} ms are allowed"
        )
    elif early < -MOCK_LAG:
        reason = f"a request was sent {-1e3 * early:.2f} ms before it was due"
    return CheckEntry(name="lag", value=found, limit=allowed, reason=reason)


def _little(due: Times, finished: Times, counted: float) -> CheckEntry:
    """Little's law over the whole run, which begins and ends empty: the mean number in flight is arrivals x latency.

    Both sides times the duration: the engine's own count over time, and the sum of all latencies (Little, *Operations
    Research* 9, 1961).
    """
    if math.isnan(counted) or not np.isfinite(finished).all():
        return CheckEntry(name="little", value=math.nan, limit=LITTLE)
    expected = float(np.sum(finished - due))
    off = abs(counted / expected - 1) if expected > 0 else math.inf
    reason = ""
    if off > LITTLE:
        reason = (
            f"Little's law is off by {off:.1%}: the engine counted {counted:.4g} request-seconds in flight, arrivals "
            f"and latencies make {expected:.4g}"
        )
    return CheckEntry(name="little", value=off, limit=LITTLE, reason=reason)


def _tokens(heard: Sequence[_Request], trace: Trace) -> CheckEntry:
    """Answers are of a fixed length, so that what was counted are tokens and not the messages that bring them."""
    wrong = [
        number
        for number, (each, asked) in enumerate(zip(heard, trace.output_lens, strict=True))
        if each.reason in ("length", "stop") and sum(each.counts) != asked
    ]
    reason = ""
    if wrong:
        first = wrong[0]
        reason = (
            f"{len(wrong)} of {len(heard)} answers have another number of tokens than was asked: request {first} has "
            f"{sum(heard[first].counts)} of {trace.output_lens[first]}"
        )
    return CheckEntry(name="tokens", value=float(len(wrong)), limit=0.0, reason=reason)


def _peak(peak: float, mean: float) -> CheckEntry:
    below = peak < mean * (1 - 1e-9)
    reason = f"the peak throughput of {peak:.4g} tokens/s is below the mean of {mean:.4g}" if below else ""
    return CheckEntry(name="peak", value=mean, limit=peak, reason=reason)


def _identity(due: Times, first: Times, finished: Times, gaps: Sequence[Times]) -> CheckEntry:
    """Time to the first token and the gaps after it make the whole latency, summed over the answered requests."""
    ended = np.isfinite(finished) & np.isfinite(first)
    if not ended.any():
        return CheckEntry(name="identity", value=math.nan, limit=IDENTITY)
    parts = float(np.sum(first[ended] - due[ended])) + float(
        sum(each.sum() for each, whole in zip(gaps, ended, strict=True) if whole)
    )
    whole = float(np.sum(finished[ended] - due[ended]))
    off = abs(parts / whole - 1) if whole > 0 else math.inf
    reason = ""
    if off > IDENTITY:
        reason = (
            f"TTFT and the gaps between tokens add up to {parts:.4g} s, the latencies to {whole:.4g} s: {off:.1%} of "
            "the time is in neither"
        )
    return CheckEntry(name="identity", value=off, limit=IDENTITY, reason=reason)
