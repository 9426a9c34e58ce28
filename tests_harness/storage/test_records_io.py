from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from enginegate.core.errors import RecordError
from enginegate.core.files import round_floats, to_json
from enginegate.core.records import RunRecord
from enginegate.storage.runs import find_record, latest_record, load_record, save_record
from hypothesis import given, settings
from hypothesis import strategies as st

from tests_harness.storage.factory import quality_entry, run_record, verdict_entry

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_no_json_holds_is_refused_and_rounding_leaves_it_out(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": [value]})
    assert json.loads(to_json(round_floats({"a": [value]}))) == {"a": [None]}


def test_a_score_that_is_no_number_is_read_again(tmp_path: Path) -> None:
    """One question has no standard error; the session's own record could not be read for it."""
    entry = quality_entry("tiny-8m-openvino-int8_wo")
    entry = entry.model_copy(update={"scores": entry.scores | {"stderr": math.nan}, "items": {"i": [math.nan] * 6}})
    record = run_record().model_copy(update={"quality": [entry]})
    (again,) = load_record(save_record(record, tmp_path)).quality
    assert math.isnan(again.scores["stderr"])
    assert math.isnan(again.items["i"][0])


@given(json_values)
def test_to_json_writes_the_value_it_was_given(value: object) -> None:
    assert json.loads(to_json(value)) == value


@given(json_values)
def test_rounding_twice_is_rounding_once(value: object) -> None:
    assert round_floats(round_floats(value)) == round_floats(value)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-290))
def test_rounding_keeps_seven_significant_digits(value: float) -> None:
    assert math.isclose(round_floats(value), value, rel_tol=5.1e-7)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    quality=st.booleans(),
    batches=st.lists(st.integers(1, 64), max_size=3, unique=True),
    estimate=st.floats(),
    text=st.text(),
)
def test_a_saved_record_loads_as_its_rounded_self(
    seed: int, quality: bool, batches: list[int], estimate: float, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    verdict = verdict_entry("engine", estimate=estimate, explanation=text, interval=(math.nan, math.inf))
    record = run_record(seed=seed, quality=quality, batch_sizes=batches, verdicts=[verdict])
    loaded = load_record(save_record(record, tmp_path_factory.mktemp("runs")))
    expected = RunRecord.model_validate(round_floats(record.model_dump()))
    assert repr(loaded) == repr(expected)  # repr: NaN equals itself


def test_times_are_rounded_and_one_round_is_one_line(tmp_path: Path) -> None:
    path = save_record(run_record(), tmp_path)
    lines = [line for line in path.read_text().splitlines() if '"foreign_load"' in line]
    assert path == tmp_path / "20261121-091500-abc" / "run.json"
    assert len(lines) == 2 * 16 * 4
    seconds = json.loads(lines[0].strip().rstrip(","))["seconds"]
    assert len(str(seconds).replace(".", "").lstrip("0")) <= 7


def test_a_failed_write_leaves_the_old_record_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_record(run_record(commit="old"), tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device") as caught:
        save_record(run_record(commit="new"), tmp_path)
    assert caught.value.hint
    assert load_record(path).commit == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["run.json"]


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RecordError, match="cannot be written"):
        save_record(run_record(), tmp_path / "runs")


def damaged(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_way_of_being_no_record_is_told_apart(tmp_path: Path) -> None:
    path = save_record(run_record(), tmp_path)
    good = json.loads(path.read_text())
    cases = {
        "not valid JSON": path.read_text()[: len(path.read_text()) // 2],
        "not a run record": json.dumps({"hello": 1}),
        "schema version 99; this enginegate reads versions up to 3": json.dumps(good | {"schema_version": 99}),
        "damaged: id": json.dumps({key: value for key, value in good.items() if key != "id"}),
        "damaged: surprise": json.dumps(good | {"surprise": 1}),
    }
    for expected, text in cases.items():
        with pytest.raises(RecordError, match=expected) as caught:
            load_record(damaged(path, text))
        assert caught.value.hint, expected
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="not valid JSON"):
        load_record(path)
    with pytest.raises(RecordError, match="there is no run record"):
        load_record(tmp_path / "nothing")


def test_records_are_found_by_name(tmp_path: Path) -> None:
    first = save_record(run_record("a"), tmp_path)
    second = save_record(run_record("b"), tmp_path)
    os.utime(second, (1, 1))
    assert latest_record(tmp_path) == first
    assert find_record("latest", tmp_path) == first
    assert find_record("b", tmp_path) == second
    assert find_record(str(second), Path("elsewhere")) == second
    assert load_record(find_record(str(second.parent), tmp_path)).id == "b"
    with pytest.raises(RecordError, match="no run in"):
        find_record("latest", tmp_path / "empty")


def test_a_verdict_has_one_of_four_statuses(tmp_path: Path) -> None:
    path = save_record(run_record(), tmp_path)
    path.write_text(path.read_text().replace('"status": "PASS"', '"status": "MAYBE"'))
    with pytest.raises(RecordError, match=r"damaged: verdicts.0.status.*and 5 more"):
        load_record(path)
