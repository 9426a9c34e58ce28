"""Checks on the prompt and calibration texts in ``fixtures/data``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "fixtures" / "data"
RUN_WORDS = 10


def load(name: str) -> list[dict[str, str]]:
    raw = (DATA / name).read_text(encoding="utf-8")
    assert raw.endswith("\n")
    return [json.loads(line) for line in raw[:-1].split("\n")]


def shared_runs(texts: dict[str, str], size: int = RUN_WORDS) -> dict[str, set[str]]:
    """Return every run of `size` words that occurs in more than one text, with its owners."""
    owners: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for key, text in texts.items():
        words = re.findall(r"\w+", text.lower())
        for start in range(len(words) - size + 1):
            owners[tuple(words[start : start + size])].add(key)
    return {" ".join(run): keys for run, keys in owners.items() if len(keys) > 1}


PROMPTS = ("prompts.jsonl", "p", "category")
CALIBRATION = ("calibration.jsonl", "c", "topic")
SOURCES = pytest.mark.parametrize("source", [PROMPTS, CALIBRATION], ids=["prompts", "calibration"])


@SOURCES
def test_ids_are_unique_and_sequential(source: tuple[str, str, str]) -> None:
    name, prefix, _ = source
    rows = load(name)
    assert [row["id"] for row in rows] == [f"{prefix}{n:03d}" for n in range(1, len(rows) + 1)]


@SOURCES
def test_rows_have_exactly_the_expected_fields(source: tuple[str, str, str]) -> None:
    name, _, label = source
    for row in load(name):
        assert set(row) == {"id", label, "text"}, row["id"]
        for value in row.values():
            assert isinstance(value, str), row["id"]
            assert value, row["id"]
            assert value == value.strip(), row["id"]


@SOURCES
def test_texts_are_printable_ascii(source: tuple[str, str, str]) -> None:
    for row in load(source[0]):
        odd = {ch for ch in row["text"] if ch != "\n" and not " " <= ch <= "~"}
        assert not odd, (row["id"], odd)


def test_counts() -> None:
    assert len(load("prompts.jsonl")) >= 64
    assert len(load("calibration.jsonl")) >= 128


def test_variety_of_labels() -> None:
    assert len({row["category"] for row in load("prompts.jsonl")}) >= 12
    assert len({row["topic"] for row in load("calibration.jsonl")}) >= 25


def test_passage_lengths() -> None:
    lengths = {row["id"]: len(row["text"].split()) for row in load("calibration.jsonl")}
    assert {key: n for key, n in lengths.items() if not 70 <= n <= 130} == {}
    assert 85 <= sum(lengths.values()) / len(lengths) <= 110


def test_prompt_lengths_are_mixed() -> None:
    lengths = [len(row["text"].split()) for row in load("prompts.jsonl")]
    assert all(8 <= n <= 150 for n in lengths)
    for low, high in ((8, 20), (30, 60), (80, 150)):
        assert sum(low <= n <= high for n in lengths) >= len(lengths) // 4, (low, high)


def test_passages_include_chat_turns() -> None:
    rows = load("calibration.jsonl")
    chats = [row for row in rows if row["text"].startswith("User: ")]
    assert all("\n\nAssistant: " in row["text"] for row in chats)
    assert 0.10 <= len(chats) / len(rows) <= 0.20


def test_no_two_texts_share_a_run_of_words() -> None:
    texts: dict[str, str] = {}
    for name, _, _ in (PROMPTS, CALIBRATION):
        texts.update({row["id"]: row["text"] for row in load(name)})
    assert shared_runs(texts) == {}


def test_shared_runs_finds_a_copied_sentence() -> None:
    run = "one two three four five six seven eight nine ten"
    assert shared_runs({"a": f"start {run}", "b": f"{run.title()}, end"}) == {run: {"a", "b"}}
    assert shared_runs({"a": f"{run} {run}", "b": run.removesuffix(" ten")}) == {}
