"""Simulate the levels of the change point tests on unchanged series: harness/enginegate/gates/change_levels.py.

    python scripts/history/calibrate.py            # writes the table, in about 3 minutes
    python scripts/history/calibrate.py --small    # prints one of a twentieth of the size

An alarm is new where the same test gave none in the nights just before. ``NEWEST`` and ``DRIFT`` say how often that
happens, per series and night, at each level of the test; ``STRONG_P`` is the largest level at which at most one of 200
series of 500 points has a change in its past that is none. The noise is normal and independent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from enginegate.gates import change_points
from enginegate.gates.change_points import ANCHOR, WINDOWS, Array
from scipy import special

TABLE = Path(change_points.__file__).with_name("change_levels.py")
SEED = 20261127
Table = tuple[tuple[float, float], ...]
SERIES, NIGHTS = 500, 400
#: Nights in which an alarm of the same change counts as the same.
SAME = max(change_points.SHARES)
LEVELS = np.logspace(-6, -2, 17)
STRONG = tuple(np.logspace(-3, -6, 13))
#: New false alarms a night of all series together, whatever their number: of new levels, and of drifts. A night with
#: one alarm makes a second a little likelier, so that both together stay below one in ten nights.
FALSE_ALARMS, FALSE_DRIFTS = 0.07, 0.008


def new_alarms(scores: Array, levels: Array, same: int) -> Array:
    """At each level, how many alarms are new: those of the first ``same`` nights are not counted."""
    before = np.full_like(scores, np.inf)
    for lag in range(1, same + 1):
        before[:, lag:] = np.minimum(before[:, lag:], scores[:, :-lag])
    now, before = scores[:, same:], before[:, same:]
    return np.array([((now < level) & (before >= level)).sum() for level in levels])


def drift_scores(values: Array) -> Array:
    """The one-sided p of a rise by ``drift`` at the end of each beginning; infinite where too few points are there."""
    series, points = values.shape
    sums = np.concatenate([np.zeros((series, 1)), values.cumsum(axis=1)], axis=1)
    squares = np.concatenate([np.zeros((series, 1)), (values**2).cumsum(axis=1)], axis=1)
    ends = np.arange(2 * ANCHOR, points + 1)
    first, last = sums[:, [ANCHOR]] / ANCHOR, (sums[:, ends] - sums[:, ends - ANCHOR]) / ANCHOR
    spread = squares[:, [ANCHOR]] + squares[:, ends] - squares[:, ends - ANCHOR] - ANCHOR * (first**2 + last**2)
    error = np.sqrt(spread / (2 * ANCHOR - 2) * 2 / ANCHOR)
    scores = np.full((series, points), np.inf)
    scores[:, ends - 1] = special.stdtr(2 * ANCHOR - 2, (first - last) / error)
    return scores


def rates(batches: int, look: Callable[[Array], Array], burn_in: int) -> Table:
    """By level of a test: new alarms per series and night, where there were ten or more.

    ``look``: gives the scores at each point; ``burn_in``: from which point on.
    """
    generator = np.random.default_rng(SEED)
    counts = np.zeros(len(LEVELS))
    for _ in range(batches):
        scores = look(generator.standard_normal((SERIES, burn_in + SAME + NIGHTS)))
        counts += new_alarms(scores[:, burn_in:], LEVELS, SAME)
    nights = batches * SERIES * NIGHTS
    return tuple(
        (float(level), float(count / nights)) for level, count in zip(LEVELS, counts, strict=True) if count >= 10
    )


def strong_level(series: int) -> float:
    """The largest level at which at most one of 200 series of 500 points has a change in its past that is none."""
    generator = np.random.default_rng(SEED + 1)
    values = generator.standard_normal((series, 500))
    for level in STRONG:
        changed = sum(bool(change_points.segment(row, level, 10 * level)) for row in values)
        if changed <= series / 200:
            return float(level)
    raise SystemExit("no level of STRONG is strong enough")


def table(size: float) -> str:
    """The module's text."""
    batches = max(1, round(16 * size))
    drift = rates(batches, drift_scores, 300)
    strong = strong_level(max(100, round(1500 * size)))

    def rows(found: Table, indent: str) -> str:
        return "".join(f"{indent}({level:.4g}, {rate:.4g}),\n" for level, rate in found)

    tables = ""
    for window in WINDOWS:
        found = rates(batches, partial(change_points.newest_at_each, window=window), window + SAME)
        tables += f"    {window}: (\n{rows(found, '        ')}    ),\n"
    return (
        '"""Levels of the change point tests, as ``scripts/history/calibrate.py`` simulated them; do not edit."""\n\n'
        "#: New false alarms a night of all series together: of new levels, and of drifts.\n"
        f"FALSE_ALARMS = {FALSE_ALARMS}\nFALSE_DRIFTS = {FALSE_DRIFTS}\n"
        "#: Level of the test of a change in the past, and of its proposals.\n"
        f"STRONG_P = {strong:.4g}\nWEAK_P = {10 * strong:.4g}\n"
        "#: By points before, and by score of a new level: new alarms per series and night.\n"
        f"NEWEST = {{\n{tables}}}\n"
        "#: The same by one-sided p of a drift.\n"
        f"DRIFT = (\n{rows(drift, '    ')})\n"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--small"]:
        print(table(0.05))
    elif not sys.argv[1:]:
        TABLE.write_text(table(1.0), encoding="utf-8")
    else:
        raise SystemExit(__doc__)
