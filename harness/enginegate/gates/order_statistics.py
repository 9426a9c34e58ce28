"""Percentiles of a series of latencies, with intervals from its own order statistics.

Requests that wait in one queue are not independent: behind a slow one others are slow, too. So a series of n latencies
counts as fewer than n, and every interval and test of serving asks ``effective_size`` how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from enginegate.gates.verdict import TAIL

#: Up to this percentile enough values lie beyond it to see how they cluster.
_SEEN = 0.90


@dataclass(frozen=True)
class Percentile:
    """One percentile of a sample.

    Attributes:
        value: the percentile, between two order statistics by linear interpolation.
        low, high: its interval; NaN for an end that the sample is too small for, as the upper one of p99 in 100 values.
        effective: as how many independent values the sample counts.
    """

    value: float
    low: float
    high: float
    effective: float


def effective_size(series: Sequence[float] | NDArray[np.float64]) -> float:
    """As how many independent values a series counts, for the mean of it: n / (1 + 2 sum of its autocorrelations).

    The sum ends where two neighbouring autocorrelations no longer add up to more than 0 (initial positive sequence,
    Geyer, *Statistical Science* 7, 1992). A series without any change counts whole. Never more than n.

    Args:
        series: in the order of time, [n].
    """
    values = np.asarray(series, dtype=np.float64)
    count = len(values)
    if count < 4 or not np.ptp(values) > 0:
        return float(count)
    centred = values - values.mean()
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), size)[:count]
    correlation = covariance / covariance[0]
    even = len(correlation) // 2 * 2
    pairs = correlation[:even].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = pairs[: ends[0]] if len(ends) else pairs
    return count / max(1.0, 2.0 * float(np.minimum.accumulate(kept).sum()) - 1.0)


def percentile(series: Sequence[float] | NDArray[np.float64], share: float, tail: float = TAIL) -> Percentile:
    """A percentile and its interval by order statistics (Conover, *Practical Nonparametric Statistics*, section 3.2).

    The r-th smallest of n independent values lies below the percentile p with the probability that a
    Binomial(n, p) is r or more. No shape of the distribution is assumed. Where the series is correlated, n is the
    effective size of "this value is at most the percentile", and the ranks are stretched to the sample. Beyond p90 too
    few values lie above a percentile to see how they cluster, so that of p90 counts where it is smaller: without it
    the interval of p99 held the truth in 77 of 100 runs of four servers at 3/4 of their capacity.

    Args:
        series: in the order of time, at least one value, [n].
        share: the percentile as a share, 0.99 for p99.
        tail: probability beyond either end.
    """
    values = np.asarray(series, dtype=np.float64)
    count = len(values)
    value = float(np.quantile(values, share))
    levels = {value, float(np.quantile(values, min(share, _SEEN)))}
    effective = min(effective_size((values <= level).astype(np.float64)) for level in levels)
    size = max(1, round(effective))
    ordered = np.sort(values)
    first = scipy.stats.binom.ppf(tail, size, share)
    last = scipy.stats.binom.ppf(1 - tail, size, share) + 1
    low = float(ordered[math.floor((first - 1) * count / size)]) if first >= 1 else math.nan
    high = float(ordered[min(count, math.ceil(last * count / size)) - 1]) if last <= size else math.nan
    return Percentile(value, low, high, effective)
