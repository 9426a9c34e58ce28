"""YAML without its surprises: every key once, every number a number, and no file that takes forever."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from enginegate.config.reading import MAX_DEPTH, MAX_VALUES, read_yaml
from enginegate.core.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def read(tmp_path: Path):
    """Reads a text: its content, and what is wrong with it."""

    def read(text: str) -> tuple[dict[str, Any], list[str]]:
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        return read_yaml(path)

    return read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8), ("-3", -3), ("1_000", 1000), ("1__", 1), ("0x1f", 31), ("0", 0), ("'8'", "8"),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1.5e+3", 1500.0), (".inf", math.inf),
        ("010", "010"), ("08", "08"), ("0b11", "0b11"), ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("1e3", "1e3"),
        ("2024-01-01", "2024-01-01"), ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"), ("=", "="),
        ("yes", True), ("off", False), ("true", True), ("'no'", "no"), ("~", None), ("", None), ("null", None),
        ("[1, [a, {b: c}]]", [1, ["a", {"b": "c"}]]), ("|\n  two\n  lines", "two\nlines"),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(read, text, value):
    content, problems = read(f"a: {text}")
    assert (content, problems) == ({"a": value}, [])
    assert type(content["a"]) is type(value)


def test_equal_keys_are_named_with_their_lines_at_every_level(read):
    content, problems = read("a: {b: 1, b: 2}\nc:\n  - d: 1\n    'd': 2\nf: 1\na: 3\n")
    assert problems == [
        "  a.b: is given twice, in lines 1 and 1: keep one",
        "  c.0.d: is given twice, in lines 3 and 4: keep one",
        "  a: is given twice, in lines 1 and 6: keep one",
    ]
    assert content == {"a": {"b": 1}, "c": [{"d": 1}], "f": 1}


def test_merged_keys_give_way_to_a_sections_own_and_to_earlier_ones(read):
    shared = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\n"
    content, problems = read(shared + "z: {b: 3, <<: *x}\nlist: {<<: [*y, *x]}\nnested: {<<: {<<: *x, c: 4}}\n")
    assert problems == []
    assert content["z"] == {"a": 1, "b": 3}
    assert content["list"] == {"a": 1, "b": 2, "c": 2}
    assert content["nested"] == {"a": 1, "b": 1, "c": 4}


def test_an_alias_shares_nothing_and_its_faults_are_told_once(read):
    content, problems = read("x: &x {a: {b: 1, b: 2}}\ny: *x\nz: {<<: *x}\n")
    assert len(problems) == 1
    content["x"]["a"]["b"] = 9
    assert content["y"] == content["z"] == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{1: a}", "  1: this key is read as a number: put it into quotes where a name is meant"),
        ("a: {no: 1}", "  a.no: this key is read as true or false: put it into quotes where a name is meant"),
        ("~: 1", "  ~: this key is read as nothing: put it into quotes where a name is meant"),
        ("? [a]\n: 1", "  (top): a key is a list or a section: write a name"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "  a.<<: is given twice, in lines 1 and 1: keep one"),
        ("<<: [1]", "  <<: merges something that is no section"),
        ('a: "x\\0y"', "  a: holds the character '\\x00', which no text here may have"),
        ('a: ["\\ud800"]', "  a.0: holds the character '\\ud800', which no text here may have"),
        (f"a: {'7' * 5000}", "  a: 77777777777777777777… is too large a number"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(read, text, said):
    assert read(text)[1] == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("- a", "is not a mapping"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("a:\n\t- 1", "not valid YAML"),
        ("a: !!int '1'", "the tag tag:yaml.org,2002:int is not read here"),
        ("a: *b", "undefined alias"),
        ("a: &b [*b]", "the alias b stands within what it stands for"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        (f"%YAML {'9' * 5000}.1\n---\na: 1", "not valid YAML"),
        ("a: " + "[" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
        ("\n".join(f"a{n}: 1" for n in range(MAX_VALUES)), f"more than {MAX_VALUES} values"),
        ("a: 1\n" + "#" * 300_000, "more than 256 KB"),
    ],
    ids=lambda value: value[:20],
)
def test_what_cannot_be_read_is_one_error(read, text, said):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in caught.value.problem
    assert caught.value.hint


def test_values_of_an_alias_count_wherever_it_stands(read):
    """Nine lines of ten aliases each would unfold to a billion values."""
    with pytest.raises(ConfigError, match="those that aliases stand for"):
        read("a0: &a0 x\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)))


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(ConfigError):
        read_yaml(Path("/dev/zero"))


names = st.text("abcxyz_", min_size=1, max_size=6).map("k{}".format)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text("aé 01:#-'\"", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=20,
)


@given(content=st.dictionaries(names, values, min_size=1, max_size=4))
def test_what_pyyaml_writes_is_read_as_it_was(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    assert read_yaml(path) == (content, [])
