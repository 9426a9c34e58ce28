"""Simulate what the alerts of a history promise, and write docs/results/history/alerts.txt.

    python scripts/history/simulate.py            # in about 4 minutes
    python scripts/history/simulate.py --small    # prints a page of a tenth of the size

Unchanged series: how many alerts a night of 1,000 of them gives, all series together. Planted steps: how often they are
found with so many points of the new level, in how many of 1,000 series the change is, and whether the place is right.
How long a question takes, ``scripts/history/speed.py`` measures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from enginegate.gates.change_levels import FALSE_ALARMS, FALSE_DRIFTS
from enginegate.gates.change_points import (
    WINDOWS,
    Array,
    discoveries,
    drift_rate,
    newest,
    newest_at_each,
    rate,
)

sys.path.insert(0, str(Path(__file__).parent))
from calibrate import SAME, drift_scores

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results" / "history" / "alerts.txt"
SEED = 20261128
SERIES, BEFORE, NOISE = 1000, 300, 0.03
Draw = Callable[[np.random.Generator, int, int], Array]


def normal(generator: np.random.Generator, series: int, points: int) -> Array:
    """Independent normal noise of deviation 1."""
    return generator.standard_normal((series, points))


def heavy(generator: np.random.Generator, series: int, points: int) -> Array:
    """Student's t with five degrees of freedom: an outlier now and then."""
    return generator.standard_t(5, (series, points)) / np.sqrt(5 / 3)


def sticky(generator: np.random.Generator, series: int, points: int) -> Array:
    """Normal noise of which each point is 0.3 of the one before."""
    values = generator.standard_normal((series, points))
    for point in range(1, points):
        values[:, point] = 0.3 * values[:, point - 1] + np.sqrt(1 - 0.09) * values[:, point]
    return values


LAWS: dict[str, Draw] = {"normal": normal, "t, 5 degrees": heavy, "normal, correlated 0.3": sticky}


def new_ones(found: Array) -> int:
    """How many are found that were not in the nights just before. ``found``: shape (nights, series)."""
    earlier = np.zeros_like(found)
    for lag in range(1, SAME + 1):
        earlier[lag:] |= found[:-lag]
    return int((found & ~earlier)[SAME:].sum())


def false_alerts(draw: Draw, batches: int, nights: int) -> tuple[float, float]:
    """New alerts a night of 1,000 unchanged series: of new levels, and of drifts."""
    generator = np.random.default_rng(SEED)
    counts = np.zeros(2)
    for _ in range(batches):
        values = draw(generator, SERIES, BEFORE + SAME + nights)
        for number, (rates, share) in enumerate(
            (
                (rate(newest_at_each(values), WINDOWS[-1]), FALSE_ALARMS),
                (drift_rate(drift_scores(values)), FALSE_DRIFTS),
            )
        ):
            each = rates[:, BEFORE:]
            counts[number] += new_ones(np.array([discoveries(column, share) for column in each.T]))
    first, second = counts / (batches * nights)
    return float(first), float(second)


def detected(factor: float, changed: int, trials: int, before: int = BEFORE) -> tuple[list[float], float]:
    """The share of changed series that are an alert after 1 to 6 points, and of those found whose place is within 1.

    ``factor``: of the step to the worse, in a time; ``changed``: of 1,000 series.
    """
    generator = np.random.default_rng(SEED + changed)
    points, hits, near, located = 6, np.zeros(6), 0, 0
    window = max(each for each in WINDOWS if each + SAME <= before)
    unchanged = normal(generator, SERIES - changed, before + points)
    others = rate(newest_at_each(unchanged, window)[:, before:], window)
    for _ in range(max(1, trials // changed)):
        values = NOISE * normal(generator, changed, before + points)
        values[:, before:] += abs(np.log(factor))
        rates = rate(newest_at_each(values, window)[:, before:], window)
        seen = np.zeros((changed, points), dtype=bool)
        for point in range(points):
            found = discoveries(np.concatenate([rates[:, point], others[:, point]]))
            seen[:, point] = found[:changed]
        hits += np.logical_or.accumulate(seen, axis=1).sum(axis=0)
        for row in np.flatnonzero(seen.any(axis=1)):
            first = int(np.argmax(seen[row]))
            level = newest(values[row, : before + first + 1], 0, True)
            assert level is not None
            located += 1
            near += abs(level.change.index - before) <= 1
    total = max(1, trials // changed) * changed
    return [float(each) for each in hits / total], near / max(located, 1)


def page(size: float) -> str:
    """The page's text."""
    lines = [
        "# Alerts of a history, simulated",
        "",
        "Made by `scripts/history/simulate.py`; the tests' levels by `scripts/history/calibrate.py`. Nothing here was"
        " measured.",
        "",
        "## Unchanged series",
        "",
        "1,000 series without any change. New alerts a night, all series together; at most 0.1 is promised where the"
        " noise is normal and independent.",
        "",
        "| noise | nights | new levels | drifts | together |",
        "|---|---|---|---|---|",
    ]
    batches, nights = max(1, round(10 * size)), 200
    for name, draw in LAWS.items():
        levels, drifts = false_alerts(draw, batches, nights)
        lines.append(f"| {name} | {batches * nights} | {levels:.3f} | {drifts:.3f} | {levels + drifts:.3f} |")
    lines += [
        "",
        "## Planted steps",
        "",
        f"{100 * NOISE:g} % noise, a step to the worse in some of 1,000 series, the others unchanged. Share of changed"
        " series that are an alert after so many points of the new level, and (place) share of the alerts that name the"
        " first point within one.",
        "",
        "| step | points before | changed series | 2 points | 3 points | 4 points | 5 points | 6 points | place |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    trials = max(100, round(4000 * size))
    rows = [
        (1.08, BEFORE, 1, "a time 8 % longer"),
        (0.92, BEFORE, 1, "a rate 8 % lower"),
        (1.08, BEFORE, 2, "a time 8 % longer"),
        (1.08, BEFORE, 4, "a time 8 % longer"),
        (0.92, BEFORE, 4, "a rate 8 % lower"),
        (1.08, 60, 1, "a time 8 % longer"),
        (1.05, BEFORE, 1, "a time 5 % longer"),
        (1.15, BEFORE, 1, "a time 15 % longer"),
    ]
    for factor, before, changed, name in rows:
        shares, near = detected(factor, changed, trials, before)
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares[1:])
        lines.append(f"| {name} | {before} | {changed} | {cells} | {100 * near:.0f} % |")
    lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--small"]:
        print(page(0.1))
    elif not sys.argv[1:]:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(1.0), encoding="utf-8")
    else:
        raise SystemExit(__doc__)
