import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from enginegate.core.errors import ConfigError
from enginegate.quality.data import (
    Prompt,
    Question,
    item_hash,
    load_articles,
    load_passages,
    load_prompts,
    load_questions,
    take,
)
from hypothesis import given
from hypothesis import strategies as st

PROMPT = {"id": "p1", "category": "chat", "text": "Say hello."}
QUESTION = {"question": "Two and two?", "subject": "sums", "choices": ["3", "4", "5", "6"], "answer": 1}


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def question(text: str, subject: str = "sums", answer: int = 0) -> Question:
    return Question(question=text, subject=subject, choices=("a", "b", "c", "d"), answer=answer)


def test_items_are_read_in_order_and_other_keys_ignored(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", PROMPT, "", {**PROMPT, "id": "p2", "text": "Bye — ok?", "note": 1})
    assert [(p.id, p.text) for p in load_prompts(path)] == [("p1", "Say hello."), ("p2", "Bye — ok?")]
    passage = {"id": "h1", "topic": "tea", "text": "Tea is made with water."}
    assert load_passages(write_lines(tmp_path / "h.jsonl", passage))[0].group == "tea"
    article = {"id": "a1", "title": "T", "text": "Long text.", "summary": "Short."}
    assert load_articles(write_lines(tmp_path / "a.jsonl", article))[0].summary == "Short."


def test_a_hash_follows_what_is_asked_and_nothing_else() -> None:
    one = Prompt(id="p1", category="chat", text="Say hello.")
    assert one.hash == Prompt(id="other", category="other", text="Say hello.").hash
    assert one.hash != Prompt(id="p1", category="chat", text="Say hello!").hash
    assert len({question("q", answer=a, subject=s).hash for a in range(4) for s in ("sums", "maps")}) == 8
    # kept results depend on this value: it must not drift
    assert item_hash({"b": [1, "é"], "a": None}) == hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prompt"),
        (["", "  "], "holds no prompt"),
        ([PROMPT, "{not json"], r"line 2: Invalid JSON"),
        ([PROMPT, {"id": "p2", "category": "chat"}], r"line 2: text: Field required"),
        ([{**PROMPT, "text": "   "}], r"line 1: text: "),
        ([{**PROMPT, "text": 7}], r"line 1: text: .*string"),
        (["[1, 2]"], r"line 1: .*object"),
        ([PROMPT, "", {**PROMPT, "text": "Other."}], r"line 3: the id of item 'p1' was already used on line 1"),
        ([PROMPT, {**PROMPT, "id": "p2"}], r"line 2: the text of item 'p2' was already used on line 1"),
    ],
)
def test_a_bad_prompt_file_is_refused_with_its_line(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_prompts(write_lines(tmp_path / "p.jsonl", *rows))


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_prompts(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompts(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["3"]}, r"line 1: choices: .*at least 2"),
        ({"choices": [*"345678"]}, r"line 1: choices: .*at most 5"),
        ({"choices": ["3", " ", "5", "6"]}, r"line 1: choices\.1: it is blank"),
        ({"choices": "3, 4, 5, 6"}, r"line 1: the choices .3, 4, 5, 6. are no list, and no lines"),
        ({"answer": 4}, r"line 1: .*the answer 4 is none of 0 to 3"),
        ({"answer": -1}, r"line 1: answer: .*greater than or equal to 0"),
        ({"answer": 1.5}, r"line 1: answer: .*integer"),
        ({"answer": True}, r"line 1: answer: .*integer"),
        ({"answer": "E"}, r"line 1: the answer 'E' is none of A, B, C, D"),
        ({"answer": "4"}, r"line 1: the answer '4' is none of A, B, C, D"),
        ({"answer": ""}, r"line 1: the answer '' is none of A, B, C, D"),
        ({"answer": None}, r"line 1: answer: .*integer"),
        ({"question": ""}, r"line 1: question"),
    ],
)
def test_a_bad_question_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_questions(write_lines(tmp_path / "q.jsonl", {**QUESTION, **change}))


def test_the_original_mmlu_folder_gives_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "world_history_test.csv").write_text(
        '"Read this, then answer.\n""Who?""",Ann,"Bob, Jr.",Cy,Di,B\nWhen?,1,2,3,4,D\n', "utf-8"
    )
    (tmp_path / "test" / "algebra_test.csv").write_text("2+2=,3,4,5,6,B\n", "utf-8")
    (tmp_path / "test" / "algebra_dev.csv").write_text("1+1=,2,4,5,6,A\n", "utf-8")
    questions = load_questions(tmp_path)
    assert [(q.subject, q.answer) for q in questions] == [("algebra", 1), ("world_history", 1), ("world_history", 3)]
    assert questions[1].question == 'Read this, then answer.\n"Who?"'
    assert questions[1].choices == ("Ann", "Bob, Jr.", "Cy", "Di")
    assert load_questions(tmp_path / "test", split="dev")[0].question == "1+1="
    row = {"question": "2+2=", "subject": "algebra", "choices": ["3", "4", "5", "6"], "answer": 1}
    assert load_questions(write_lines(tmp_path / "q.jsonl", row))[0].hash == questions[0].hash


@pytest.mark.parametrize(
    "text", ["question,A,B,C,D,answer\n", "2+2=,3,4,5,B\n", '"open quote,1,2,3,4,A\n', ",1,2,3,4,A\n"]
)
def test_a_bad_mmlu_file_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "algebra_test.csv").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"algebra_test\.csv, line 1"):
        load_questions(tmp_path)


def test_a_folder_without_mmlu_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file \*_test\.csv"):
        load_questions(tmp_path)


def test_equal_questions_keep_results_of_their_own(tmp_path: Path) -> None:
    questions = load_questions(
        write_lines(tmp_path / "q.jsonl", QUESTION, QUESTION, {**QUESTION, "answer": 2}, QUESTION)
    )
    assert [q.copy_number for q in questions] == [0, 1, 0, 2]
    assert len({q.hash for q in questions}) == 4


def test_a_subset_is_spread_evenly_and_keeps_the_order_of_the_file() -> None:
    items = [question(f"q{i}", subject="abc"[i % 3] if i < 30 else "d") for i in range(33)]
    taken = take(items, 14)
    counts = Counter(item.subject for item in taken)
    assert sorted(counts.values()) == [3, 3, 4, 4]
    assert taken == [item for item in items if item in taken]
    assert set(taken) == set(take(items[::-1], 14)), "the order of the file does not matter"
    assert take(items, None) == items
    assert take(items, 99) == items
    with pytest.raises(ConfigError, match="subset of 0"):
        take(items, 0)


@given(
    old=st.lists(st.tuples(st.integers(0, 500), st.sampled_from("abcd")), unique=True, min_size=1, max_size=30),
    new=st.lists(st.tuples(st.integers(501, 999), st.sampled_from("abcdef")), unique=True, max_size=10),
    count=st.integers(1, 30),
)
def test_appended_items_never_bring_in_an_old_one(
    old: list[tuple[int, str]], new: list[tuple[int, str]], count: int
) -> None:
    before = [question(f"q{number}", subject=subject) for number, subject in old]
    added = [question(f"q{number}", subject=subject) for number, subject in new]
    taken = take(before + added, count)
    assert len(taken) == min(count, len(before + added))
    assert {q.hash for q in taken} & {q.hash for q in before} <= {q.hash for q in take(before, count)}
