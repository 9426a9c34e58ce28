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
        order_effect: half the difference between the blocks in which the reference ran first and the others; 0 where
            all blocks ran in one order.
    """

    estimate: Array
    error: Array
    df: Array | int
    autocorrelation: Array
    order_effect: Array


def trimmed_mean(samples: Array, trim: float) -> Array:
    """Mean along the last axis without the ``floor(trim * n)`` smallest and largest."""
    count = samples.shape[-1]
    cut = int(trim * count)
    ordered = np.sort(samples, axis=-1)
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))


def without_order_effect(samples: Array, order: Sequence[int] | Array | None = None) -> tuple[Array, Array]:
    """The series with the difference between the two orders taken out, and half that difference.

    Args:
        samples: log ratios, last axis blocks.
        order: see ``locate``.

    Where all blocks of a series ran in one order nothing is taken out: the effect cannot be told from the ratio.
    """
    sign = _signs(order, samples.shape[-1])
    half = np.zeros(samples.shape[:-1])
    firsts = np.broadcast_to(np.sum(sign > 0, axis=-1), half.shape)
    places = np.broadcast_to(np.argsort(-sign, axis=-1, kind="stable"), samples.shape)
    split = np.take_along_axis(samples, places, axis=-1)  # the blocks in which the reference ran first, then the others
    for count in np.unique(firsts):
        if 0 < count < samples.shape[-1]:
            chosen = firsts == count
            first, second = (trimmed_mean(part, ORDER_TRIM) for part in (split[chosen, :count], split[chosen, count:]))
            half[chosen] = (first - second) / 2.0
    return samples - half[..., None] * sign, half


def alternating(count: int) -> Array:
    """The order of blocks that reverse in turn: +1, -1, +1, ..."""
    return np.where(np.arange(count) % 2 == 0, 1.0, -1.0)


def _signs(order: Sequence[int] | Array | None, count: int) -> Array:
    """The orders as +1.0 and -1.0; blocks that tell nothing of theirs alternate, the first one forwards."""
    if order is None:
        return alternating(count)
    sign = np.asarray(order, dtype=np.float64)
    if sign.shape[-1:] != (count,) or not np.all(np.abs(sign) == 1.0):
        raise ValueError(f"the order of {count} blocks is +1 or -1 for each of them, not {order}")
    return sign


def _imbalance(order: Sequence[int] | Array | None, count: int) -> Array:
    """What the squared error is widened by where one order is rarer: n^2 / (4 n1 n2), the variance of (m1 + m2) / 2.

    1 where the two differ by one block at most, as they do in every arena (exactly it is 1.04 at 5 blocks), and where
    there is one order alone, so that no effect was taken out.
    """
    first = np.sum(_signs(order, count) > 0, axis=-1).astype(np.float64)
    product = first * (count - first)
    uneven = (np.abs(2.0 * first - count) > 1.0) & (product > 0)
    return np.where(uneven, count**2 / (4.0 * np.maximum(product, 1.0)), 1.0)


def lag_one(series: Array) -> Array:
    """Lag-1 autocorrelation along the last axis; 0 where the series does not vary."""
    centred = series - series.mean(axis=-1, keepdims=True)
    power = np.sum(centred * centred, axis=-1)
    product = np.sum(centred[..., 1:] * centred[..., :-1], axis=-1)
    return np.asarray(np.divide(product, power, out=np.zeros_like(power), where=power > 0))


def locate(
    samples: Sequence[float] | Array,
    trim: float = TRIM,
    correlation: float = 0.0,
    order: Sequence[int] | Array | None = None,
) -> Location:
    """Trimmed mean with its standard error from winsorized deviations (Yuen 1974; Tukey and McLaughlin 1963).

    Args:
        samples: log ratios in the order they were taken, last axis blocks, at least MIN_BLOCKS of them.
        trim: share trimmed from each end.
        correlation: lag-1 autocorrelation that is known of the machine; the larger of it and the series' own counts.
        order: of each block, +1 where the reference ran before the candidate, else -1; one for all series, or of the
            shape of ``samples``. None: the blocks alternate, as those of records that keep no order do.

    The model of a block is x = ratio + order x effect + noise. The effect is half the difference between the trimmed
    means of the two orders. It is taken out of every block, which costs one degree of freedom (always charged, also
    where all blocks ran in one order and none is estimated). Who stands how far apart, and who ran right before, is
    not in the model: the arena's design balances those over a square (see enginegate.measure.order), and what is left
    of them within a square counts as noise. Positive lag-1 autocorrelation r widens the squared error by
    (1 + r) / (1 - r), the variance of a mean of a first-order autoregressive series (Bartlett 1946); negative
    autocorrelation is not used to narrow it.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = values.shape[-1]
    if count < MIN_BLOCKS:
        raise ValueError(f"a location needs at least {MIN_BLOCKS} blocks, got {count}")
    series, order_effect = without_order_effect(values, order)
    cut = int(trim * count)
    kept = count - 2 * cut
    ordered = np.sort(series, axis=-1)
    low, high = ordered[..., cut : cut + 1], ordered[..., count - cut - 1 : count - cut]
    estimate = ordered[..., cut : count - cut].mean(axis=-1)
    winsorized = np.clip(series, low, high)
    deviations = winsorized - winsorized.mean(axis=-1, keepdims=True)
    squared = np.sum(deviations * deviations, axis=-1) / (kept * max(kept - 2, 1)) * _imbalance(order, count)
    memory = lag_one(winsorized)
    bounded = np.clip(memory, min(max(correlation, 0.0), MAX_AUTOCORRELATION), MAX_AUTOCORRELATION)
    error = np.sqrt(squared * (1.0 + bounded) / (1.0 - bounded))
    return Location(np.asarray(estimate), error, max(kept - 2, 1), memory, order_effect)
