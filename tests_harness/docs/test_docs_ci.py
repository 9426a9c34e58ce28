"""The jobs of docs/ci.md, and the one that ``init`` writes: inputs that exist, events that are known, one Action."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
import yaml
from enginegate.plan.shards import read_shard

from tests_harness.docs.docs_text import REPOSITORY, blocks, read

pytest_plugins = ["pytester"]

PAGE = read("ci.md")
INIT = (resources.files("enginegate.templates") / "workflow.yml.txt").read_text(encoding="utf-8")
INIT = INIT.replace("@tests@", "tests_perf tests_quality").replace("@requirement@", "enginegate[openvino]")
WORKFLOWS = {
    name: blocks(PAGE, "yaml", f".github/workflows/{name}.yml")[0] for name in ("enginegate", "sharded", "stored")
} | {"init": INIT}
LIVE, STORED = blocks(PAGE, "yaml", ".gitlab-ci.yml")
PIPELINES = {"live": LIVE, "stored": STORED}
ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
SPEC, COMPONENT = yaml.safe_load_all((REPOSITORY / "templates" / "enginegate.yml").read_text(encoding="utf-8"))

#: Whatever a workflow of the page reads, by https://docs.github.com/en/actions/reference/workflows-and-actions/contexts
#: and what the project itself defines.
KNOWN = {"github.ref", "github.event_name", "matrix.shard", "vars.HAS_GPU_RUNNER"}
OURS = re.compile(r"OWNER/enginegate@v[\d.]+|\./\.github/actions/enginegate")


def uses(workflow: str) -> list[dict[str, Any]]:
    """Every step that uses the Action."""
    jobs = yaml.safe_load(workflow)["jobs"].values()
    return [step for job in jobs for step in job["steps"] if OURS.fullmatch(step.get("uses", ""))]


def test_the_page_begins_with_the_two_and_each_is_ten_lines():
    first = PAGE.split("\n## ")[0]
    for text in (WORKFLOWS["enginegate"], LIVE):
        assert text in first
        assert len(text.splitlines()) <= 10


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_uses_the_action_with_inputs_that_it_has(name):
    assert uses(WORKFLOWS[name])
    for step in uses(WORKFLOWS[name]):
        assert step.get("with", {}).keys() <= ACTION["inputs"].keys()
    for expression in re.findall(r"\$\{\{(.+?)\}\}", WORKFLOWS[name]):
        assert set(re.findall(r"[a-z]+\.\w+", re.sub(r"'[^']*'", "", expression))) <= KNOWN, expression
    for job in yaml.safe_load(WORKFLOWS[name])["jobs"].values():
        others = [step["uses"] for step in job["steps"] if not OURS.fullmatch(step["uses"])]
        assert all(re.fullmatch(r"actions/checkout@[0-9a-f]{40}", each) for each in others), "pinned"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_includes_the_component_with_inputs_that_it_has(name):
    content = yaml.safe_load(PIPELINES[name])
    jobs = set()
    for include in content.pop("include"):
        assert include["component"].startswith("$CI_SERVER_FQDN/GROUP/enginegate/enginegate@")
        assert include["inputs"].keys() <= SPEC["spec"]["inputs"].keys()
        jobs.add(include["inputs"].get("job", SPEC["spec"]["inputs"]["job"]["default"]))
    assert content.keys() <= jobs, "more keys for its jobs"


def test_arguments_are_understood_by_pytest(pytester):
    (pytester.path / "tests_perf").mkdir()
    (pytester.path / "tests_quality").mkdir()
    given = [str(step.get("with", {}).get("arguments", "")) for text in WORKFLOWS.values() for step in uses(text)]
    given += [
        include["inputs"].get("arguments", "")
        for text in PIPELINES.values()
        for include in yaml.safe_load(text)["include"]
    ]
    words = [re.sub(r"\$\{\{.*?'(-.+?)'.*?\}\}", r"\1", text).split() for text in given]
    assert ["--eg-no-require-baseline"] in words
    for each in words:
        assert pytester.parseconfig("tests_perf", "tests_quality", *each).args == ["tests_perf", "tests_quality"]


def test_shards_of_the_page_are_all_of_one_session():
    jobs = yaml.safe_load(WORKFLOWS["sharded"])["jobs"]
    shards = [read_shard(text) for text in jobs["gate"]["strategy"]["matrix"]["shard"]]
    assert [(each.number, each.of) for each in shards] == [(1, 3), (2, 3), (3, 3)]
    assert not jobs["gate"]["strategy"]["fail-fast"]
    assert (jobs["merge"]["needs"], jobs["merge"]["if"]) == ("gate", "always()")
    assert uses(WORKFLOWS["sharded"])[1]["with"]["merge"] is True


def test_the_component_and_the_action_ask_for_the_same():
    """Inputs of one name have one default, and but for what is a service's own, one description."""
    ours, theirs = ACTION["inputs"], SPEC["spec"]["inputs"]
    both = ours.keys() & theirs.keys()
    assert both == {"lock", "install", "tests", "against", "arguments"}
    assert {name: ours[name]["default"] for name in both} == {name: theirs[name]["default"] for name in both}
    assert all(ours[name]["description"] == theirs[name]["description"] for name in both - {"against"})
    for each in (*ours.values(), *theirs.values()):
        assert each["description"].endswith(".")


def test_init_gives_the_action_of_this_repository():
    """One file: a copy of its own would fall behind."""
    assert (resources.files("enginegate.templates") / "action.yml.txt").read_bytes() == (
        REPOSITORY / "action.yml"
    ).read_bytes()


def test_what_the_page_says_of_both_is_so():
    """Results are left whatever the outcome, and the base is fetched where a clone lacks it."""
    steps = {step["name"]: step for step in ACTION["runs"]["steps"]}
    for name in ("Summary", "Results", "Comment", "Keep the cache"):
        assert "always()" in steps[name]["if"]
    job, merging = COMPONENT.values()
    for each in (job, merging):
        assert each["artifacts"]["when"] == "always"
    assert job["variables"]["ENGINEGATE_CACHE"].split(" ")[0].endswith(job["cache"]["paths"][0])
    for script in (steps["Speed, memory and quality"]["run"], *job["script"]):
        assert 'git fetch --no-tags --depth 1 origin "$BASE"' in script
        assert 'python -m pytest "$@"' in script
