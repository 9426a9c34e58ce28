"""Where a series of block log ratios lies, and how well that is known, with outliers, drift and memory in the noise.

Everything works on the last axis of an array, so one call serves one gate or ten thousand simulated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Share of the samples trimmed from each end.
TRIM = 0.15
#: The same where the two orders are compared, of which each has half of the blocks.
ORDER_TRIM = 0.20
#: Fewest blocks from which a location and its error can be had: two of each order.
MIN_BLOCKS = 4
#: Lag-1 autocorrelation is not followed beyond this; a series that correlated more is not a sample of anything.
MAX_AUTOCORRELATION = 0.8


@dataclass(frozen=True)
class Location:
    """Robust location of block log ratios; every field has the shape of the input without its last axis.

    Attributes:
        estimate: trimmed mean, log ratio.
        error: its standard error, autocorrelation allowed for.
        df: degrees of freedom of ``error``.
        autocorrelation: lag-1 autocorrelation of the series, order effect and outliers taken out.
        order_effect: half the difference between the blocks run forwards and those run backwards.
    """

    estimate: Array
    error: Array
    df: int
    autocorrelation: Array
    order_effect: Array


def block_log_ratios(reference: Sequence[float] | Array, candidate: Sequence[float] | Array) -> Array:
    """Times of the two contestants, one of each a block (seconds), to log(t_reference / t_candidate) per block.

    The order of the contestants reverses from block to block (A B, B A, ...), so a linear drift of log time adds
    +c and -c in turn: over an even number of blocks it cancels exactly, and ``locate`` takes it out altogether.
    A time that is not positive and finite becomes NaN, which every gate refuses.
    """
    top, bottom = np.asarray(reference, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    usable = np.isfinite(top) & np.isfinite(bottom) & (top > 0) & (bottom > 0)
    ratios = np.full(top.shape, np.nan)
    ratios[usable] = np.log(top[usable] / bottom[usable])
    return ratios


def trimmed_mean(samples: Array, trim: float) -> Array:
    """Mean along the last axis without the ``floor(trim * n)`` smallest and largest."""
    count = samples.shape[-1]
    cut = int(trim * count)
    ordered = np.sort(samples, axis=-1)
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))


def without_order_effect(samples: Array) -> tuple[Array, Array]:
    """The series with the difference between odd and even blocks taken out, and half that difference."""
    half = (trimmed_mean(samples[..., 0::2], ORDER_TRIM) - trimmed_mean(samples[..., 1::2], ORDER_TRIM)) / 2.0
    sign = np.where(np.arange(samples.shape[-1]) % 2 == 0, 1.0, -1.0)
    return samples - half[..., None] * sign, half


def lag_one(series: Array) -> Array:
    """Lag-1 autocorrelation along the last axis; 0 where the series does not vary."""
    centred = series - series.mean(axis=-1, keepdims=True)
    power = np.sum(centred * centred, axis=-1)
    product = np.sum(centred[..., 1:] * centred[..., :-1], axis=-1)
    return np.asarray(np.divide(product, power, out=np.zeros_like(power), where=power > 0))


def locate(samples: Sequence[float] | Array, trim: float = TRIM, correlation: float = 0.0) -> Location:
    """Trimmed mean with its standard error from winsorized deviations (Yuen 1974; Tukey and McLaughlin 1963).

    Args:
        samples: log ratios in the order they were taken, last axis blocks, at least MIN_BLOCKS of them.
        trim: share trimmed from each end.
        correlation: lag-1 autocorrelation that is known of the machine; the larger of it and the series' own counts.

    The order effect of the reversing blocks is estimated and taken out, which costs one degree of freedom. Positive
    lag-1 autocorrelation r widens the squared error by (1 + r) / (1 - r), the variance of a mean of a first-order
    autoregressive series (Bartlett 1946); negative autocorrelation is not used to narrow it.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = values.shape[-1]
    if count < MIN_BLOCKS:
        raise ValueError(f"a location needs at least {MIN_BLOCKS} blocks, got {count}")
    series, order_effect = without_order_effect(values)
    cut = int(trim * count)
    kept = count - 2 * cut
    ordered = np.sort(series, axis=-1)
    low, high = ordered[..., cut : cut + 1], ordered[..., count - cut - 1 : count - cut]
    estimate = ordered[..., cut : count - cut].mean(axis=-1)
    winsorized = np.clip(series, low, high)
    deviations = winsorized - winsorized.mean(axis=-1, keepdims=True)
    squared = np.sum(deviations * deviations, axis=-1) / (kept * max(kept - 2, 1))
    memory = lag_one(winsorized)
    bounded = np.clip(memory, min(max(correlation, 0.0), MAX_AUTOCORRELATION), MAX_AUTOCORRELATION)
    error = np.sqrt(squared * (1.0 + bounded) / (1.0 - bounded))
    return Location(np.asarray(estimate), error, max(kept - 2, 1), memory, order_effect)
