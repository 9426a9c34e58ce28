"""``--against``: each engine is raced against a live base, launched anew beside it; what cannot be had is named."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from enginegate.cli import main
from enginegate.config.loading import load_config
from enginegate.core.errors import EngineError
from enginegate.core.records import RunRecord
from enginegate.plan.against import Against
from enginegate.session.base import prepare_base
from workspace import CONFIG

pytest_plugins = ["pytester"]
SPEED = ("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--batch-size=1", "--precision=int8_wo")
HEAD, BASE = "toy-fake-int8_wo", "toy-fake-int8_wo@base"


def configured(suite, name: str, slower: float = 1.0, **sections: object) -> Path:
    """A configuration whose int8 engine takes ``slower`` times as long; one look at four launches."""
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"]["runtime"] = {"slower": slower}
    config["gates"]["live"] = {"looks": [4], "margin": 0.05, "tolerated": 0.25, "pairs": 4}
    config |= sections
    path = suite.workspace.folder / f"{suite.folder.name}-{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def assert_slower(record: RunRecord) -> None:
    """First tokens take 4 ms here, which a busy machine may hide."""
    statuses = {entry.metric: entry.status for entry in record.verdicts}
    assert (statuses["speedup"], statuses["itl"]) == ("FAIL", "FAIL")
    assert statuses["ttft"] != "PASS"


@pytest.fixture(autouse=True)
def no_foreign_load(monkeypatch):
    """Rounds of 20 ms beside the rest of the tests would be repeated for ever."""
    monkeypatch.setattr("enginegate.measure.arena.foreign_load", lambda *_: 0.0)


def test_a_slower_head_fails_against_the_other_configuration(suite):
    suite.prepare(virtual=False)
    base, head = configured(suite, "base"), configured(suite, "head", slower=2.5)
    result = suite.run(*SPEED, f"--against=config:{base}", "--require-baseline", config=head)
    assert result.ret == 1
    record = suite.record()
    (race,) = record.races
    assert (race.head.engine, race.base.engine) == (HEAD, BASE)
    assert len(race.launches) == 4
    assert {len(launch.blocks["b1-i16-o8"]) for launch in race.launches} == {4}
    first = [launch.blocks["b1-i16-o8"][0].rounds[0].engine for launch in race.launches]
    assert len(set(first)) == 2, "each side runs first in half of the launches"
    verdicts = {entry.metric: entry for entry in record.verdicts}
    assert_slower(record)
    assert verdicts["speedup"].change == pytest.approx(1.5, abs=0.7)
    assert verdicts["speedup"].inputs["against"]["base"] == BASE
    result.stdout.fnmatch_lines(["*int8_wo b1: 0.*over fake-int8_wo@base: slower by *"])


def test_an_unchanged_head_passes_without_any_stored_baseline(suite):
    suite.prepare(virtual=False)
    same = configured(suite, "same")
    result = suite.run(*SPEED, f"--against=python:{sys.executable}", "--require-baseline", config=same)
    assert result.ret == 0
    record = suite.record()
    assert {entry.status for entry in record.verdicts} <= {"PASS", "INCONCLUSIVE"}, (
        "no FAIL, and a base to compare with"
    )
    assert {entry.inputs["against"]["kind"] for entry in record.verdicts} == {"live"}
    (race,) = record.races
    assert race.head.key == race.base.key, "one checkpoint, one build"
    assert race.base.python.count(".") == 2
    assert set(race.launches[0].idle) == {HEAD, BASE}


@pytest.mark.heavy
def test_a_verdict_against_a_live_base_is_recomputed_from_the_record(suite, capsys):
    suite.prepare(virtual=False)
    base, head = configured(suite, "base"), configured(suite, "head", slower=2.5)
    suite.run(*SPEED, f"--against=config:{base}", config=head)
    run = suite.folder / "runs" / suite.record().id
    assert main(["report", str(run), "--verdicts"]) in (0, 1)
    assert "3 of 3 verdicts recomputed" in capsys.readouterr().out


def test_an_engine_that_the_base_has_not_is_new_and_judged_as_without_a_base(suite):
    suite.prepare(virtual=False)
    engines = {"fake": {"precisions": ["int4_wo"]}}
    base = configured(suite, "base", engines=engines)
    head = configured(suite, "head")
    suite.run(
        "tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo", f"--against=config:{base}", config=head
    )
    record = suite.record()
    assert not record.races
    assert any("int8_wo: it is new" in line for line in record.warnings)
    assert {entry.inputs["against"]["kind"] for entry in record.verdicts} == {"floor"}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nonsense", "names no base*git:REF*lock:FILE*accepted"),
        ("git:", "names no base"),
        ("accepted:x", "names no base"),
        ("exec:'", "cannot be read as a command"),
    ],
)
def test_a_base_that_cannot_be_meant_is_a_usage_error(suite, what, says):
    result = suite.run(*SPEED, f"--against={what}")
    assert result.ret == 4
    assert all(part in result.stderr.str() for part in says.split("*"))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("python:/no/such/place", "there is no Python"),
        ("lock:/no/such/lock.txt", "there is no lock"),
        ("accepted", "enginegate accept RUN"),
        ("config:/no/such.yaml", "cannot be read"),
        ("git:no-such-ref", "no commit 'no-such-ref'"),
        ("exec:/no/such/command", "cannot be run"),
        ("exec:false", "ended with code 1"),
        ("exec:echo hello", "its process ended with code 0"),
    ],
)
def test_a_base_that_is_not_there_fails_the_tests_and_is_named(suite, what, says):
    subprocess.run(["git", "init", "-q", str(suite.folder)], check=True)
    result = suite.run("tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo", f"--against={what}")
    assert result.ret == 1
    assert says in result.stdout.str()
    assert not suite.record().verdicts


def test_memory_size_and_quality_are_compared_with_the_live_base(suite):
    suite.prepare(virtual=False)
    tests = ("tests_perf/test_memory.py", "tests_perf/test_build.py", "tests_quality/test_perplexity.py")
    tests += ("tests_quality/test_similarity.py", "--batch-size=1", "--precision=int8_wo")
    base, head = configured(suite, "base"), configured(suite, "head")
    larger = {"fake": {**CONFIG["engines"]["fake"], "runtime": {"kv_cache_bytes": 3 << 20}}}
    suite.run(*tests, f"--against=config:{base}", "--require-baseline", config=head)
    record = suite.record()
    assert {entry.status for entry in record.verdicts if entry.metric != "build_seconds"} == {"PASS"}
    assert {entry.engine for entry in record.memory} == {entry.engine for entry in record.quality} == {HEAD, BASE}
    assert not (suite.folder / "baselines").exists()
    grown = configured(suite, "grown", engines=larger)
    suite.run("tests_perf/test_memory.py", *tests[-2:], f"--against=config:{base}", config=grown)
    statuses = {entry.metric: entry.status for entry in suite.record().verdicts}
    assert statuses["kv_budget"] == "FAIL"


@pytest.mark.heavy
def test_duet_gives_the_same_verdicts_without_pytest(suite, capsys):
    base, head = configured(suite, "base"), configured(suite, "head", slower=2.5)
    common = ["duet", f"--config={head}", "--precision=int8_wo", "--batch-size=1", f"--runs={suite.folder / 'runs'}"]
    assert main([*common, f"--base=config:{base}", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert_slower(suite.record())
    assert {entry.metric: entry.status for entry in suite.record().verdicts} == {
        entry["metric"]: entry["status"] for entry in told["verdicts"]
    }
    assert main([*common, f"--base=python:{sys.executable}"]) in (0, 1)
    assert "slower by [95 %]" in capsys.readouterr().out
    assert main([*common, "--base=python:/no/such/python"]) == 2
    assert main([*common, "--base=nonsense"]) == 2
    assert main([*common, f"--base=config:{base}", "--time-budget=-1"]) == 2


def committed(suite, name: str, slower: float, lock: str) -> Path:
    """A commit of the repository with a configuration and a lock in it; gives the configuration."""
    folder = suite.folder
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"]["runtime"] = {"slower": slower}
    config["gates"]["live"] = {"looks": [4], "margin": 0.05, "tolerated": 0.25, "pairs": 4}
    config["base"] = {"lock": "lock.txt"}
    (folder / "configs").mkdir(exist_ok=True)
    for place in ("checkpoint", "data"):  # not in the repository
        if not (folder / "configs" / place).exists():
            (folder / "configs" / place).symlink_to(suite.workspace.folder / place)
    (folder / ".gitignore").write_text("configs/checkpoint\nconfigs/data\nruns\n")
    (folder / "configs" / "toy.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "lock.txt").write_text(lock)
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", name], check=True)
    subprocess.run([*git, "tag", name], check=True)
    return folder / "configs" / "toy.yaml"


@pytest.mark.heavy
def test_a_change_is_judged_by_the_commit_it_comes_from(suite, monkeypatch):
    """Same lock, same Python; another lock is installed, once."""
    suite.prepare(virtual=False)
    committed(suite, "before", 1.0, "six==1.16.0\n")
    config = committed(suite, "after", 2.5, "six==1.16.0\n")
    result = suite.run(*SPEED, "--against=git:before", config=config)
    assert result.ret == 1
    record = suite.record()
    assert_slower(record)
    assert record.races[0].base.runtime["slower"] == 1.0
    assert any("adapters are this checkout's own" in line for line in record.verdicts[0].warnings)
    made = []

    def environment(lock, *_, **__):
        made.append(lock.read_text())
        raise EngineError("no network", "")

    monkeypatch.setattr("enginegate.session.base.environment", environment)
    committed(suite, "later", 1.0, "six==1.17.0\n")
    suite.run(*SPEED[1:], "--against=git:before", config=config)
    assert made[0] == "six==1.16.0\n", "the lock of that commit"


def test_a_lock_is_a_file_of_the_configurations_own_repository(suite, tmp_path):
    """One that came with the package names a lock that this repository has not."""
    committed(suite, "before", 1.0, "six==1.16.0\n")
    config = load_config(configured(suite, "elsewhere", base={"lock": "no-such-lock.txt"}))
    against = Against("git", "before")
    base = prepare_base(against, config, suite.folder, tmp_path / "cache", tmp_path / "accepted.txt", lambda _: None)
    assert base.interpreter.here
    assert any("elsewhere.yaml names none here: both sides run in this Python" in note for note in base.notes)


def test_what_was_accepted_pins_its_environment(suite, monkeypatch):
    suite.prepare()
    suite.run("tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo")
    record = suite.record()
    root = suite.folder / "baselines"
    assert main(["accept", str(suite.folder / "runs" / record.id), "--baselines", str(root)]) == 0
    (lock,) = (root / "locks").iterdir()
    assert lock.stem == record.fingerprint.key
    assert f"run {record.id}" in lock.read_text()
    assert any(line.startswith("pytest==") for line in lock.read_text().splitlines())
    asked = []

    def environment(path, *_, **__):
        asked.append(path)
        raise EngineError("no network", "")

    monkeypatch.setattr("enginegate.session.base.environment", environment)
    result = suite.run("tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo", "--against=accepted")
    assert asked[0].resolve() == lock.resolve()
    assert "no network" in result.stdout.str()


@pytest.mark.heavy
def test_options_of_duet_say_how_its_gate_judges(suite, capsys):
    """One metric, other margins, rates and looks; what does not go together is told before anything runs."""
    same = configured(suite, "same")
    common = ["duet", f"--config={same}", "--precision=int8_wo", "--batch-size=1", f"--base=python:{sys.executable}"]
    common += [f"--runs={suite.folder / 'runs'}"]
    for given, reason in (
        (["--margin=30%"], "do not go together"),
        (["--looks=6,4"], "do not go together"),
        (["--looks=few"], "--looks 'few' is not a list"),
        (["--metric=tokens"], "--metric 'tokens' is none"),
    ):
        assert main([*common, *given]) == 2
        assert reason in capsys.readouterr().err
    judged = ["--metric=speedup", "--margin=10%", "--tolerated=60%", "--alpha=0.2%", "--beta=0.3%", "--looks=4,6"]
    assert main([*common, *judged, "--json"]) in (0, 1)
    (verdict,) = suite.record().verdicts
    policy = verdict.inputs["policy"]
    assert (verdict.metric, policy["margin"], policy["tolerated"]) == ("speedup", 0.1, 0.6)
    assert (policy["alpha"], policy["beta"], policy["looks"]) == (0.002, 0.003, [4, 6])
