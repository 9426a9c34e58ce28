"""How a test that may stop early shares out its error probability over its looks (Lan and DeMets 1983)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

from enginegate.gates.robust import Array

#: Points of the Gauss-Legendre rule that carries the not-yet-stopped density from look to look.
_POINTS = 240
#: The density is followed this many standard deviations down.
_DEPTH = 8.5
#: Exponent of the late spending function.
_LATE = 1.5


def spent(fraction: float, total: float, *, early: bool) -> float:
    """Error probability spent once ``fraction`` of the planned samples is in.

    Early: total * ln(1 + (e - 1) t), close to Pocock's equal levels (Lan and DeMets, Biometrika 70, 1983, 659).
    Late: total * t^1.5 (Kim and DeMets, Biometrika 74, 1987, 149), which keeps more for the looks that know the noise.
    """
    share = min(max(fraction, 0.0), 1.0)
    return float(total * (np.log1p((np.e - 1.0) * share) if early else share**_LATE))


@lru_cache(maxsize=1024)
def nominal_levels(
    counts: tuple[int, ...], planned: int, total: float, *, final: bool, early: bool
) -> tuple[float, ...]:
    """One-sided significance level to use at each look, so that the levels together cost at most ``total``.

    Args:
        counts: sample counts of the looks so far, increasing; the last is the present one.
        planned: sample count of the last planned look.
        total: error probability of the whole sequence.
        final: the present look is the last, so it gets all that is left.
        early: which of the two shapes of ``spent``.

    The boundary at each look solves P(first crossing here) = spent(now) - spent(before) for a mean of independent
    normal increments, by numerical integration (Armitage, McPherson and Rowe 1969). Using the levels on t p-values is
    the significance-level approach of Jennison and Turnbull (2000, section 3.8). Where part of the error is common to
    all looks (the shift of a session) the statistics are more correlated than assumed and the test is conservative.
    """
    times = np.asarray(counts, dtype=np.float64) / max(planned, counts[-1])
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    levels: list[float] = []
    grid: Array = np.zeros(0)
    mass: Array = np.zeros(0)
    before, previous = 0.0, 0.0
    for index, time in enumerate(times):
        now = total if final and index == len(times) - 1 else spent(float(time), total, early=early)
        share = max(now - before, total * 1e-9)
        boundary = _boundary(grid, mass, previous, float(time), share) if index else float(-ndtri(share))
        levels.append(float(ndtr(-boundary)))
        fresh = (boundary + _DEPTH) / 2.0 * nodes + (boundary - _DEPTH) / 2.0
        if index == 0:
            density = np.exp(-0.5 * fresh**2) / np.sqrt(2 * np.pi)
        else:
            root = np.sqrt(time - previous)
            step = (fresh[:, None] * np.sqrt(time) - grid[None, :] * np.sqrt(previous)) / root
            density = (np.exp(-0.5 * step**2) / np.sqrt(2 * np.pi) * np.sqrt(time) / root) @ mass
        grid, mass = fresh, density * weights * (boundary + _DEPTH) / 2.0
        before, previous = now, float(time)
    return tuple(levels)


def _boundary(grid: Array, mass: Array, previous: float, time: float, share: float) -> float:
    """Where the probability of first crossing at this look is ``share``, by bisection: it falls as that rises."""
    low, high = -3.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2.0
        step = (grid * np.sqrt(previous) - middle * np.sqrt(time)) / np.sqrt(time - previous)
        low, high = (middle, high) if float(mass @ ndtr(step)) > share else (low, middle)
    return high
