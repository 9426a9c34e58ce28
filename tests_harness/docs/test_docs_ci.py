"""The jobs of docs/ci.md, and the one that ``init`` writes: commands that parse, variables that exist, one way."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import yaml
from docs_text import blocks, read
from enginegate.cli import build_parser
from enginegate.plan.against import read_against

pytest_plugins = ["pytester"]

PAGE = read("ci.md")
INIT = (resources.files("enginegate.templates") / "workflow.yml.txt").read_text(encoding="utf-8")
INIT = INIT.replace("@tests@", "tests_perf tests_quality").replace("@requirement@", "enginegate[openvino]")
WORKFLOWS = {
    "against": blocks(PAGE, "yaml", ".github/workflows/against.yml")[0],
    "gate": blocks(PAGE, "yaml", ".github/workflows/gate.yml")[0],
    "init": INIT,
}
LIVE, STORED = blocks(PAGE, "yaml", ".gitlab-ci.yml")
PIPELINES = {"live": LIVE, "stored": STORED}

#: GitHub's contexts, by https://docs.github.com/en/actions/reference/workflows-and-actions/contexts
GITHUB = {"github.workspace", "github.ref", "github.base_ref", "runner.os", "runner.arch"}
#: Whatever the project itself defines on the service.
OURS = {"vars.HAS_GPU_RUNNER", "HAS_GPU_RUNNER"}
#: GitLab's own, by https://docs.gitlab.com/ci/variables/predefined_variables/
GITLAB = {"CI_PROJECT_DIR", "CI_PIPELINE_SOURCE", "CI_MERGE_REQUEST_DIFF_BASE_SHA"}
ACTIONS = {"actions/checkout@v4", "actions/setup-python@v5", "actions/cache@v4", "actions/upload-artifact@v4"}
#: What the variables of a command may stand for.
VALUES = {"$BASE": "0123abcd", "$AGAINST": "--eg-against=git:origin/main"}


def jobs(text: str) -> dict[str, Any]:
    """The jobs of a file of either service."""
    content = yaml.safe_load(text)
    found: dict[str, Any] = content.get("jobs") or {
        name: job for name, job in content.items() if isinstance(job, dict) and "script" in job
    }
    return found


def commands(job: dict[str, Any]) -> Iterator[list[str]]:
    """Every command of a job in words, with values for its variables; what stands in ``ARGS`` is pytest's."""
    lines = [step["run"] for step in job.get("steps", []) if "run" in step] + job.get("script", [])
    for line in lines:
        line = re.sub(r"\$\{\{ inputs\.record && '(.+?)' .*?\}\}", r"\1", line)
        for name, value in VALUES.items():
            line = line.replace(name, value)
        for part in line.split(" && "):
            words = shlex.split(part)
            if words[0] == "make":
                words = ["pytest", "tests_perf", "tests_quality", *shlex.split(words[-1].removeprefix("ARGS="))]
            yield words


ALL = [
    pytest.param(job, id=f"{file}-{name}")
    for file, text in (*WORKFLOWS.items(), *PIPELINES.items())
    for name, job in jobs(text).items()
]


@pytest.mark.parametrize("job", ALL)
def test_its_commands_are_understood(job, pytester):
    """By pytest with the suite's options, and by the command line."""
    (pytester.path / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    (pytester.path / "tests_perf").mkdir()
    (pytester.path / "tests_quality").mkdir()
    known = {"pytest": 0, "enginegate": 0}
    for program, *words in commands(job):
        if program == "pytest":
            config = pytester.parseconfig(*words)
            known[program] += 1
            assert config.args == ["tests_perf", "tests_quality"]
            assert config.option.xmlpath == "runs/junit.xml"
            assert read_against(config.option.eg_against) is not None or "--against" not in words
        elif program == "enginegate":
            known[program] += 1
            assert build_parser().parse_args(words)
        else:
            assert program in {"pip", "cat", "git"}
    assert known["pytest"] == 1


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_a_workflow_reads_exists(name):
    text = WORKFLOWS[name]
    content = yaml.safe_load(text)
    triggers = content[True]  # `on` is a word for true
    inputs = ((triggers.get("workflow_dispatch") or {}) if isinstance(triggers, dict) else {}).get("inputs", {})
    known = GITHUB | OURS | {f"inputs.{each}" for each in inputs}
    expressions = re.findall(r"\$\{\{(.+?)\}\}", text)
    places = [place for job in content["jobs"].values() for place in (job, *job["steps"])]
    expressions += [str(place["if"]) for place in places if "if" in place]
    assert expressions
    for expression in expressions:
        plain = re.sub(r"'[^']*'", "", expression)
        assert set(re.findall(r"[a-z]+\.\w+", plain)) <= known, expression
        assert set(re.findall(r"(\w+)\(", plain)) <= {"hashFiles", "format", "always"}, expression
    for job in content["jobs"].values():
        assert {step["uses"] for step in job["steps"] if "uses" in step} <= ACTIONS
        for step in job["steps"]:
            used = set(re.findall(r"\$(\w+)", step.get("run", "")))
            assert used <= {*step.get("env", {}), "GITHUB_STEP_SUMMARY"}, step["run"]


@pytest.mark.parametrize("name", PIPELINES)
def test_what_a_pipeline_reads_exists(name):
    for job in jobs(PIPELINES[name]).values():
        used = set(re.findall(r"\$(\w+)", yaml.safe_dump(job)))
        assert used <= GITLAB | OURS | job.get("variables", {}).keys()


def test_the_page_begins_with_what_needs_no_stored_baseline():
    first = PAGE.split("\n## ")[1]
    assert LIVE in first
    assert WORKFLOWS["against"] in first
    for text in (LIVE, WORKFLOWS["against"]):
        (job,) = jobs(text).values()
        assert [words for words in commands(job) if words[0] == "pytest" and "--against" in words]


@pytest.mark.parametrize("text", [WORKFLOWS["against"], LIVE, INIT], ids=["github", "gitlab", "init"])
def test_a_job_has_the_base_its_cache_and_leaves_its_results_whatever_they_are(text):
    (job,) = jobs(text).values()
    if "script" in job:
        fetched = next(place for place, words in enumerate(commands(job)) if words[:2] == ["git", "fetch"])
        assert fetched < next(place for place, words in enumerate(commands(job)) if words[0] == "pytest")
        assert job["variables"]["ENGINEGATE_CACHE"].endswith(job["cache"]["paths"][0])
        assert (job["artifacts"]["when"], job["artifacts"]["paths"]) == ("always", ["runs/"])
        return
    steps = {step["uses"].partition("@")[0]: step for step in job["steps"] if "uses" in step}
    assert steps["actions/checkout"]["with"] == {"fetch-depth": 0}
    assert steps["actions/cache"]["with"]["path"] == "~/.cache/enginegate"
    assert "hashFiles(" in steps["actions/cache"]["with"]["key"]
    last = job["steps"][-2:]
    assert [step["if"] for step in last] == ["always()", "always()"]
    assert "summary.md" in last[0]["run"]
    assert last[1]["with"]["path"] == "runs/"


def test_init_writes_the_page_s_job():
    """But for the lock that a new repository has not, and for runs that are started by hand."""

    def shape(text: str) -> list[object]:
        (job,) = jobs(text.replace("'lock.txt', ", "")).values()
        steps = [{key: value for key, value in step.items() if key not in ("run", "env")} for step in job["steps"]]
        return [job["runs-on"], job["timeout-minutes"], steps]

    assert shape(INIT) == shape(WORKFLOWS["against"])
    assert "format('--eg-against=git:origin/{0}', github.base_ref)" in INIT
