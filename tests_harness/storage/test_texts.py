"""Texts lie beside the record, in a file of their own, and come back to it where shards are merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import RecordError
from enginegate.core.records import AnswersEntry, RunRecord, TextEntry
from enginegate.storage.runs import load_record, save_record
from enginegate.storage.texts import TEXTS_NAME, load_texts, texts_of, with_texts

from tests_harness.storage.factory import quality_entry, run_record

INT8, INT4 = "tiny-8m-openvino-int8_wo", "tiny-8m-openvino-int4_awq"
SUN = TextEntry(text="The sun", tokens=[5, 6], ends=[3, 7])


def wrote(engine: str, text: TextEntry, metric: str = "similarity", reference: TextEntry = SUN) -> Any:
    entry = quality_entry(engine, metric)
    texts = AnswersEntry(prompts={"item0": "What shines?"}, answers={"item0": text}, references={"item0": reference})
    return entry.model_copy(update={"texts": texts})


def record() -> RunRecord:
    moon = TextEntry(text="Der Mönd ☾", tokens=[5, 9, 9], ends=[3, 8, 10])
    entries = [wrote(INT8, moon), wrote(INT4, SUN), wrote(INT8, moon, "summaries"), quality_entry(INT8, "perplexity")]
    return run_record(verdicts=[], quality=False).model_copy(update={"quality": entries})


def test_they_are_written_beside_the_record_and_read_again(tmp_path: Path) -> None:
    whole = record()
    path = save_record(whole, tmp_path)
    assert '"texts"' not in path.read_text(encoding="utf-8")
    assert "What shines?" not in path.read_text(encoding="utf-8")
    texts = load_texts(path.parent)
    assert texts == texts_of(whole)
    assert set(texts.metrics) == {"similarity", "summaries"}
    assert list(texts.metrics["similarity"].answers) == [INT8, INT4]
    again = with_texts(load_record(path), texts)
    assert [entry.texts for entry in again.quality] == [entry.texts for entry in whole.quality]


def test_a_record_without_texts_has_no_file_of_them(tmp_path: Path) -> None:
    path = save_record(run_record(verdicts=[]), tmp_path)
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]
    assert load_texts(path.parent) is None
    assert with_texts(load_record(path), None) == load_record(path)


def test_of_two_references_the_first_one_is_kept(tmp_path: Path) -> None:
    """Each shard measures the reference for itself."""
    other = SUN.model_copy(update={"text": "The SUN"})
    entries = [wrote(INT8, SUN), wrote(INT4, SUN, reference=other)]
    found = texts_of(record().model_copy(update={"quality": entries}))
    assert found.metrics["similarity"].references["item0"].text == "The sun"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["ends"], [3], f"similarity of {INT8}, item item0: 2 tokens, and the ends of 1"),
        (["ends"], [7, 3], "the ends of its tokens do not lead to the end of its text"),
        (["ends"], [3, 8], "the ends of its tokens do not lead to the end of its text"),
        (["ends"], [-1, 7], "ends.0: Input should be greater than or equal to 0"),
        (["tokens"], ["5", 6], "tokens.0: Input should be a valid integer"),
        (["text"], None, "text: Input should be a valid string"),
    ],
)
def test_a_damaged_file_is_refused_and_named(tmp_path: Path, place: list[str], value: object, said: str) -> None:
    path = save_record(record().model_copy(update={"quality": [wrote(INT8, SUN)]}), tmp_path).parent / TEXTS_NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["similarity"]["answers"][INT8]["item0"][place[0]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError) as raised:
        load_texts(path.parent)
    assert f"file of texts {path} is damaged: " in str(raised.value)
    assert said in str(raised.value)
    assert "remove it" in raised.value.hint


def test_an_answer_to_no_prompt_is_damage(tmp_path: Path) -> None:
    path = save_record(record(), tmp_path).parent / TEXTS_NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["similarity"]["prompts"] = {}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError, match="item item0: there is no prompt"):
        load_texts(path.parent)
    path.write_text(json.dumps(content | {"schema_version": 9}), encoding="utf-8")
    with pytest.raises(RecordError, match="schema version 9; this enginegate reads versions up to 1"):
        load_texts(path.parent)
