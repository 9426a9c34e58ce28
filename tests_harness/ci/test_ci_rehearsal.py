"""The Action and the component, from a pull request to its summary, comment, JUnit file and exit code."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from enginegate.storage.runs import latest_record, load_record

FAKES = Path(__file__).resolve().parents[1] / "fakes"
if str(FAKES) not in sys.path:
    sys.path.insert(0, str(FAKES))

from workspace import CONFIG, REPOSITORY, Workspace, make_workspace  # noqa: E402

from tests_harness.ci.rehearsal import Project, github, gitlab  # noqa: E402
from tests_harness.storage.factory import run_record, verdict_entry  # noqa: E402

pytest_plugins = ["pytester"]

#: One exact gate: the bytes that an engine takes for its KV cache.
GATE = {"tests": "tests_perf/test_memory.py", "arguments": "-k kv_budget --eg-batch-size=1"}
HEAD, OTHER = "toy-fake-int8_wo", "toy-fake-int4_wo"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def cloned(tmp_path):
    """Makes a repository with a change to be judged, and clones what it becomes when it is merged, as a runner does.

    ``before``, ``after``: write the files of the base, and what the change writes.
    """

    def made(before: Callable[[Path], object], after: Callable[[Path], object], **more: str) -> Project:
        origin = tmp_path / "origin"
        git(tmp_path, "init", "-q", "-b", "main", str(origin))
        git(origin, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub and GitLab have it
        (origin / "lock.txt").write_text("# nothing\n")
        before(origin)
        commit(origin, "base")
        git(origin, "checkout", "-q", "-b", "change")
        (origin / "notes.txt").write_text("a change\n")
        after(origin)
        commit(origin, "change")
        git(origin, "checkout", "-q", "main")
        (origin / "more.txt").write_text("the base went on\n")
        commit(origin, "more")
        base = git(origin, "rev-parse", "HEAD")
        git(origin, "merge", "-q", "--no-ff", "-m", "a message\n\nparent 0123", "change")
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{origin}", str(tmp_path / "checkout"))
        head = git(tmp_path / "checkout", "rev-parse", "HEAD")
        kept = {"HOME": str(tmp_path), "LANG": "C.UTF-8", "MPLCONFIGDIR": str(tmp_path / "matplotlib"), **more}
        return Project(tmp_path / "checkout", tmp_path / "runner", kept, base, head)

    return made


@pytest.fixture
def project(workspace, cloned):
    """The same with fake engines, whose KV cache the change makes larger."""

    def before(origin: Path) -> None:
        for name in ("tests_perf", "tests_quality"):
            shutil.copytree(REPOSITORY / name, origin / name, ignore=shutil.ignore_patterns("__pycache__"))
        (origin / "conftest.py").write_text('pytest_plugins = ["enginegate.plugin", "virtual_time"]\n')
        ini = "[pytest]\nenginegate = true\nenginegate_model = toy\naddopts = -pno:randomly\n"
        (origin / "pytest.ini").write_text(ini)
        configure(origin, workspace)

    def made(kv_cache_bytes: int | None = None) -> Project:
        more = {} if kv_cache_bytes is None else {"runtime": {"kv_cache_bytes": kv_cache_bytes}}
        return cloned(before, lambda origin: configure(origin, workspace, **more), **workspace.environment)

    return made


def configure(origin: Path, workspace: Workspace, **engine: object) -> None:
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"] |= engine
    config["base"] = {"lock": "lock.txt"}
    text = yaml.safe_dump(config).replace("path:checkpoint", f"path:{workspace.folder / 'checkpoint'}")
    (origin / "configs").mkdir(exist_ok=True)
    (origin / "configs" / "toy.yaml").write_text(text.replace("data/", f"{workspace.folder}/data/"))


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)


def failures(junit: Path) -> list[str | None]:
    cases = ElementTree.parse(junit).getroot().iter("testcase")
    return [case.get("name") for case in cases if case.find("failure") is not None]


@pytest.fixture
def prepared(cloned):
    """A change of nothing that is tested here, and what pytest found of it."""

    def made(status: str) -> Project:
        project = cloned(lambda _: None, lambda _: None, PYTHONPATH=str(REPOSITORY / "harness"))
        verdict = verdict_entry("tiny-8m-openvino-int8_wo", status=status, accepted=status == "PASS")
        project.prepare(run_record("found", verdicts=[verdict]), 0 if status == "PASS" else 1)
        return project

    return made


@pytest.mark.parametrize("status", ["FAIL", pytest.param("PASS", marks=pytest.mark.heavy)])
def test_the_action_tells_what_pytest_found_and_ends_as_it_did(prepared, pytester, status):
    found = prepared(status)
    job = github(found, comment="true", install="one  two", arguments="--eg-precision=int8_wo\n-v", shard="")
    assert job.failed == (status == "FAIL"), job.log
    assert found.installed == "-m pip install -r lock.txt one two\n"
    (pytester.path / "tests_perf").mkdir()
    (pytester.path / "tests_quality").mkdir()
    config = pytester.parseconfig(*found.arguments)
    assert config.args == ["tests_perf", "tests_quality"]
    assert config.option.eg_against == f"git:{found.base}", (
        "what the change was merged into, not where its branch began"
    )
    assert (config.option.eg_precision, config.option.verbose, config.option.eg_shard) == ("int8_wo", 1, "")
    assert Path(config.option.xmlpath) == job.files / "junit.xml"
    assert git(found.folder, "cat-file", "-t", found.base) == "commit", "fetched"
    assert f"tiny-8m: 1 {status}" in job.summary
    (comment,) = found.comments
    assert comment["words"][:4] == ["api", "--method", "POST", "repos/somebody/project/issues/7/comments"]
    mark, heading = comment["body"].splitlines()[:2]
    assert mark == "<!-- enginegate: enginegate -->"
    assert heading == f"### {'❌' if status == 'FAIL' else '✅'} enginegate: tiny-8m: 1 {status}"
    left = {path.name for path in (found.place / "artifacts" / "enginegate").iterdir()}
    assert left >= {"found", "summary.md", "comment.md", "benchmark_results.csv", "plot.png"}
    assert job.used["Keep the cache"]["key"] == job.used["Cache"]["key"] == "Linux-X64-enginegate-0123"


def test_the_component_asks_for_the_same_and_ends_as_pytest_did(prepared, pytester):
    found = prepared("FAIL")
    job = gitlab(found, arguments="--eg-precision=int8_wo", shards=3, node=2)
    assert job.failed, job.log
    (pytester.path / "tests_perf").mkdir()
    (pytester.path / "tests_quality").mkdir()
    config = pytester.parseconfig(*found.arguments)
    assert config.args == ["tests_perf", "tests_quality"]
    assert (config.option.eg_against, config.option.eg_shard) == (f"git:{found.base}", "2/3")
    runs = found.folder / "runs" / "2"
    assert config.option.xmlpath == "runs/2/junit.xml"
    assert "tiny-8m: 1 FAIL" in (runs / "comment.md").read_text()
    assert "tiny-8m: 1 FAIL" in (runs / "summary.md").read_text()


@pytest.mark.heavy
def test_a_planted_regression_fails_the_job_and_is_told(project):
    changed = project(kv_cache_bytes=3 << 20)
    job = github(changed, comment="true", **GATE | {"arguments": f"{GATE['arguments']} --eg-precision=int8_wo"})
    assert job.failed, job.log
    assert "-m pip install -r lock.txt" in changed.installed
    record = load_record(latest_record(job.files))
    assert [(entry.engine, entry.status) for entry in record.verdicts] == [(HEAD, "FAIL")]
    assert f"--eg-against=git:{changed.base}" in record.arguments, "what the change was merged into"
    assert "❌ FAIL" in job.summary
    assert record.verdicts[0].explanation in job.summary
    assert failures(job.files / "junit.xml") == [f"test_memory[{HEAD}-b1-kv_budget]"]
    assert record.verdicts[0].explanation in changed.comments[0]["body"]
    assert (changed.place / "artifacts" / "enginegate" / record.id / "run.json").is_file()


@pytest.mark.heavy
def test_the_comment_is_renewed(prepared):
    found = prepared("PASS")
    for _ in range(2):
        job = github(found, comment="true")
        assert not job.failed, job.log
    assert [call["words"][2] for call in found.comments] == ["POST", "PATCH"]
    assert found.comments[1]["words"][3] == "repos/somebody/project/issues/comments/1"


@pytest.mark.heavy
def test_shards_are_merged_by_the_jobs_that_run_them(project):
    changed = project(kv_cache_bytes=3 << 20)
    for shard in ("1/3", "2/3", "3/3"):
        job = github(changed, shard=shard, comment="true", **GATE)
        assert job.failed == (shard != "3/3"), job.log
    assert "shard 3/3 is empty" in job.log
    assert "no run record" in job.summary
    assert changed.comments == [], "there is one comment for all"
    merged = github(changed, merge="true", comment="true", lock="", install="enginegate")
    assert merged.failed, merged.log
    record = load_record(latest_record(merged.files))
    assert record.status == "complete"
    assert sorted(entry.engine for entry in record.verdicts) == sorted([HEAD, OTHER])
    assert "It holds shards 1, 2 of 3 (3 without engines) of one session." in merged.summary
    assert "toy: 2 FAIL" in changed.comments[0]["body"]
    assert "-m pip install enginegate" in changed.installed
    shutil.rmtree(changed.place / "artifacts" / "enginegate-shard-2-of-3")
    merged = github(changed, merge="true")
    assert merged.failed
    assert f"shard 2 is missing, with {OTHER}" in merged.summary


@pytest.mark.heavy
def test_a_job_that_measures_nothing_says_so(project):
    same = project()
    job = github(same, lock="no-such-lock.txt")
    assert job.failed
    assert "::error::enginegate has nothing to install: there is no file 'no-such-lock.txt'" in job.log
    assert "no run record" in job.summary
    job = github(same, merge="true")
    assert job.failed
    assert "::error::enginegate has nothing to merge" in job.log


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("inputs", "event", "against"),
    [
        ({}, {}, []),
        ({"against": ""}, None, []),
        ({"against": "python:/opt/old"}, None, ["--eg-against=python:/opt/old"]),
        ({}, {"merge_group": {"base_sha": "BASE"}}, ["--eg-against=git:BASE"]),
    ],
)
def test_what_is_raced_against(prepared, inputs, event, against):
    """Accepted baselines judge where there is no pull request, or where that is asked for."""
    found = prepared("PASS")
    if event and "merge_group" in event:
        event = {"merge_group": {"base_sha": found.base}}
    job = github(found, event=event, **inputs)
    assert not job.failed, job.log
    asked = [word.replace(found.base, "BASE") for word in found.arguments if word.startswith("--eg-against")]
    assert asked == against


@pytest.mark.heavy
def test_a_pull_request_from_a_fork_is_judged_though_its_comment_is_refused(prepared):
    found = prepared("PASS")
    found.environment = {**found.environment, "GH_REFUSES": "1"}
    job = github(found, comment="true")
    assert not job.failed, job.log
    assert "::warning::enginegate could not comment" in job.log


@pytest.mark.heavy
def test_words_of_an_input_are_words_and_no_commands(project):
    """They reach a shell by its environment alone."""
    same = project()
    nasty = "$(touch pwned) `touch pwned` ; touch pwned #"
    job = github(same, install=nasty, name=f"a b{nasty}", **GATE | {"arguments": f"{nasty} --co"})
    assert job.failed, "pytest knows no such files"
    assert not list(same.folder.rglob("pwned"))
    assert not list(same.place.rglob("pwned"))
    assert (same.place / "artifacts").is_dir()
    assert job.files.is_relative_to(same.place)


@pytest.mark.heavy
@pytest.mark.parametrize("kv_cache_bytes", [None, 3 << 20])
def test_the_component_judges_a_merge_request(project, kv_cache_bytes):
    request = project(kv_cache_bytes=kv_cache_bytes)
    job = gitlab(request, **GATE)
    assert job.failed == (kv_cache_bytes is not None), job.log
    runs = request.folder / "runs" / "1"
    record = load_record(latest_record(runs))
    status = "PASS" if kv_cache_bytes is None else "FAIL"
    assert {entry.status for entry in record.verdicts} == {status}
    assert len(failures(runs / "junit.xml")) == (0 if kv_cache_bytes is None else 2)
    assert f"2 {status}" in (runs / "comment.md").read_text()
    assert record.id in (runs / "summary.md").read_text()
    assert "-m pip install -r lock.txt" in request.installed


@pytest.mark.heavy
def test_the_components_shards_are_merged(project):
    request = project(kv_cache_bytes=3 << 20)
    for node in (1, 2):
        assert gitlab(request, node=node, shards=2, **GATE).failed
    job = gitlab(request, part="-merge", shards=2)
    assert job.failed, job.log
    record = load_record(latest_record(request.folder / "merged"))
    assert (record.status, {entry.engine for entry in record.verdicts}) == ("complete", {HEAD, OTHER})
    assert "2 FAIL" in (request.folder / "merged" / "comment.md").read_text()
