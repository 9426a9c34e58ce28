"""Change points on series with a known law; levels and power are simulated by scripts/history."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from enginegate.gates.change_levels import DRIFT, FALSE_ALARMS, FALSE_DRIFTS, NEWEST, STRONG_P, WEAK_P
from enginegate.gates.change_points import (
    ANCHOR,
    SHARES,
    WINDOWS,
    _by_ranks,
    _divisive,
    difference,
    discoveries,
    drift,
    newest,
    newest_at_each,
    rate,
    robust_size,
    segment,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def stepped(*levels: tuple[int, float], seed: int = 0) -> np.ndarray:
    """Noise of deviation 1 around levels, each of so many points."""
    means = np.concatenate([np.full(count, level) for count, level in levels])
    return means + noise(len(means), seed)


def test_a_difference_is_students_t():
    values = stepped((30, 0.0), (12, 1.0))
    found = difference(values, 0, 30, 42)
    theirs = stats.ttest_ind(values[30:], values[:30])
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


@pytest.mark.parametrize(("before", "after"), [(10, 3), (20, 3), (40, 6), (60, 12), (250, 250)])
def test_an_interval_by_ranks_holds_the_change_as_often_as_it_says(before, after):
    held, times = 0, 600
    for seed in range(times):
        values = stepped((before, 0.0), (after, 1.0), seed=seed)
        found = robust_size(difference(values, 0, before, before + after), values)
        held += found.low <= 1.0 <= found.high
    assert held / times > 0.93


def test_one_bad_night_moves_no_size():
    values = stepped((20, 0.0), (12, 3.0), seed=1)
    plain = robust_size(difference(values, 0, 20, 32), values)
    values[4] = -60.0
    found = robust_size(difference(values, 0, 20, 32), values)
    assert found.size == pytest.approx(plain.size, abs=0.3)
    assert 0 < found.low < found.high < 6
    assert difference(values, 0, 20, 32).low < 0, "Student's has lost it"


def test_of_too_few_points_students_interval_stays():
    values = stepped((4, 0.0), (3, 1.0))
    assert robust_size(difference(values, 0, 4, 7), values) == difference(values, 0, 4, 7)


def test_the_energy_statistic_is_that_of_the_paper():
    """By its definition, term by term."""
    values = stepped((9, 0.0), (11, 2.0), seed=4)
    sums = np.zeros((21, 21))
    sums[1:, 1:] = np.abs(values[:, None] - values[None, :]).cumsum(0).cumsum(1)

    def statistic(place: int) -> float:
        left, right = values[:place], values[place:]
        m, n = len(left), len(right)
        cross = sum(abs(x - y) for x in left for y in right) * 2 / (m * n)
        within_left = sum(abs(left[i] - left[k]) for i in range(m) for k in range(i)) * 2 / (m * (m - 1))
        within_right = sum(abs(right[i] - right[k]) for i in range(n) for k in range(i)) * 2 / (n * (n - 1))
        return m * n / (m + n) * (cross - within_left - within_right)

    assert _divisive(sums, 0, 20) == max(range(4, 17), key=statistic)


@pytest.mark.parametrize("seed", range(5))
def test_levels_of_the_past_are_found_where_they_change(seed):
    found = segment(stepped((60, 0.0), (80, 3.0), (50, 1.0), seed=seed))
    assert [change.index for change in found] == [pytest.approx(60, abs=1), pytest.approx(140, abs=2)]
    assert [change.size for change in found] == [pytest.approx(3.0, abs=0.7), pytest.approx(-2.0, abs=0.8)]
    assert all(change.low < change.size < change.high and change.p <= STRONG_P for change in found)


def test_a_weak_proposal_is_merged():
    """Of a spike that lasts a few points the weaker of both edges may not stay without the other."""
    values = noise(200)
    assert segment(values) == []
    assert segment(values[:7]) == []
    assert segment(np.full(50, 2.0)) == []


def test_a_long_series_is_looked_at_in_windows():
    values = stepped((700, 0.0), (500, 2.0), (400, 0.0), seed=2)
    assert [change.index for change in segment(values)] == [pytest.approx(700, abs=2), pytest.approx(1200, abs=2)]


def test_values_that_do_not_scatter_have_sure_changes():
    values = np.concatenate([np.full(20, 1.0), np.full(20, 1.1)])
    (found,) = segment(values)
    assert (found.index, found.p, found.low, found.high) == (20, 0.0, pytest.approx(0.1), pytest.approx(0.1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_origin_do_not_matter(seed, scale, origin):
    values = stepped((30, 0.0), (30, 2.5), seed=seed)
    first, second = segment(values), segment(values * scale + origin)
    assert [change.index for change in first] == [change.index for change in second]
    mirrored = segment(-values)
    assert [change.index for change in first] == [change.index for change in mirrored]


def test_both_ways_of_looking_for_a_new_level_agree():
    values = noise(3 * 320, 7).reshape(3, 320)
    for window in (WINDOWS[0], 40, WINDOWS[-1]):
        at_each = newest_at_each(values, window)
        first = window + max(SHARES)
        assert np.isinf(at_each[:, : first - 1]).all()
        for row in range(3):
            for end in (first, first + 1, min(first + 40, 320)):
                parts = {count: values[row, end - count - window : end] for count in SHARES}
                expected = min(_by_ranks(part, count, True) / SHARES[count] for count, part in parts.items())
                assert at_each[row, end - 1] == pytest.approx(expected)
    for row in range(3):
        found = newest(values[row], 0, True)
        assert found.window == WINDOWS[-1]
        assert found.score == pytest.approx(at_each[row, -1])
    assert newest(values[0, : WINDOWS[0] + min(SHARES) - 1], 0, True) is None


def test_the_test_of_a_new_level_is_that_of_normal_scores():
    values = noise(263, 3)
    ranks = stats.rankdata(values)
    scores = stats.norm.ppf(ranks / 264)
    deviate = scores[-3:].mean() / np.sqrt(scores.var(ddof=1) / 3 * (260 / 263))
    assert _by_ranks(values, 3, True) == pytest.approx(stats.norm.sf(deviate))
    assert _by_ranks(values, 3, False) == pytest.approx(stats.norm.cdf(deviate))
    same = np.full(30, 7.0)
    assert _by_ranks(same, 3, True) == pytest.approx(0.5)
    assert _by_ranks(np.append(same, [7.1] * 3), 3, True) == 0.0
    assert _by_ranks(np.append(same, [7.1] * 3), 3, False) > 0.9


def test_a_new_level_is_placed_and_has_a_direction():
    values = stepped((100, 0.0), (3, 4.0), seed=3)
    found = newest(values, 0, True)
    assert found.change.index == pytest.approx(100, abs=1)
    assert rate(found.score, found.window) < 2e-5
    assert rate(newest(values, 0, False).score, found.window) == 1
    assert newest(stepped((100, 0.0), (1, 40.0), seed=3), 0, True).score > found.score


def test_drift_shows_what_no_step_does():
    values = noise(400) + np.linspace(0, 3, 400)
    found = drift(values)
    assert found.size == pytest.approx(3 - 3 * ANCHOR / 400, abs=1)
    assert found.p < 1e-6
    assert drift(values[: 2 * ANCHOR - 1]) is None
    assert drift(values, 390) is None


def test_rates_are_read_between_the_rows_of_the_table_and_beyond_it():
    levels, rates = (np.array(column) for column in zip(*NEWEST[250]))  # noqa: B905
    assert rate(levels, 250) == pytest.approx(rates)
    middle = np.sqrt(levels[2] * levels[3])
    assert rates[2] < rate(middle, 250) < rates[3]
    assert rate(levels[0] / 10, 250) == pytest.approx(rates[0] / 10)
    assert rate(np.array([levels[-1] * 1.01, np.inf]), 250).tolist() == [1.0, 1.0]
    assert rate(np.array(0.0), 250) < 1e-100
    assert rate(np.array([1e-4, 1e-4]), np.array([250, 0]))[1] == 1.0


def test_the_table_is_one_of_rates():
    assert tuple(NEWEST) == WINDOWS
    for table in (*NEWEST.values(), DRIFT):
        assert len(table) >= 2
        assert all(first < second for first, second in pairwise(table))
        assert table[-1][1] > 1e-3
    assert FALSE_ALARMS + FALSE_DRIFTS < 0.1
    assert abs(WEAK_P / STRONG_P - 10) < 0.01


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        ([0.5, 0.08, 0.001], [False, False, True]),
        ([0.05, 0.06, 0.09], [True, True, True]),
        ([1.0, 1.0], [False, False]),
        ([], []),
    ],
)
def test_discoveries_are_benjamini_hochbergs(rates, found):
    assert discoveries(np.array(rates), 0.1).tolist() == found
    if rates:
        adjusted = stats.false_discovery_control(np.minimum(rates, 1))
        assert (adjusted <= 0.1).tolist() == found


def test_levels_hold_on_a_small_simulation():
    """At a level of one in 200 a night, so that few series tell it; the small ones are the script's."""
    values = noise(200 * 500, 11).reshape(200, 500)
    scores = newest_at_each(values)[:, 262:]
    level = float(np.exp(np.interp(np.log(0.005), *(np.log(column) for column in list(zip(*NEWEST[250]))[::-1]))))  # noqa: B905
    hits = scores < level
    new = hits[:, 12:] & ~np.stack([hits[:, 12 - lag : hits.shape[1] - lag] for lag in range(1, 13)]).any(axis=0)
    assert new.mean() == pytest.approx(0.005, rel=0.2)
