"""The order of an arena's blocks: what it balances, what cancels, and what plain reversal did not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from enginegate.gates.robust import locate
from enginegate.measure.order import block_order, square_length

#: A round takes so much longer after each of these, on the log scale: caches and clocks as the one before left them.
CARRIED = {"a": 0.0, "b": 0.0, "c": 0.08, "d": -0.05}


def square(units: int, squares: int = 1) -> list[list[int]]:
    names = [[str(unit)] for unit in range(units)]
    return [[int(name) for name in block_order(names, block)] for block in range(squares * square_length(units))]


def reversing(names: str, blocks: int) -> list[list[str]]:
    """As the arena ran before."""
    return [list(names)[:: 1 if block % 2 == 0 else -1] for block in range(blocks)]


def williams(names: str, blocks: int) -> list[list[str]]:
    return [block_order([[name] for name in names], block) for block in range(blocks)]


@pytest.mark.parametrize("units", range(2, 10))
def test_in_a_square_each_runs_right_after_each_other_and_in_each_place_equally_often(units: int) -> None:
    rows = square(units)
    times = len(rows) // units
    assert times == (1 if units % 2 == 0 else 2)
    after = Counter((row[place], row[place + 1]) for row in rows for place in range(units - 1))
    places = Counter((unit, place) for row in rows for place, unit in enumerate(row))
    assert set(after.values()) == set(places.values()) == {times}
    assert len(after) == units * (units - 1)
    assert len(places) == units * units


@pytest.mark.parametrize("units", range(1, 10))
def test_a_block_is_followed_by_its_reverse_so_each_pair_has_both_orders(units: int) -> None:
    rows = square(units, squares=3)
    assert all(sorted(row) == list(range(units)) for row in rows)
    assert all(second == first[::-1] for first, second in zip(rows[::2], rows[1::2], strict=True))
    assert rows[0] == sorted(rows[0], key=rows[0].index)


def test_the_orders_of_two_and_three_by_hand() -> None:
    assert ["".join(row) for row in williams("ab", 6)] == ["ab", "ba"] * 3
    assert ["".join(row) for row in williams("abc", 4)] == ["abc", "cba", "bca", "acb"]


@pytest.mark.parametrize("alone", [2, 3, 4])
def test_over_two_squares_each_of_two_twins_too_runs_right_after_each_other_unit_equally_often(alone: int) -> None:
    units = [("x", "y"), *((str(number),) for number in range(alone))]
    rows = [block_order(units, block) for block in range(2 * square_length(len(units)))]
    assert all(abs(row.index("x") - row.index("y")) == 1 for row in rows)
    first = [row.index("x") < row.index("y") for row in rows]
    half = len(rows) // 2
    assert first == [True, False] * (half // 2) + [False, True] * (half // 2)
    after = Counter((row[place], row[place + 1]) for row in rows for place in range(len(row) - 1))
    assert len({after[str(number), twin] for number in range(alone) for twin in "xy"}) == 1


def carried_ratios(rows: list[list[str]], carried: dict[str, float], *, over_blocks: bool = False) -> np.ndarray:
    """log(time of a / time of b) of each block, where all that moves it is who ran before."""
    ratios, before = [], None
    for row in rows:
        before = before if over_blocks else None
        times = {}
        for name in row:
            times[name] = carried[before] if before else 0.0
            before = name
        ratios.append(times["a"] - times["b"])
    return np.array(ratios)


def test_what_others_leave_behind_cancels_over_a_square_and_did_not_by_reversal() -> None:
    """By reversal b ran after c in every other block, and a never did."""
    assert carried_ratios(reversing("abcd", 40), CARRIED).mean() == pytest.approx(-0.04)
    for blocks in (4, 8, 40):
        assert carried_ratios(williams("abcd", blocks), CARRIED).mean() == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("names", ["abc", "abcd", "abcde", "abcdef"])
def test_what_the_two_themselves_leave_behind_weighs_one_nth(names: str) -> None:
    carried = dict.fromkeys(names, 0.02) | {"b": 0.08}
    ratios = carried_ratios(williams(names, square_length(len(names))), carried)
    assert ratios.mean() == pytest.approx((0.08 - 0.02) / len(names), abs=1e-15)


def test_across_blocks_a_lone_pair_is_balanced_and_of_four_little_is_left() -> None:
    leaving = {"a": 0.0, "b": 0.08}
    pair = carried_ratios(williams("ab", 41), leaving, over_blocks=True)[1:]
    assert pair.mean() == pytest.approx(0.0, abs=1e-15)
    before = abs(carried_ratios(reversing("abcd", 40), CARRIED, over_blocks=True).mean())
    now = abs(carried_ratios(williams("abcd", 40), CARRIED, over_blocks=True).mean())
    assert now <= 1e-3 < 0.03 < before


def test_the_gate_does_not_take_what_others_leave_behind_for_the_engine_s_own() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.01, 40)
    bias = {}
    for name, rows in (("reversing", reversing("abcd", 40)), ("williams", williams("abcd", 40))):
        order = [1 if row.index("a") < row.index("b") else -1 for row in rows]
        with_it, without = (locate(each + noise, order=order) for each in (carried_ratios(rows, CARRIED), 0.0))
        bias[name] = abs(float(with_it.estimate - without.estimate)) / float(without.error)
    assert bias["reversing"] > 10, "which no number of blocks takes out"
    assert bias["williams"] < 1


@pytest.mark.parametrize("names", ["ab", "abc", "abcd", "abcde", "abcdef"])
def test_linear_drift_cancels_in_the_mean_of_each_block_and_its_reverse(names: str) -> None:
    rows = williams(names, 60)
    for other in names[1:]:
        drift = np.array([0.01 * (row.index("a") - row.index(other)) for row in rows])
        assert np.abs(drift).max() >= 0.0099
        np.testing.assert_allclose(drift[::2] + drift[1::2], 0.0, atol=1e-12)
        order = [1 if row.index("a") < row.index(other) else -1 for row in rows]
        assert float(locate(drift, order=order).estimate) == pytest.approx(0.0, abs=1e-12)
        square_root = len(names) ** 0.5
        assert float(locate(drift, order=order).error) < 0.01 * square_root, "its scatter counts as noise"


def test_of_a_lone_pair_linear_drift_leaves_no_scatter() -> None:
    rows = williams("ab", 40)
    order = [1 if row[0] == "a" else -1 for row in rows]
    linear = locate(-0.01 * np.array(order), order=order)
    assert float(linear.estimate) == pytest.approx(0.0, abs=1e-15)
    assert float(linear.error) == pytest.approx(0.0, abs=1e-15)
    assert float(linear.order_effect) == pytest.approx(-0.01)
