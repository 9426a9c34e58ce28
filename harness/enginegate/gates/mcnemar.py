"""Tests on the items that two engines answer differently, and how many items they need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

#: Parts of an item that credits are counted in: shares of up to six choices are whole numbers of them.
_PARTS = 60
#: What sums of floats are wrong by at most.
_ROUNDING = 1e-15


def mcnemar(losses: int, gains: int) -> float:
    """Exact one-sided p-value of "no loss": P(Binomial(losses + gains, 1/2) >= losses) (McNemar 1947)."""
    return float(scipy.stats.binom.sf(losses - 1, losses + gains, 0.5))


def sign_flip(differences: Sequence[float]) -> float:
    """Exact one-sided p-value of "no loss" where items may be lost in part: ``mcnemar`` where none is.

    P(sum of s_i |d_i| >= sum of d_i), each s_i being 1 or -1 by a fair coin: the randomization test of paired
    differences (Fisher, *The Design of Experiments*, 1935, section 21). Without a loss, which of two engines did
    better on an item is such a coin. All of the distribution is computed, as a convolution over sizes of |d_i|.

    Args:
        differences: of an item's credit, -1 to 1, positive where the candidate has less; to a sixtieth of an item.
    """
    parts = np.rint(np.asarray(differences, dtype=np.float64) * _PARTS).astype(np.int64)
    chances = np.ones(1)  # that so many parts are lost, of all that differ
    for size, count in zip(*np.unique(np.abs(parts[parts != 0]), return_counts=True), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = scipy.stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = scipy.signal.fftconvolve(chances, steps)
    return float(np.clip(chances[int(parts[parts > 0].sum()) :].sum(), _ROUNDING, 1.0))


def score_z(losses: float, gains: float, items: int, loss: float) -> float:
    """Score statistic of "the true loss is ``loss``", paired proportions; large when more was lost (Tango 1998).

    Args:
        losses: items the baseline had right and the candidate wrong.
        gains: items the candidate had right and the baseline wrong.
        items: all common items.
        loss: hypothesized difference of the accuracies, in [-1, 1].

    The variance uses the share q of gains that is most likely under the hypothesis, the root of
    2 n q^2 - (b + c + (b - c) d - 2 n d) q - c d (1 - d) = 0.

    Items lost in part may be counted by their parts: of all differences within [-1, 1] with the same losses and gains,
    whole ones vary most, so the statistic is no further from 0 than it should be.
    """
    if loss < 0:
        return -score_z(gains, losses, items, -loss)
    linear = losses + gains + (losses - gains) * loss - 2 * items * loss
    share = (linear + np.sqrt(max(linear**2 + 8 * items * gains * loss * (1 - loss), 0.0))) / (4 * items)
    variance = items * (2 * share + loss * (1 - loss))
    return float((losses - gains - items * loss) / np.sqrt(variance)) if variance > 0 else 0.0


def loss_bound(losses: float, gains: float, items: int, level: float, *, upper: bool) -> float:
    """One-sided confidence bound of the loss by inverting the score test, by bisection to 1e-7."""
    target = float(scipy.stats.norm.isf(level)) * (-1.0 if upper else 1.0)
    low, high = -1.0, 1.0
    for _ in range(26):
        middle = (low + high) / 2
        if score_z(losses, gains, items, middle) > target:
            low = middle
        else:
            high = middle
    return high if upper else low


def mcnemar_power(items: int, discordance: float, loss: float, alpha: float) -> float:
    """Power of the exact one-sided test to show a true loss.

    Args:
        items: common items.
        discordance: share of items that flip either way without any loss.
        loss: true loss of accuracy, on top of those flips.
        alpha: level of the test.
    """
    share = min(discordance + loss, 1.0)
    if share <= 0:
        return 0.0
    losing = (discordance / 2 + loss) / (discordance + loss)
    centre, spread = items * share, np.sqrt(items * share * (1 - share))
    flips = np.arange(max(0, int(centre - 6 * spread)), min(items, int(centre + 6 * spread) + 1) + 1)
    critical = scipy.stats.binom.isf(alpha, flips, 0.5) + 1
    return float(np.sum(scipy.stats.binom.pmf(flips, items, share) * scipy.stats.binom.sf(critical - 1, flips, losing)))


def visible_loss(items: int, discordance: float, alpha: float, power: float) -> float:
    """Smallest true loss that the exact one-sided test shows with ``power``; 1.0 where there is none."""
    low, high = 0.0, 1.0
    if mcnemar_power(items, discordance, high, alpha) < power:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if mcnemar_power(items, discordance, middle, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def items_needed(discordance: float, loss: float, alpha: float, power: float) -> int:
    """Items with which a true ``loss`` is shown with ``power``, to about 2 %."""
    high = 16
    while mcnemar_power(high, discordance, loss, alpha) < power:
        high *= 2
        if high > 1 << 24:
            return high
    low = high // 2
    while high - low > max(1, high // 64):
        middle = (low + high) // 2
        if mcnemar_power(middle, discordance, loss, alpha) < power:
            low = middle
        else:
            high = middle
    return high
