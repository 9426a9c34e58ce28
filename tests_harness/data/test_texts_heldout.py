"""The held-out texts: well-formed, distinct, and disjoint from calibration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "fixtures" / "data"
PASSAGES = DATA / "passages.jsonl"
ARTICLES = DATA / "articles.jsonl"
CALIBRATION = DATA / "calibration.jsonl"


def load(path: Path) -> list[dict[str, str]]:
    """Every line of a JSON-lines file; a blank or broken line is an error."""
    assert path.is_file(), f"{path} is missing"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def ngrams(text: str, n: int) -> set[str]:
    tokens = words(text)
    return {" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def heldout() -> list[tuple[str, str]]:
    """(name, text) of every passage, article and summary."""
    out = [(row["id"], row["text"]) for row in load(PASSAGES)]
    for row in load(ARTICLES):
        out.append((row["id"], row["text"]))
        out.append((row["id"] + ".summary", row["summary"]))
    return out


@pytest.mark.parametrize(
    ("path", "prefix", "at_least", "fields"),
    [
        (PASSAGES, "h", 64, ["id", "topic", "text"]),
        (ARTICLES, "a", 50, ["id", "title", "text", "summary"]),
    ],
    ids=["passages", "articles"],
)
def test_shape(path: Path, prefix: str, at_least: int, fields: list[str]) -> None:
    rows = load(path)
    assert len(rows) >= at_least
    assert [r["id"] for r in rows] == [f"{prefix}{i:03d}" for i in range(1, len(rows) + 1)]
    for row in rows:
        assert list(row) == fields, row["id"]
        for field in fields:
            value = row[field]
            assert isinstance(value, str), (row["id"], field)
            assert value, (row["id"], field)
            assert value == value.strip(), (row["id"], field)
            assert value.isascii(), (row["id"], field)


def test_passage_lengths_and_topics() -> None:
    rows = load(PASSAGES)
    counts = {r["id"]: len(r["text"].split()) for r in rows}
    assert {k: n for k, n in counts.items() if not 80 <= n <= 130} == {}
    assert 95 <= sum(counts.values()) / len(counts) <= 115
    assert len({r["topic"] for r in rows}) >= 30


def test_article_lengths() -> None:
    rows = load(ARTICLES)
    counts = {r["id"]: len(r["text"].split()) for r in rows}
    assert {k: n for k, n in counts.items() if not 130 <= n <= 220} == {}
    assert 160 <= sum(counts.values()) / len(counts) <= 180
    assert len({r["title"] for r in rows}) == len(rows)


def test_summaries_are_short_and_about_their_article() -> None:
    for row in load(ARTICLES):
        n = len(row["summary"].split())
        assert 25 <= n <= 50, (row["id"], n)
        assert 3 * n <= len(row["text"].split()), row["id"]
        shared = {w for w in words(row["summary"]) if len(w) > 4} & set(words(row["text"]))
        assert len(shared) >= 3, (row["id"], shared)


def test_a_summary_is_closest_to_its_own_article() -> None:
    """A shuffled reference would still share a few words with any article."""
    rows = load(ARTICLES)
    bodies = {r["id"]: set(words(r["text"])) for r in rows}
    for row in rows:
        content = {w for w in words(row["summary"]) if len(w) > 4}
        best = max(bodies, key=lambda name: len(content & bodies[name]))
        assert best == row["id"], (row["id"], best)


def test_a_summary_is_not_copied_from_its_article() -> None:
    for row in load(ARTICLES):
        assert ngrams(row["summary"], 8) & ngrams(row["text"], 8) == set(), row["id"]


def test_openings_differ() -> None:
    """No boilerplate: the first four words of each text occur once."""
    seen: dict[tuple[str, ...], str] = {}
    for name, text in heldout():
        opening = tuple(words(text)[:4])
        assert opening not in seen, (name, seen.get(opening))
        seen[opening] = name


def test_no_two_texts_share_a_ten_word_run() -> None:
    owner: dict[str, str] = {}
    clashes = []
    for name, text in heldout():
        for run in ngrams(text, 10):
            if owner.setdefault(run, name) != name:
                clashes.append((run, owner[run], name))
    assert clashes == []


def test_heldout_does_not_overlap_calibration() -> None:
    rows = load(CALIBRATION)
    assert rows, "calibration.jsonl is empty"
    owner = {run: row["id"] for row in rows for run in ngrams(row["text"], 8)}
    assert owner, "calibration.jsonl holds no text long enough to compare"
    clashes = [(run, owner[run], name) for name, text in heldout() for run in ngrams(text, 8) if run in owner]
    assert clashes == []
