"""What is read from disk is JSON as it should be, in whatever encoding."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
from enginegate.storage import reading
from enginegate.storage.reading import read_strictly
from hypothesis import given
from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(values, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]), st.booleans())
def test_sound_json_is_read_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, value: object, code: str, pack: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    data = json.dumps(value).encode(code)
    path.write_bytes(gzip.compress(data) if pack else data)
    assert read_strictly(path) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("1e400", "no float holds"),
        ("-1e400", "no float holds"),
        ("1" * 310, "no float holds"),
        ("1" * 5000, "no float holds"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is there twice"),
        ("[" * 100_000, "too deeply"),
        ("{", "Expecting"),
        ('{"a": 1} {"a": 2}', "Extra data"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_strictly(tmp_path / "x.json")


def test_numbers_that_are_read_otherwise(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(f"[NaN, Infinity, -Infinity, {2**64 - 1}, {10**30}]")
    *nothing, whole, long = read_strictly(tmp_path / "x.json")
    assert nothing == [None, None, None]
    assert (whole, long) == (2**64 - 1, 1e30)
    assert (type(whole), type(long)) == (int, float)
    assert math.isfinite(long)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 2**20)
    (tmp_path / "large").write_bytes(b" " * (2**20 + 1))
    (tmp_path / "bomb").write_bytes(gzip.compress(b" " * (2**20 + 1)))
    for name in ("large", "bomb"):
        with pytest.raises(ValueError, match="more than 1 MiB"):
            read_strictly(tmp_path / name)
