"""What others wrote fails in a session: it costs the tests that need it, with the reason, and the session goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.measure.arena import Arena
from enginegate.storage.history import store
from enginegate.storage.runs import latest_record, load_record
from workspace import make_workspace

from tests_harness.field.unprivileged import belonging_to_somebody
from tests_harness.plugin.conftest import clean_environment, copy_tests

pytest_plugins = ["pytester"]

SPEED = ("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1")
CLOZE = ("tests_quality/test_multiple_choice.py", "-k", "cloze and not flips")
#: Starts a program as a root that has no more rights to files than any user has.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("runs/history.sqlite", "it is no URL of a database"),
        ("nosuchdatabase://host/name", "needs a database driver that is not installed"),
        ("sqlite:///tests_perf", "tests_perf is a folder"),
        ("sqlite:////proc/nowhere/h.sqlite", "cannot be used"),
    ],
)
def test_history_that_makes_no_sense_is_a_usage_error_before_anything_is_measured(suite, url, reason):
    result = suite.run(*SPEED, f"--history={url}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert reason in result.stderr.str()
    assert not any(line.startswith("loading") for line in suite.told)
    assert not (suite.folder / "runs").exists()


def test_history_that_fails_later_is_a_warning_and_changes_no_exit_code(suite, monkeypatch):
    def gone(*_):
        raise KeyError("the driver's own")

    monkeypatch.setattr(store, "append", gone)
    result = suite.run(*SPEED, "--history=sqlite:///runs/h.sqlite")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(['warning: * cannot be added to the history: KeyError: "the driver\'s own"*'])
    assert suite.record().status == "complete"
    (summary,) = (suite.folder / "runs").glob("*/summary.md")
    assert summary.stat().st_size > 0


def test_the_history_of_the_environment_is_taken_where_no_option_names_one(suite, monkeypatch):
    only = ("tests_perf/test_build.py", "--precision=int8_wo", "-k", "size")
    monkeypatch.setenv("ENGINEGATE_HISTORY", "sqlite:///runs/here.sqlite")
    assert suite.run(*only).ret == pytest.ExitCode.OK
    assert (suite.folder / "runs" / "here.sqlite").stat().st_size > 0
    monkeypatch.setenv("ENGINEGATE_HISTORY", "here.sqlite")
    result = suite.run(*only)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "it is no URL of a database" in result.stderr.str()
    assert suite.run(*only, "--history=sqlite:///runs/there.sqlite").ret == pytest.ExitCode.OK
    assert (suite.folder / "runs" / "there.sqlite").stat().st_size > 0
    assert not (suite.folder / "runs" / "history.sqlite").exists()


def test_options_know_the_home_folder(suite, monkeypatch):
    home = suite.folder / "home"
    (home / "configs").mkdir(parents=True)
    (home / "configs" / "toy.yaml").symlink_to(suite.workspace.config)
    monkeypatch.setenv("HOME", str(home))
    only = ("tests_perf/test_build.py", "--precision=int8_wo", "-k", "size")
    options = ("--runs=~/r", "--history=sqlite:///~/h.sqlite", "--baselines=~/b")
    result = suite.run(*only, *options, config="~/configs/toy.yaml")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str() + result.stderr.str()
    assert len(list((home / "r").glob("*/run.json"))) == 1
    assert (home / "h.sqlite").stat().st_size > 0
    assert not (suite.folder / "~").exists()


def test_token_ids_beyond_the_vocabulary_are_no_sample(suite):
    suite.prepare("Beyond")
    result = suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--batch-size=1")
    result.assert_outcomes(errors=3, failed=0)
    output = result.stdout.str()
    assert suite.told.count("timing b1-i16-o8") == 1
    assert "toy-fake-int8_wo, b1-i16-o8 gave the token id 259; the model's are 0 to 258" in output
    assert {verdict.engine for verdict in suite.record().verdicts} == {"toy-fake-int4_wo"}


def test_race_that_the_machine_breaks_off_is_not_begun_again_for_each_test(suite, monkeypatch):
    def lost(*_):
        raise OSError("NVML: GPU is lost")

    monkeypatch.setattr(Arena, "run", lost)
    result = suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--batch-size=1")
    result.assert_outcomes(errors=6)
    output = result.stdout.str()
    assert suite.told.count("timing b1-i16-o8") == 1
    assert output.count("the race at b1-i16-o8 broke off: OSError: NVML: GPU is lost") >= 6
    assert "enginegate doctor" in output
    assert "nvidia-smi" not in output, "these engines run on a CPU"


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        ("NotScoring", "toy-fake-int8_wo could not score: RuntimeError: libfake.so: no logits"),
        ("Upside", "toy-fake-int8_wo gave a log-probability of"),
    ],
)
def test_scores_that_cannot_be_had_cost_this_engines_tests_alone(suite, sabotage, reason):
    suite.prepare(sabotage)
    result = suite.run(*CLOZE)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1, outcomes
    assert reason in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert {verdict.engine for verdict in suite.record().verdicts} == {"toy-fake-int4_wo"}


@pytest.mark.heavy
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root's rights cannot be put aside")
def test_whole_session_from_a_cache_of_somebody_else_without_a_home(tmp_path):
    """All that is needed was in the cache: the lock of a reference score, which nobody was to write, ended it."""
    workspace = make_workspace(tmp_path)
    copy_tests(tmp_path)
    tests = ("tests_quality/test_multiple_choice.py", "tests_perf/test_build.py", "-k", "cloze or size")
    command = [sys.executable, "-m", "pytest", *tests, "--precision=int8_wo", f"--config={workspace.config}", "-q"]
    command += ["-pno:cacheprovider", "-pno:randomly"]
    environment = clean_environment(workspace)
    for name in ("HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)

    def session(runs: str, *before: str) -> list[tuple[str, str, float]]:
        arguments = [*before, *command, f"--runs={runs}"]
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout
        record = load_record(latest_record(tmp_path / runs))
        return [(verdict.engine, verdict.metric, verdict.estimate) for verdict in record.verdicts]

    first, events = session("first"), workspace.events()
    with belonging_to_somebody(tmp_path / "cache"):
        assert session("second", *(WITHOUT_RIGHTS if os.geteuid() == 0 else ())) == first
    assert [event for event in workspace.events()[len(events) :] if event.startswith("build")] == []


def test_engines_are_built_before_any_session(suite, tmp_path, monkeypatch, capsys):
    """``enginegate engines build`` builds what is missing, once, and a session then builds nothing."""
    monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGINEGATE_FAKE_LOG", str(tmp_path / "engines.log"))
    command = ["engines", "build", f"--config={suite.workspace.config}", "--precision=int8_wo"]
    assert main(command) == 0
    assert "toy-fake-int8_wo" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["engine"] == "toy-fake-int8_wo"
    assert Path(entry["path"]).is_dir()
    assert (tmp_path / "engines.log").read_text(encoding="utf-8").splitlines() == ["build toy-fake-int8_wo"]
