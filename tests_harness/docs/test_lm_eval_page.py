"""docs/lm_eval.md: what it says of its records is so, and its prompts are lm-eval's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from scripted import scripts_of


@pytest.fixture
def script() -> Iterator[Callable[[str], ModuleType]]:
    with scripts_of("agreement") as load:
        yield load


@pytest.fixture
def record(script) -> dict:
    return json.loads((script("page").RECORDS / "agreement.json").read_text(encoding="utf-8"))


def test_what_the_page_says_is_so(record):
    """Choices of one engine are equal, and so are its numbers but for the last digits of a sum."""
    for row in record["rows"]:
        assert len(row["items"]) >= 50
        for key, (one, other, first, second) in row["items"].items():
            assert one == other, (row["task"], row["engine"], row["sides"], key)
            assert first == pytest.approx(second, rel=1e-4, abs=1e-3), (row["task"], row["sides"], key)
        assert row["scores"][0] == pytest.approx(row["scores"][1], rel=1e-5)
    tasks = {(row["task"], row["engine"]) for row in record["rows"]}
    assert tasks == {
        (task, engine) for task in ("letters", "cloze", "pages") for engine in ("hf fp32", "openvino int8_wo")
    }


def test_bleu_and_rouge_are_the_libraries_own_in_every_language(script, record):
    """Scored anew: the record's rows are those of today's code."""
    texts = script("texts")
    found = texts.compared()
    assert {row["language"] for row in found} == set(texts.TEXTS)
    for row in found:
        assert row["ours"] == pytest.approx(row["theirs"], abs=1e-9), (row["language"], row["signature"])
    seen = {(row["language"], row["signature"].split("tok:")[1].split("|")[0]): row for row in found}
    for language in ("Chinese", "Japanese", "Thai"):
        assert seen[language, "default"]["itself"] == seen[language, "13a"]["itself"] == 0
        assert seen[language, "unicode"]["itself"] == 1
        assert min(seen[language, "unicode"]["ours"]) > 0
        assert seen[language, "char"]["itself"] == pytest.approx(100)
    assert [row["ours"] for row in record["texts"]] == [pytest.approx(row["ours"]) for row in found]


def test_its_prompts_are_those_of_lm_eval_s_tasks(script):
    import lm_eval

    materials = script("materials")
    folder = Path(lm_eval.__file__).parent / "tasks" / "mmlu"
    for name, ours in (
        ("default/_default_template_yaml", materials.LETTERS_FORMAT),
        ("continuation/_continuation_template_yaml", materials.CLOZE_FORMAT),
    ):
        theirs = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        assert {key: theirs[key] for key in ours} == ours
    subject = yaml.safe_load((folder / "default" / "mmlu_world_religions.yaml").read_text(encoding="utf-8"))
    assert subject["description"].startswith("The following are multiple choice questions (with answers) about world r")


def test_questions_are_dealt_by_subject_and_leave_the_examples_out(script):
    from enginegate.quality.data import Question

    materials = script("materials")
    every = [
        Question(question=f"{'Long ' * (n % 7)}question {n}?", subject=subject, choices=tuple("abcd"), answer=n % 4)
        for subject in ("one", "two")
        for n in range(12)
    ]
    asked, examples = materials.chosen(every, 3, lambda question, shots: "question 7?" not in question.question)
    assert [question.subject for question in asked] == ["one"] * 3 + ["two"] * 3
    assert [question.subject for question in examples] == ["one"] * 5 + ["two"] * 5
    assert not {question.hash for question in asked} & {question.hash for question in examples}
    assert not [question for question in asked if "question 7?" in question.question]


def test_rows_of_mmlu_that_are_no_questions_are_counted(script, tmp_path):
    materials = script("materials")
    good = {f"answer_{letter}": letter for letter in "abcd"} | {"question": "Q?", "correct_answer": "B", "topic": "a b"}
    heading = {**good, "correct_answer": "correct_answer"}
    materials.write_lines(tmp_path / "mmlu.jsonl", [good, heading, good, heading])
    (question,) = materials.mmlu_questions(tmp_path / "mmlu.jsonl")
    assert (question.subject, question.answer, question.choices) == ("a_b", 1, ("a", "b", "c", "d"))
    materials.write_lines(tmp_path / "mmlu.jsonl", [good, heading])
    with pytest.raises(SystemExit, match="1 rows without an answer"):
        materials.mmlu_questions(tmp_path / "mmlu.jsonl")


def test_the_speed_of_both_is_taken_in_turns(script):
    speed = script("speed")
    asked: list[tuple[str, int]] = []

    def side(name: str):
        def answer(part: list[int]) -> list[tuple[float, bool]]:
            asked.append((name, len(part)))
            return [(-float(value), False) for value in part]

        return answer

    questions = [[number] * 4 for number in range(speed.TURN + 5)]
    (_, ours), (_, theirs) = speed.in_turns(questions, [side("ours"), side("theirs")])
    assert ours == theirs == [(-float(number), False) for number in range(speed.TURN + 5) for _ in range(4)]
    assert asked == [("ours", 4 * speed.TURN), ("theirs", 4 * speed.TURN), ("theirs", 20), ("ours", 20)]
