"""Tasks of lm-evaluation-harness in a session: which tests there are, and what their gates say."""

from __future__ import annotations

import json
from pathlib import Path

import datasets  # noqa: F401 - inner sessions forget what they imported, and this does not bear being imported twice
import lm_eval.evaluator
import lm_eval.tasks  # noqa: F401
import pytest
import yaml
from enginegate.cli import main

pytest_plugins = ["pytester"]
TEST = "tests_quality/test_lm_eval.py"
ENGINE = "toy-fake-int8_wo"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


def with_tasks(suite, **section: object) -> Path:
    """A configuration with two tasks over local files: one of choices, one of whole texts."""
    folder = suite.workspace.folder / f"tasks-{suite.folder.name}"
    folder.mkdir(exist_ok=True)
    rows = [{"question": f"What is {n}?", "page": f"This is the page of number {n}."} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "metadata": {"version": 1.0},
    }
    tasks = {
        "picks": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": ["one", "another", "a third one"],
            "doc_to_target": "{{question|length % 3}}",
            "metric_list": [{"metric": "acc"}],
        },
        "pages": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
    }
    for name, task in tasks.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task, **common}), encoding="utf-8")
    lm = {"tasks": ["picks", "pages"], "include_path": folder.name, **section}
    raw = yaml.safe_load(suite.workspace.config.read_text(encoding="utf-8"))
    return suite.workspace.variant(suite.folder.name, quality={**raw.get("quality", {}), "lm_eval": lm}, floors={})


def collected(result) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def test_where_no_task_is_named_there_is_no_test(suite):
    result = suite.run("tests_quality", "--collect-only", "-q")
    assert collected(result)
    assert not [name for name in collected(result) if "lm_eval" in name]
    assert "no-task" not in result.stdout.str()


def test_whoever_asks_for_it_alone_is_told_why_there_is_none(suite):
    result = suite.run(TEST, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*no configuration names a task of lm-evaluation-harness under quality.lm_eval.tasks*"]
    )


def test_each_engine_has_the_tasks_of_its_own_configuration(suite):
    config = with_tasks(suite)
    other = suite.workspace.variant("other", model={"name": "other", "source": "path:checkpoint"})
    arguments = ("tests_quality", "--collect-only", "-q", "--precision=bf16,int8_wo", "-k", "lm_eval")
    assert collected(suite.run(*arguments, config=f"{config},{other}")) == [
        f"{TEST}::test_lm_eval[toy-fake-{precision}-{task}]"
        for precision in ("bf16", "int8_wo")
        for task in ("picks", "pages")
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"tasks": "picks"}, "quality.lm_eval.tasks"),
        ({"tasks": ["picks", "picks"]}, "'picks' is given twice"),
        ({"tasks": ["../picks"]}, "'../picks' is no name of a task"),
        ({"limit": 0}, "quality.lm_eval.limit"),
        ({"num_fewshot": -1}, "quality.lm_eval.num_fewshot"),
        ({"include_path": "nowhere"}, "quality.lm_eval.include_path: there is no folder"),
        ({"shots": 5}, "quality.lm_eval.shots: unknown key"),
    ],
)
def test_a_section_that_cannot_be_used_is_named(suite, section, said):
    config = with_tasks(suite, **section)
    result = suite.run(TEST, config=config)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str().replace("\n", " ")


@pytest.mark.heavy
def test_a_task_is_accepted_document_by_document_and_judged_by_that(suite, offline):
    config = with_tasks(suite)
    first = suite.run(TEST, "--precision=int8_wo", config=config)
    assert first.ret == 0
    record = suite.record()
    assert {entry.metric: entry.status for entry in record.verdicts} == {
        "lm_eval:picks": "NO_BASELINE",
        "lm_eval:pages": "NO_BASELINE",
    }
    picks = next(entry for entry in record.quality if (entry.engine, entry.metric) == (ENGINE, "lm_eval:picks"))
    assert len(picks.items) == 40
    run = suite.folder / "runs" / record.id
    assert main(["accept", str(run), "--baselines", str(suite.folder / "baselines")]) == 0
    again = suite.run(TEST, "--precision=int8_wo", config=config)
    assert again.ret == 0
    assert {entry.metric: entry.status for entry in suite.record().verdicts}["lm_eval:pages"] == "PASS"
    suite.prepare(sabotage="Unsure")
    worse = suite.run(TEST, "--precision=int8_wo", config=config)
    assert worse.ret == pytest.ExitCode.TESTS_FAILED
    found = {entry.metric: entry for entry in suite.record().verdicts}
    assert found["lm_eval:pages"].status == "FAIL"
    assert "int8_wo pages nll" in found["lm_eval:pages"].explanation
