"""``enginegate texts``: from a run's folder to a page, and what it says where there is nothing to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.core.records import AnswersEntry, TextEntry
from enginegate.storage.runs import save_record
from enginegate.storage.texts import TEXTS_NAME

from tests_harness.storage.factory import quality_entry, run_record

INT8, INT4 = "tiny-8m-openvino-int8_wo", "tiny-8m-openvino-int4_awq"
SAID = {
    "sky": ("The sky is blue today", "The sky is blue today", "The sky is green"),
    "sea": ("The sea is wide and deep", "The sea is wide", "sea sea sea sea"),
    "sun": ("The sun is up", "The sun is up", "The sun is up"),
}


def text(words: str) -> TextEntry:
    """One token a word."""
    pieces = words.replace(" ", "\0 ").split("\0")
    ends = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
    return TextEntry(text=words, tokens=[sum(map(ord, piece)) for piece in pieces], ends=ends)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    entries = [
        quality_entry(engine, "similarity").model_copy(
            update={
                "texts": AnswersEntry(
                    prompts={item: f"Tell me of the {item}." for item in SAID},
                    references={item: text(said[0]) for item, said in SAID.items()},
                    answers={item: text(said[column]) for item, said in SAID.items()},
                )
            }
        )
        for column, engine in ((1, INT8), (2, INT4))
    ]
    record = run_record("with-texts", verdicts=[], quality=False)
    save_record(record.model_copy(update={"quality": entries}), tmp_path / "runs")
    return tmp_path / "runs"


def test_texts_shows_where_two_engines_differ_most(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["texts", "with-texts", "--runs", str(runs), "--engines", "reference,int4_awq", "--worst", "1"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# similarity: reference beside tiny-8m-openvino-int4\\_awq\n")
    assert "3 prompts, 1 with equal texts, 2 with different ones. Shown: 1 of them" in page
    assert "## 1. sea" in page
    assert "> <b>▶The</b> sea is wide and deep" in page
    assert "> <b>▶sea</b> sea sea sea" in page
    assert "ROUGE-L 20.0, BLEU " in page
    assert "0 tokens in common, of 6 and 4" in page
    assert "sky" not in page


def test_the_two_that_differ_most_are_the_default_and_a_file_may_be_html(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "texts.HTML"
    assert main(["texts", str(runs / "with-texts"), "--output", str(page)]) == 0
    assert f"reference beside {INT4}: 3 prompts, 2 with different texts: written to {page}" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<mark>green</mark>" in page.read_text(encoding="utf-8")
    assert main(["texts", str(runs / "with-texts"), "--output", str(page), "--format", "markdown"]) == 0
    assert page.read_text(encoding="utf-8").startswith("# similarity")


def test_the_score_that_sorts_is_the_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["texts", "latest", "--runs", str(runs), "--by", "bleu", "--engines", "int8_wo,int4_awq"]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if "ROUGE-L" in line)
    assert first == "BLEU 16.0, ROUGE-L 25.0; 0 tokens in common, of 4 and 4"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engines", "int8_wo"], "--engines int8_wo names tiny-8m-openvino-int8_wo\n  hint: name two different ones"),
        (["--engines", "int8_wo,int8_wo"], "hint: name two different ones"),
        (["--engines", "int8_wo,fp4"], f"'fp4' is no one engine with texts: there are {INT8}, {INT4}, reference"),
        (["--engines", "reference,int8_wo,int4_awq"], "hint: name two different ones"),
        (["--engines", ""], "'' is no one engine with texts"),
        (["--metric", "cloze"], "has no texts of 'cloze', but of similarity\n  hint: name one of them"),
        (["--worst", "-1"], "'-1' is not a whole number from 0 on"),
        (["--by", "meteor"], "invalid choice: 'meteor'"),
    ],
)
def test_what_is_not_there_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["texts", "with-texts", "--runs", str(runs), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_runs_without_texts_and_damaged_ones_are_said(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_record(run_record("older"), runs)
    assert main(["texts", "older", "--runs", str(runs)]) == 2
    assert "there are no texts beside " in capsys.readouterr().err
    assert main(["texts", "nowhere", "--runs", str(runs)]) == 2
    assert "there is no run record at nowhere" in capsys.readouterr().err
    file = runs / "with-texts" / TEXTS_NAME
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content)[:200], encoding="utf-8")
    assert main(["texts", "with-texts", "--runs", str(runs)]) == 2
    assert f"file of texts {file} is not valid JSON" in capsys.readouterr().err
    file.write_text(json.dumps(content), encoding="utf-8")
    assert main(["texts", "with-texts", "--runs", str(runs), "--output", str(tmp_path)]) == 2
    assert f"the texts cannot be written to {tmp_path}" in capsys.readouterr().err


def test_a_tokenizer_that_the_run_was_configured_with_reads_the_texts(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "with-texts" / "run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for scores, said in (({"bleu_tokenizer": "char"}, "BLEU "), ({"rouge_tokenizer": 7}, "7 is none of default")):
        path.write_text(json.dumps(content | {"config": {"quality": scores}}), encoding="utf-8")
        code = main(["texts", "with-texts", "--runs", str(runs)])
        captured = capsys.readouterr()
        assert code == (0 if said == "BLEU " else 2)
        assert said in captured.out + captured.err
