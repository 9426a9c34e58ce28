"""The committed question set is sound, and the generator refuses unsound fact tables."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from enginegate.fixtures.data import make_questions as mq

DATA = Path(__file__).resolve().parents[2] / "fixtures" / "data"
SPLITS = ("test", "dev")


def _read(split: str) -> list[dict[str, Any]]:
    text = (DATA / "questions" / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


QUESTIONS = {split: _read(split) for split in SPLITS}
ALL = [question for split in SPLITS for question in QUESTIONS[split]]


def _facts_by_question() -> dict[str, Any]:
    """Return the fact behind each question text."""
    return {
        mq.question_text(subject, fact): fact
        for subject in mq.SUBJECTS
        for fact in mq.read_facts(mq.FACTS_DIR / f"{subject.name}.csv")
    }


def _spread(letters: list[int]) -> int:
    counts = [letters.count(letter) for letter in range(4)]
    return max(counts) - min(counts)


# --- the committed files ---------------------------------------------------------------------


def test_committed_files_are_what_the_generator_writes() -> None:
    for path, text in mq.outputs(mq.FACTS_DIR, mq.QUESTIONS_DIR).items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale"


@pytest.mark.parametrize("split", SPLITS)
def test_schema(split: str) -> None:
    for item in QUESTIONS[split]:
        assert list(item) == ["question", "subject", "choices", "answer"]
        assert isinstance(item["question"], str)
        assert isinstance(item["subject"], str)
        assert item["question"] == item["question"].strip()
        assert item["question"].endswith("?")
        assert item["question"][0].isupper()
        assert "{" not in item["question"]
        assert len(item["choices"]) == 4
        assert all(isinstance(c, str) and c and c == c.strip() for c in item["choices"])
        assert type(item["answer"]) is int
        assert 0 <= item["answer"] <= 3


def test_size() -> None:
    assert len(QUESTIONS["test"]) >= 1100
    assert len({item["subject"] for item in QUESTIONS["test"]}) >= 12


def test_dev_has_five_questions_for_each_test_subject() -> None:
    counts = Counter(item["subject"] for item in QUESTIONS["dev"])
    assert set(counts) == {item["subject"] for item in QUESTIONS["test"]}
    assert set(counts.values()) == {5}


@pytest.mark.parametrize("split", SPLITS)
def test_answer_letters_are_balanced(split: str) -> None:
    by_subject: dict[str, list[int]] = defaultdict(list)
    for item in QUESTIONS[split]:
        by_subject[item["subject"]].append(item["answer"])
    assert {name: _spread(letters) for name, letters in by_subject.items() if _spread(letters) > 1} == {}
    assert _spread([item["answer"] for item in QUESTIONS[split]]) <= 1


def test_answer_letters_do_not_simply_cycle() -> None:
    letters = [item["answer"] for item in QUESTIONS["test"]]
    steps = Counter((after - before) % 4 for before, after in pairwise(letters))
    assert max(steps.values()) < len(letters) / 2


def test_no_question_is_asked_twice_in_either_file() -> None:
    counts = Counter(item["question"].casefold() for item in ALL)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_fact_is_in_both_files() -> None:
    facts = _facts_by_question()
    keys = {
        split: {
            (item["subject"], facts[item["question"]].ask, facts[item["question"]].key) for item in QUESTIONS[split]
        }
        for split in SPLITS
    }
    assert keys["test"] & keys["dev"] == set()


def test_choices_are_distinct_and_none_is_part_of_another() -> None:
    for item in ALL:
        folded = [choice.casefold() for choice in item["choices"]]
        assert len(set(folded)) == 4, item
        for left in folded:
            for right in folded:
                assert left == right or f" {left} " not in f" {right} ", item


def test_right_choice_is_the_answer_and_no_choice_is_excluded() -> None:
    facts = _facts_by_question()
    assert len(facts) == len(ALL)
    for item in ALL:
        fact = facts[item["question"]]
        excluded = {option.casefold() for option in fact.exclude}
        assert item["choices"][item["answer"]] == fact.answer, item
        assert excluded.isdisjoint(choice.casefold() for choice in item["choices"]), item


def test_no_question_depends_on_the_list_of_choices() -> None:
    pattern = re.compile(r"\b(of the following|of these|all of the above|none of the above)\b", re.I)
    for item in ALL:
        assert not pattern.search(" ".join([item["question"], *item["choices"]])), item


def test_an_article_does_not_give_the_answer_away() -> None:
    for item in ALL:
        assert not re.search(r"\ban?\W*$", item["question"]), item
        articles = {choice.split()[0] for choice in item["choices"]} & {"a", "an"}
        if articles:
            assert all(choice.split()[0] in {"a", "an", "the"} for choice in item["choices"]), item


def test_articles_within_questions_fit_the_next_word() -> None:
    for item in ALL:
        assert not re.search(r"\ba [aeio]", item["question"].lower()), item
        assert not re.search(r"\ban [^aeiouh]", item["question"].lower()), item


def test_arithmetic_answers_are_right() -> None:
    operations: dict[str, Callable[[int, int], float]] = {
        "plus": operator.add,
        "minus": operator.sub,
        "times": operator.mul,
        "divided by": operator.truediv,
    }
    facts = mq.read_facts(mq.FACTS_DIR / "arithmetic.csv")
    for fact in facts:
        match = re.fullmatch(r"(\d+) (plus|minus|times|divided by) (\d+)", fact.key)
        assert match, fact
        expected = operations[match[2]](int(match[1]), int(match[3]))
        assert expected == ast.literal_eval(fact.answer), fact


def test_shared_keys_of_element_tables_agree() -> None:
    symbols = {fact.key for fact in mq.read_facts(mq.FACTS_DIR / "element_symbols.csv")}
    numbers = mq.read_facts(mq.FACTS_DIR / "element_atomic_numbers.csv")
    assert {fact.key for fact in numbers} <= symbols
    assert len({fact.answer for fact in numbers}) == len(numbers)


# --- the generator -----------------------------------------------------------------------------

HEADER = "key,answer,ask,group,topic,exclude,wrong\n"
TOY = mq.Subject("toy", {"": ("What is the capital of {key}?",)})
NUMBERS = mq.Subject("toy", {"": ("How much is {key}?",)}, offsets=(-2, -1, 1, 2), low=1)


def _table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "toy.csv"
    path.write_text(header + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def _wrong(folder: Path, *rows: str, subject: Any = TOY) -> list[str]:
    """Return the wrong options of the first row."""
    facts = mq.read_facts(_table(folder, *rows))
    options: list[str] = mq.wrong_options(subject, facts[0], facts)
    return options


TOWNS = ("b,Bern,,,,,", "c,Cork,,,,,", "d,Dover,,,,,")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a,Aa,,,,,", "A,Bb,,,,,"), r"toy\.csv row 3: duplicate key 'A', also in toy\.csv row 2"),
        (("a,Aa,,,,Bb;aA,",), r"toy\.csv row 2: the answer 'Aa' is in its own exclude list"),
        (("a,Aa,,,,,Bb;aa;Cc",), r"toy\.csv row 2: the answer 'Aa' is in its own wrong list"),
        (("a,,,,,,",), r"toy\.csv row 2: empty answer"),
        ((",Aa,,,,,",), r"toy\.csv row 2: empty key"),
        (("a,Aa",), r"toy\.csv row 2: the row has not as many cells"),
        (("a,Aa,,,,,,extra",), r"toy\.csv row 2: the row has not as many cells"),
    ],
)
def test_bad_row_is_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(mq.TableError, match=message):
        mq.read_facts(_table(tmp_path, *rows))


@pytest.mark.parametrize("header", ["key\n", "key,answer,answr\n"])
def test_bad_header_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(mq.TableError, match=r"toy\.csv row 1: missing columns"):
        mq.read_facts(_table(tmp_path, header=header))


def test_too_few_distractors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mq.TableError, match=r"toy\.csv row 2: too few distractors for 'a'"):
        _wrong(tmp_path, "a,Aarau,,,,Bern,", *TOWNS)


def test_three_other_answers_are_enough(tmp_path: Path) -> None:
    assert sorted(_wrong(tmp_path, "a,Aarau,,,,,", *TOWNS)) == ["Bern", "Cork", "Dover"]


def test_excluded_answer_is_not_offered(tmp_path: Path) -> None:
    options = _wrong(tmp_path, "a,Aarau,,,,cork,", *TOWNS, "e,Essen,,,,,")
    assert sorted(options) == ["Bern", "Dover", "Essen"]


def test_same_answer_of_another_row_is_not_offered(tmp_path: Path) -> None:
    options = _wrong(tmp_path, "a,Aarau,,,,,", "e,aarau,,,,,", *TOWNS)
    assert sorted(options) == ["Bern", "Cork", "Dover"]


def test_part_of_the_answer_is_not_offered(tmp_path: Path) -> None:
    options = _wrong(tmp_path, "a,US dollar,,,,,", "e,dollar,,,,,", *TOWNS)
    assert sorted(options) == ["Bern", "Cork", "Dover"]


def test_group_and_topic_limit_the_options(tmp_path: Path) -> None:
    options = _wrong(
        tmp_path,
        "a,Aarau,,g,t,,",
        "b,Bern,,g,,,",
        "c,Cork,,g,u,,",
        "d,Dover,,g,,,",
        "e,Essen,,g,t,,",
        "f,Fano,,other,,,",
    )
    assert sorted(options) == ["Bern", "Cork", "Dover"]


def test_hand_written_options_replace_the_choice(tmp_path: Path) -> None:
    assert sorted(_wrong(tmp_path, "a,Aarau,,,,,X;Y;Z", *TOWNS)) == ["X", "Y", "Z"]


def test_option_both_wrong_and_excluded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mq.TableError, match=r"'[Yy]' is both in wrong and in exclude"):
        _wrong(tmp_path, "a,Aarau,,,,y,X;Y;Z", *TOWNS)


def test_wrong_numbers_stay_in_range(tmp_path: Path) -> None:
    assert sorted(_wrong(tmp_path, "1 plus 1,2,,,,,", subject=NUMBERS)) == ["1", "3", "4"]
    with pytest.raises(mq.TableError, match=r"row 2: too few distractors"):
        _wrong(tmp_path, "1 plus 0,1,,,,,", subject=NUMBERS)
    with pytest.raises(mq.TableError, match=r"row 2: 'two' is not a whole number"):
        _wrong(tmp_path, "1 plus 1,two,,,,,", subject=NUMBERS)


def test_unknown_ask_is_refused(tmp_path: Path) -> None:
    fact = mq.read_facts(_table(tmp_path, "a,Aarau,sung,,,,"))[0]
    with pytest.raises(mq.TableError, match=r"toy\.csv row 2: toy has no template for ask='sung'"):
        mq.question_text(TOY, fact)


def test_generate_refuses_unused_tables_small_tables_and_equal_questions(tmp_path: Path) -> None:
    rows = [f"{name},Town{name * 3},,,,," for name in "abcdefgh"]
    _table(tmp_path, *rows)
    test, dev = mq.generate(tmp_path, [TOY])
    assert (len(test), len(dev)) == (3, 5)

    (tmp_path / "other.csv").write_text(HEADER, encoding="utf-8")
    with pytest.raises(mq.TableError, match=r"without a subject: \['other'\]"):
        mq.generate(tmp_path, [TOY])
    (tmp_path / "other.csv").unlink()

    same = mq.Subject("toy", {"": ("What is it?",)})
    with pytest.raises(mq.TableError, match=r"row 3: same question as toy\.csv row 2"):
        mq.generate(tmp_path, [same])

    _table(tmp_path, *rows[:5])
    with pytest.raises(mq.TableError, match=r"toy\.csv: 5 rows leave none"):
        mq.generate(tmp_path, [TOY])


@pytest.mark.parametrize(
    ("left", "right", "letters", "expected"),
    [
        ("dollar", "US Dollar", False, True),
        ("pup", "puppy", False, False),
        ("pup", "puppy", True, True),
        ("12", "120", True, False),
        ("Paris", "paris", False, True),
        ("Rome", "Oslo", True, False),
    ],
)
def test_contains(left: str, right: str, letters: bool, expected: bool) -> None:
    assert mq.contains(left, right, letters=letters) is expected
    assert mq.contains(right, left, letters=letters) is expected


@pytest.mark.parametrize("count", range(1, 12))
def test_letters_are_balanced_for_every_count_and_start(count: int) -> None:
    for start in range(4):
        letters = mq.letters_for(count, start, "salt")
        assert len(letters) == count
        assert _spread(letters) <= 1


def test_check_tells_fresh_stale_and_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path)]
    assert mq.main([*arguments, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []  # a check writes nothing
    assert mq.main(arguments) == 0
    assert mq.main([*arguments, "--check"]) == 0
    changed = tmp_path / "dev.jsonl"
    changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    capsys.readouterr()
    assert mq.main([*arguments, "--check"]) == 1
    complaint = capsys.readouterr().err
    assert "dev.jsonl is not up to date" in complaint
    assert "test.jsonl" not in complaint


def test_main_names_the_row_of_a_bad_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in mq.SUBJECTS:
        path = tmp_path / f"{subject.name}.csv"
        path.write_bytes((mq.FACTS_DIR / path.name).read_bytes())
    capitals = tmp_path / "capitals.csv"
    lines = capitals.read_text(encoding="utf-8").splitlines()
    capitals.write_text("\n".join([*lines, lines[1]]) + "\n", encoding="utf-8")
    assert mq.main(["--facts", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert f"capitals.csv row {len(lines) + 1}: duplicate key" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
