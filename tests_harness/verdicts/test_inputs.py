"""Gate inputs: stored with a verdict, and the same verdict from the record again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import RecordError
from enginegate.storage.runs import load_record, save_record
from enginegate.verdicts.compare import Rule, compare_sessions
from enginegate.verdicts.inputs import MemoryInputs, SizeInputs, restore_inputs
from enginegate.verdicts.judge import judge
from enginegate.verdicts.sources import from_record

from tests_harness.storage.factory import engine_entry, gated_record, memory_entry, quality_entry, run_record

INT8, WORKLOAD = "tiny-8m-openvino-int8_wo", "b1-i64-o64"
MANY = 1_234_567_123


def memory_inputs(**changes: Any) -> dict[str, Any]:
    inputs = MemoryInputs(
        metric="kv_budget",
        candidate=INT8,
        subject="",
        workload=WORKLOAD,
        field="kv_budget",
        baseline=None,
        limit=MANY,
        relative=0.0,
        quantum=0,
    )
    return inputs.model_dump(mode="json") | changes


def test_bytes_stay_exact_on_their_way_through_a_record(tmp_path: Path) -> None:
    """Floats keep seven digits there, so a limit without tolerance failed the very bytes that it was taken from."""
    entry = memory_entry(INT8).model_copy(update={"kv_budget": MANY})
    size = SizeInputs(metric="engine_size", candidate=INT8, subject="", baseline=MANY, limit=None)
    verdict = gated_record(2.0).verdicts[0]
    verdicts = [verdict.model_copy(update={"inputs": each}) for each in (memory_inputs(), size.model_dump(mode="json"))]
    engines = [engine_entry(INT8).model_copy(update={"size_bytes": MANY})]
    record = run_record().model_copy(update={"memory": [entry], "verdicts": verdicts, "engines": engines})
    again = load_record(save_record(record, tmp_path))
    restored = [restore_inputs(each.inputs) for each in again.verdicts]
    assert restored == [restore_inputs(each.inputs) for each in record.verdicts]
    assert [judge(inputs, again).status.value for inputs in restored] == ["PASS", "PASS"]


@pytest.mark.parametrize(
    "changes",
    [{"gate": "nosuch"}, {"field": "nosuch"}, {"baseline": -1}, {"candidate": None}, {"surprise": 1}],
)
def test_damaged_inputs_are_refused_as_such(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="cannot be used"):
        restore_inputs(memory_inputs(**changes))


def test_answers_whose_chance_is_not_known_are_compared_all_the_same() -> None:
    """They ended compare with a KeyError."""
    entry = quality_entry(INT8, items=40)
    entry = entry.model_copy(update={"scores": {key: v for key, v in entry.scores.items() if key != "chance"}})
    base, new = (run_record(name, quality=False).model_copy(update={"quality": [entry]}) for name in "ab")
    compared = compare_sessions([from_record("a", base)], from_record("b", new), Rule()).compared
    assert "cloze" in {item.metric for item in compared}


def test_a_stored_configuration_of_another_version_is_read_as_far_as_it_is_known() -> None:
    config = {"gates": {"speed": {"margin": 0.5, "tolerated": 0.9, "invented": 1}, "later": {}}}
    base, new = (run_record(name).model_copy(update={"config": config}) for name in "ab")
    compared = compare_sessions([from_record("a", base)], from_record("b", new), Rule()).compared
    assert {item.verdict.margin for item in compared if item.metric == "speedup"} == {0.5}


def test_compare_says_where_engines_of_one_name_were_not_loaded_alike() -> None:
    base, new = run_record("a"), run_record("b")
    engines = [entry.model_copy(update={"runtime_digest": "another"}) for entry in new.engines]
    changed = new.model_copy(update={"engines": engines})
    assert not compare_sessions([from_record("a", base)], from_record("b", new), Rule()).warnings
    warnings = compare_sessions([from_record("a", base)], from_record("b", changed), Rule()).warnings
    assert f"{INT8} had other runtime settings in a than in b" in warnings
