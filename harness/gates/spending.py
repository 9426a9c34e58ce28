"""How a test that may stop early shares out its error probability over its looks (Lan and DeMets 1983)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

#: Points of the Gauss-Legendre rule that carries the not-yet-stopped density from look to look.
_POINTS = 240
#: The density is followed this many standard deviations down.
_DEPTH = 8.5


def spent(fraction: float, total: float) -> float:
    """Error probability spent once ``fraction`` of the planned samples is in: Pocock-like, total * ln(1 + (e-1) t).

    Source: Lan and DeMets, Biometrika 70 (1983) 659.
    """
    return float(total * np.log1p((np.e - 1.0) * min(max(fraction, 0.0), 1.0)))


@lru_cache(maxsize=1024)
def nominal_levels(counts: tuple[int, ...], planned: int, total: float, final: bool) -> tuple[float, ...]:
    """One-sided significance level to use at each look, so that the levels together cost at most ``total``.

    Args:
        counts: sample counts of the looks so far, increasing; the last is the present one.
        planned: sample count of the last planned look.
        total: error probability of the whole sequence.
        final: the present look is the last, so it gets all that is left.

    The boundary at each look solves P(first crossing here) = spent(now) - spent(before) for a mean of independent
    normal increments, by numerical integration (Armitage, McPherson and Rowe 1969). Using the levels on t p-values is
    the significance-level approach of Jennison and Turnbull (2000, section 3.8). Where part of the error is common to
    all looks (the shift of a session) the statistics are more correlated than assumed and the test is conservative.
    """
    times = np.asarray(counts, dtype=np.float64) / max(planned, counts[-1])
    levels: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    grid = mass = np.zeros(0)
    before = 0.0
    for index, time in enumerate(times):
        now = total if final and index == len(times) - 1 else spent(float(time), total)
        share = max(now - before, total * 1e-9)
        before = now
        if index == 0:
            boundary = float(-ndtri(share))
        else:
            previous, root = times[index - 1], np.sqrt(time - times[index - 1])

            def crossing(z: float, time: float = time, previous: float = previous, root: float = root) -> float:
                return float(mass @ ndtr((grid * np.sqrt(previous) - z * np.sqrt(time)) / root))

            boundary = float(brentq(lambda z: crossing(z) - share, -3.0, 12.0, xtol=1e-10))
        levels.append(float(ndtr(-boundary)))
        fresh = (boundary + _DEPTH) / 2.0 * nodes + (boundary - _DEPTH) / 2.0
        if index == 0:
            density = np.exp(-0.5 * fresh**2) / np.sqrt(2 * np.pi)
        else:
            step = (fresh[:, None] * np.sqrt(time) - grid[None, :] * np.sqrt(previous)) / root
            density = (np.exp(-0.5 * step**2) / np.sqrt(2 * np.pi) * np.sqrt(time) / root) @ mass
        grid, mass = fresh, density * weights * (boundary + _DEPTH) / 2.0
    return tuple(levels)
