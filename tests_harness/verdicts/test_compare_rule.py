from __future__ import annotations

import pytest
from enginegate.core.errors import ConfigError
from enginegate.verdicts.compare_rule import Margin, Rule, matches, read_margin, read_renamed
from enginegate.verdicts.sources import Series, StoredSession
from hypothesis import given
from hypothesis import strategies as st

PLAIN = st.text().filter(lambda text: not set(text) & {"*", "?"})


@given(PLAIN, PLAIN, PLAIN)
def test_a_pattern_is_for_the_whole_name(before: str, middle: str, after: str) -> None:
    name = before + middle + after
    assert matches(name, name), "brackets stand for themselves"
    assert matches(f"{before}*{after}", name)
    assert matches("?" * len(name), name)
    assert not matches(f"{name}?", name)
    assert not matches(name, f"x{name}")


def test_many_stars_take_no_time() -> None:
    assert not matches("*a" * 30 + "b", "a" * 5000)


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("", Margin(0.1)),
        ("itl", Margin(0.1, "metric", "itl")),
        ("metric:itl", Margin(0.1, "metric", "itl")),
        ("group:a=b", Margin(0.1, "group", "a=b")),
        ("bench:t.py::test_x[a:b]", Margin(0.1, "bench", "t.py::test_x[a:b]")),
        ("t.py::x", Margin(0.1, "metric", "t.py::x")),
    ],
)
def test_margins(text: str, margin: Margin) -> None:
    assert read_margin(text, 0.1) == margin
    with pytest.raises(ValueError, match="names nothing"):
        read_margin("bench:", 0.1)


def test_the_nearest_margin_counts_and_of_two_of_a_kind_the_later() -> None:
    all_, metric, group, bench = (
        Margin(0.01), Margin(0.02, "metric", "time"), Margin(0.03, "group", "g"), Margin(0.04, "bench", "b"),
    )  # fmt: skip
    key = ("b", "time", "g")
    for margins, share in (
        ((), None), ((all_,), 0.01), ((metric, all_), 0.02), ((group, metric, all_), 0.03),
        ((bench, group, all_), 0.04), ((group, Margin(0.05, "group", "*")), 0.05),
        ((Margin(0.05, "group", "*"), group), 0.03),
        ((Margin(0.05, "bench", "c"), group), 0.03),
    ):  # fmt: skip
        assert Rule(margins).margin(*key) == share
    assert Rule((Margin(0.1, "group", "*"),)).margin("b", "time", "") is None, "no group is no group"


def session(*names: str) -> StoredSession:
    return StoredSession("a.json", "m", {(name, "time"): Series((1.0,), False) for name in names})


def test_renamed_pairs_are_split_where_the_sessions_have_both_names() -> None:
    bases, new = [session("x[a=1]", "y"), session("y")], session("x[a=2]", "z")
    assert read_renamed([("x[a=1]=x[a=2]",), ("y", "z")], bases, new) == {"x[a=1]": "x[a=2]", "y": "z"}
    for pairs, said in (
        ([("y",)], "not OLD=NEW"),
        ([("y=",)], "not OLD=NEW"),
        ([("q=z",)], "no BASE"),
        ([("y=q",)], "NEW has nothing"),
        ([("y=z",), ("x[a=1]=z",)], "twice"),
        ([("y=z",), ("y", "x[a=2]")], "twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_renamed(pairs, bases, new)
    with pytest.raises(ConfigError, match="2 ways"):
        read_renamed([("a=b=c",)], [session("a", "a=b")], session("b=c", "c"))
