"""Paged against contiguous: the two formulas, waste, the recommended block size, and lengths that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from enginegate.core.errors import ConfigError
from enginegate.measure.paging import (
    TOLERATED_WASTE,
    advise,
    contiguous_bytes,
    draw_lengths,
    edges_of_the_rule,
    paged_bytes,
    paging,
    read_drawing,
    read_lengths,
    rule_by_mean,
)
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.lists(st.integers(1, 4000), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from([16, 32, 64, 128, 256]))
def test_the_two_formulas_enclose_what_is_needed(lengths, block):
    """TinyLlama: 22 layers, 4 KV heads of 64, key and value, 2 bytes."""
    token = 22 * 4 * 64 * 2 * 2
    paged = paged_bytes(lengths, block, token)
    assert sum(lengths) * token <= paged < (sum(lengths) + block * len(lengths)) * token
    assert contiguous_bytes(len(lengths), max(lengths), token) == len(lengths) * max(lengths) * token
    assert paging(lengths, block).waste == pytest.approx(1 - sum(lengths) * token / paged)


def test_waste_of_even_lengths_is_half_a_block():
    lengths = list(range(1, 4097))
    for block in (16, 64, 256):
        assert paging(lengths, block).waste == pytest.approx((block - 1) / 2 / (np.mean(lengths) + block / 2), rel=0.01)


@given(LENGTHS)
def test_no_larger_block_than_the_recommended_one_is_within_the_bound(lengths):
    advice = advise(lengths)
    wastes = {size: paging(lengths, size).waste for size in (16, 32, 64, 128, 256)}
    if wastes[advice.block_tokens] <= TOLERATED_WASTE:
        assert all(waste > TOLERATED_WASTE for size, waste in wastes.items() if size > advice.block_tokens)
    else:
        assert advice.block_tokens == 16
        assert all(waste > TOLERATED_WASTE for waste in wastes.values())


def test_where_the_rule_by_the_mean_is_wrong():
    short = advise([130] * 100)
    assert (short.rule, short.block_tokens) == (64, 16)
    assert "leaves 32.3% of the cache empty" in short.rule_problem
    long = advise([16_000] * 10)
    assert (long.rule, long.rule_problem) == (256, "")
    only = advise([130], offered=(32,))
    assert "no other" in only.reason
    assert "no blocks of 64 tokens (it has 32)" in only.rule_problem
    assert [rule_by_mean(mean) for mean in (127, 128, 511, 512, 1023, 1024)] == [32, 64, 64, 128, 128, 256]


def test_the_rule_wastes_most_where_it_steps():
    assert [(mean, size, round(waste, 2)) for mean, size, waste in edges_of_the_rule()] == [
        (128, 64, 0.2),
        (512, 128, 0.11),
        (1024, 256, 0.11),
    ]


@pytest.mark.parametrize("kind", ["lognormal", "uniform", "constant"])
def test_drawn_lengths_repeat_and_stay_within(kind):
    drawn = draw_lengths(kind, 300, 1000, 2000, seed=7)
    assert drawn == draw_lengths(kind, 300, 1000, 2000, seed=7)
    assert 1 <= min(drawn) <= max(drawn) <= 1000
    assert 220 < np.mean(drawn) < 320
    if kind != "constant":
        assert drawn != draw_lengths(kind, 300, 1000, 2000, seed=8)


def test_lengths_of_a_file(tmp_path):
    file = tmp_path / "lengths.txt"
    file.write_text("# requests of a day\n512\n\n100, 28  # prompt and answer\n7 1\n", encoding="utf-8")
    assert read_lengths(file) == [512, 128, 8]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no lengths"),
        ("# none\n\n", "holds no lengths"),
        ("12\n-4\n", "line 2: '-4' is no length"),
        ("12.5\n", "line 1"),
        ("1 2 3\n", "line 1"),
        ("0\n", "line 1: a sequence of 0 tokens"),
        ("9999999999\n", "line 1"),
        ("NaN\n", "line 1: 'NaN'"),
        ("५\n", "line 1"),
    ],
)
def test_lengths_that_cannot_be_are_named_with_their_line(tmp_path, content, problem):
    file = tmp_path / "lengths.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        read_lengths(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        read_lengths(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_lengths(tmp_path / "binary")


@pytest.mark.parametrize("asked", [("normal", 5, 9), ("uniform", 0, 9), ("uniform", 10, 9), ("constant", 1, 10**9)])
def test_distributions_that_cannot_be_drawn(asked):
    with pytest.raises(ConfigError):
        draw_lengths(*asked, 10, 0)


@pytest.mark.parametrize("text", ["lognormal", "lognormal:5", "lognormal:a:9", "lognormal:5:-9", "a:1:2:3", ""])
def test_drawings_that_cannot_be_read(text):
    with pytest.raises(ConfigError, match="KIND:MEAN:LONGEST"):
        read_drawing(text)
