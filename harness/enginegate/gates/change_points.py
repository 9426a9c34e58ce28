"""Change points of a series: where its level moved, by how much, and how sure that is.

Three looks at one series of numbers, oldest first, each with a level that ``scripts/history/calibrate.py`` simulated:

- ``segment``: the whole past. E-divisive proposes where the distribution changed (Matteson, James: A Nonparametric
  Approach for Multiple Change Point Analysis, JASA 109 (2014) 334-345), with a weak level; then the weakest proposal is
  taken back and its neighbours are tested again, until all that are left are strong (Fleming, Kolodziej: Hunter, ICPE
  2023). Student's t judges in place of permutations.
- ``newest``: whether a level of a few points has begun at the end, which E-divisive sees late.
- ``drift``: how far the last points lie from a pinned anchor, so that many steps that are each too small show.

Values are logs where a change is a ratio. The noise is taken for independent from point to point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import comb, sqrt

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from enginegate.gates.change_levels import DRIFT, FALSE_ALARMS, NEWEST, STRONG_P, WEAK_P
from enginegate.gates.verdict import TAIL

Array = NDArray[np.float64]

#: Fewest points on either side of a change within the past.
SHORTEST = 4
#: Points that E-divisive looks at together; longer series are looked at in windows that overlap by half.
WINDOW = 512
#: Points that a level may have which has just begun, each with its share of the false alarms. One point alone is no
#: level: it may be a bad night. Most of the share is at three, to see at that many what can be seen.
SHARES = {2: 0.03, 3: 0.8, 4: 0.07, 6: 0.05, 12: 0.05}
#: Points before a new level that it is compared with: the most of these that are there. Each has a table of its own:
#: the worst ranks of few points are not rare.
WINDOWS = (10, 15, 20, 30, 40, 60, 80, 120, 180, 250)
#: Points of the anchor, and of the level that is compared with it.
ANCHOR = 20


@dataclass(frozen=True)
class Change:
    """A change of level.

    Attributes:
        index: the first point of the new level.
        before, after: the first point of the level before, and the end (exclusive) of the new one.
        size: the new level minus that before.
        low, high: its 95 % interval.
        p: probability that two levels that are one differ by so much, two-sided, for the place as it is.
    """

    index: int
    before: int
    after: int
    size: float
    low: float
    high: float
    p: float


def difference(values: Array, before: int, index: int, after: int) -> Change:
    """The change between ``values[before:index]`` and ``values[index:after]``, which share their variance.

    Student's t: with the few points that a new level has, Welch's own variance of them would tell too little.
    """
    old, new = values[before:index], values[index:after]
    count, df = len(old) + len(new), len(old) + len(new) - 2
    size = float(new.mean() - old.mean())
    squares = float(((old - old.mean()) ** 2).sum() + ((new - new.mean()) ** 2).sum())
    error = float(np.sqrt(squares / df * count / (len(old) * len(new))))
    if error == 0:
        return Change(index, before, after, size, size, size, 0.0 if size else 1.0)
    reach = float(special.stdtrit(df, 1 - TAIL)) * error
    return Change(
        index, before, after, size, size - reach, size + reach, 2 * float(special.stdtr(df, -abs(size) / error))
    )


def robust_size(change: Change, values: Array) -> Change:
    """The change with a size and an interval that a bad night does not move.

    The size is the median of the differences between the levels' points (Hodges, Lehmann, Ann. Math. Statist. 34 (1963)
    598-611), the interval that of the Mann-Whitney test, by its normal approximation. Where the points are too few for
    an interval of 95 %, Student's stay.
    """
    old, new = values[change.before : change.index], values[change.index : change.after]
    if comb(len(old) + len(new), len(new)) < 1 / TAIL:
        return change
    differences = np.sort((new[:, None] - old[None, :]).ravel())
    pairs = len(differences)
    spread = sqrt(pairs * (len(old) + len(new) + 1) / 12)
    outside = max(0, int(pairs / 2 + float(special.ndtri(TAIL)) * spread) - 1)
    low, high = differences[outside], differences[pairs - 1 - outside]
    return replace(change, size=float(np.median(differences)), low=float(low), high=float(high))


def segment(values: Array, strong: float = STRONG_P, weak: float = WEAK_P) -> list[Change]:
    """All changes of level within a series, oldest first. ``strong``, ``weak``: levels of the tests."""
    values = np.asarray(values, dtype=np.float64)
    proposals: set[int] = set()
    step = WINDOW // 2
    for start in range(0, max(1, len(values) - step), step):
        window = values[start : start + WINDOW]
        proposals |= {start + index for index in _divided(window, weak)}
    return [robust_size(change, values) for change in _merged(values, sorted(proposals), strong)]


def _divided(values: Array, weak: float) -> list[int]:
    """Where E-divisive divides a series, again and again, as long as both sides differ at the weak level."""
    if len(values) < 2 * SHORTEST:
        return []
    distances = np.abs(values[:, None] - values[None, :])
    sums = np.zeros((len(values) + 1, len(values) + 1))
    np.cumsum(distances, axis=0, out=distances)
    np.cumsum(distances, axis=1, out=sums[1:, 1:])
    found, open_parts = [], [(0, len(values))]
    while open_parts:
        start, end = open_parts.pop()
        if end - start < 2 * SHORTEST:
            continue
        index = _divisive(sums, start, end)
        if difference(values, start, index, end).p <= weak:
            found.append(index)
            open_parts += [(start, index), (index, end)]
    return found


def _divisive(sums: Array, start: int, end: int) -> int:
    """The place in ``start:end`` with the largest energy statistic mn/(m+n) (2 E|X-Y| - E|X-X'| - E|Y-Y'|).

    ``sums[i, j]``: of all distances between the first i and the first j values.
    """
    places = np.arange(start + SHORTEST, end - SHORTEST + 1)
    left, right = (places - start).astype(np.float64), (end - places).astype(np.float64)
    corner = np.diagonal(sums)

    def within(first: NDArray[np.int64], last: NDArray[np.int64]) -> Array:
        return corner[last] - sums[first, last] - sums[last, first] + corner[first]

    ends = np.full_like(places, end)
    starts = np.full_like(places, start)
    inner, outer = within(starts, places), within(places, ends)
    cross = (within(starts, ends) - inner - outer) / 2
    energy = 2 * cross / (left * right) - inner / (left * (left - 1)) - outer / (right * (right - 1))
    return int(places[np.argmax(left * right / (left + right) * energy)])


def _merged(values: Array, places: list[int], strong: float) -> list[Change]:
    """The changes that are left when the weakest is taken back, again and again, until all are strong."""
    while places:
        edges = [0, *places, len(values)]
        changes = [difference(values, *edges[number : number + 3]) for number in range(len(places))]
        weakest = max(range(len(places)), key=lambda number: changes[number].p)
        if changes[weakest].p <= strong:
            return changes
        del places[weakest]
    return []


@dataclass(frozen=True)
class NewLevel:
    """A level that may have begun at the end of a series.

    Attributes:
        change: its place and size.
        score: its one-sided p over its length's share.
        window: which of WINDOWS it was compared with.
    """

    change: Change
    score: float
    window: int


def newest(values: Array, start: int, rising: bool) -> NewLevel | None:
    """The rise, or fall, that most likely begins at the end of a series whose last level began at ``start``.

    None where there are too few points before. Whether it is one, ``rate`` of its score says. The test is that of the
    normal scores of ranks (van der Waerden 1952): a bad night is no more than the worst rank. The place is the
    likeliest of all lengths by Student's t, also of those that have no share of the alarms.
    """
    values = np.asarray(values, dtype=np.float64)
    window = max((each for each in WINDOWS if each <= len(values) - start - min(SHARES)), default=None)
    if window is None:
        return None
    scores, changes = [], []
    for count in range(min(SHARES), max(SHARES) + 1):
        index = len(values) - count
        before = max(start, index - window)
        if index - before < WINDOWS[0]:
            continue
        change = difference(values, before, index, len(values))
        changes.append((change.p / 2 if (change.size > 0) == rising else 1 - change.p / 2, change))
        if count in SHARES:
            scores.append(_by_ranks(values[before:], count, rising) / SHARES[count])
    likeliest = min(changes, key=lambda each: each[0])[1]
    return NewLevel(robust_size(likeliest, values), min(scores), window)


def _by_ranks(window: Array, count: int, rising: bool) -> float:
    """The one-sided p of the last ``count`` values among all of a window; nothing where the others do not scatter."""
    signed = window if rising else -window
    old, new = signed[:-count], signed[-count:]
    if old.min() == old.max() and new.min() > old.max():
        return 0.0  # what never scattered has changed
    ranks = scipy.stats.rankdata(signed)[-count:]
    size = len(window)
    mean = float(special.ndtri(ranks / (size + 1)).mean())
    return float(special.ndtr(-mean / _error(size, count)))


@cache
def _error(size: int, count: int) -> float:
    """The standard error of the mean of ``count`` normal scores, drawn from those of ``size`` ranks."""
    variance = float((special.ndtri(np.arange(1, size + 1) / (size + 1)) ** 2).sum() / (size - 1))
    return float(np.sqrt(variance / count * (size - count) / size))


def newest_at_each(values: Array, window: int = WINDOWS[-1]) -> Array:
    """The scores of a rise by ``newest`` at the end of each beginning of many series of one level, in one go.

    Args:
        values: shape (series, points), no two of a series equal.
        window: how many points before are looked at.

    Returns:
        Shape (series, points); infinite where fewer than ``window`` and the longest new level are there.
    """
    points, longest = values.shape[1], max(SHARES)
    smaller = np.zeros(values.shape, dtype=np.int32)  # by point: how many of those just before it
    back = {}
    for lag in range(1, window + longest):
        smaller[:, lag:] += values[:, :-lag] < values[:, lag:]
        if lag >= window:
            back[lag - window] = smaller.copy()
    ahead = np.zeros((longest, *values.shape), dtype=np.int32)  # and of those just after it
    for lag in range(1, longest):
        ahead[lag] = ahead[lag - 1]
        ahead[lag, :, :-lag] += values[:, lag:] < values[:, :-lag]
    ends = np.arange(window + longest, points + 1)
    smallest = np.full(values.shape, np.inf)
    for count, share in SHARES.items():
        size, total = window + count, np.zeros((len(values), len(ends)))
        for number in range(count):
            places = ends - count + number
            ranks = back[number][:, places] + ahead[count - 1 - number][:, places] + 1
            total += special.ndtri(ranks / (size + 1))
        score = special.ndtr(-total / count / _error(size, count)) / share
        smallest[:, ends - 1] = np.minimum(smallest[:, ends - 1], score)
    return smallest


def rate(scores: Array, windows: Array) -> Array:
    """How often, per night, an unchanged series newly shows a level to the worse with a score so small.

    Read from the simulated tables ``NEWEST``, by straight lines between the logs of their rows; 1 above them.
    ``windows``: of the new levels; 0 where there is none.
    """
    scores, windows = np.broadcast_arrays(np.asarray(scores, np.float64), np.asarray(windows))
    found = np.ones(scores.shape)
    for window, table in NEWEST.items():
        found = np.where(windows == window, _read(table, scores), found)
    return found


def drift_rate(p: Array) -> Array:
    """The same of one-sided p-values of ``drift``, from the table ``DRIFT``."""
    return _read(DRIFT, p)


def _read(table: tuple[tuple[float, float], ...], scores: Array) -> Array:
    """The rates of some scores. Below the table the rate falls as the score does."""
    nominal, rates = (np.log(column) for column in zip(*table, strict=True))
    given = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-300))
    below = np.minimum(given - nominal[0], 0.0)
    return np.where(given > nominal[-1], 1.0, np.exp(np.interp(given, nominal, rates) + below))


def drift(values: Array, anchor: int = 0) -> Change | None:
    """How far the last points lie from the first ones since ``anchor``; None where they are too few for both."""
    if len(values) - anchor < 2 * ANCHOR:
        return None
    first, last = values[anchor : anchor + ANCHOR], values[-ANCHOR:]
    joined = np.concatenate([first, last])
    found = robust_size(difference(joined, 0, ANCHOR, 2 * ANCHOR), joined)
    return replace(found, index=len(values) - ANCHOR, before=anchor, after=len(values))


def discoveries(rates: Array, false_share: float = FALSE_ALARMS) -> NDArray[np.bool_]:
    """Which of many are found so that of those found at most ``false_share`` are expected to be false.

    Benjamini, Hochberg, JRSS B 57 (1995) 289-300. With ``rates`` in place of p-values, unchanged series give
    ``false_share`` new alarms a night, all together.
    """
    count = len(rates)
    order = np.argsort(rates, kind="stable")
    within = np.flatnonzero(rates[order] <= false_share * np.arange(1, count + 1) / max(count, 1))
    found = np.zeros(count, dtype=np.bool_)
    if len(within):
        found[order[: within[-1] + 1]] = True
    return found
