"""Two sides that are named alike (``duet --head``), engines that only one of them has, and races that are ended."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from enginegate.cli import main
from enginegate.core.records import RaceEntry, SideEntry
from enginegate.storage.runs import latest_record, load_record
from workspace import CONFIG

from tests_harness.plugin.conftest import REPOSITORY, clean_environment
from tests_harness.plugin.test_plugin_against import BASE, HEAD, committed, configured, no_foreign_load

pytest_plugins = ["pytester"]
__all__ = ["no_foreign_load"]


def duet(suite, *arguments: object) -> int:
    common = ["duet", "--precision=int8_wo", "--batch-size=1", f"--runs={suite.folder / 'runs'}"]
    return main([*common, *map(str, arguments)])


def engines(*precisions: str) -> dict[str, object]:
    return {"fake": {"precisions": list(precisions)}}


@pytest.mark.heavy
def test_both_sides_may_be_other_configurations_than_this_one(suite, capsys):
    suite.prepare(virtual=False)
    here, slow, fast = (configured(suite, *each) for each in (("here", 1.0), ("slow", 2.5), ("fast", 1.0)))
    assert duet(suite, f"--config={here}", f"--base=config:{fast}", f"--head=config:{slow}", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["base"], told["head"]) == (f"config:{fast}", f"config:{slow}")
    (race,) = suite.record().races
    assert (race.asked_head, race.against) == (f"config:{slow}", f"config:{fast}")
    assert (race.head.runtime["slower"], race.base.runtime["slower"]) == (2.5, 1.0)
    (speed,) = [each for each in told["verdicts"] if each["metric"] == "speedup"]
    assert speed["status"] == "FAIL"
    assert f"int8_wo of config:{slow} b1: " in speed["explanation"]
    assert "over fake-int8_wo@base" in speed["explanation"]
    assert f"the head is config:{slow}" in speed["warnings"]
    assert told["races"][0]["engine"] == HEAD
    assert told["races"][0]["head"]["python"] == told["races"][0]["base"]["python"] != ""
    assert duet(suite, f"--config={here}", f"--base=config:{slow}", f"--head=config:{fast}") == 0


@pytest.mark.heavy
def test_two_environments_that_are_both_not_this_one(suite, tmp_path):
    """One is a Python of its own, the other a command that runs one."""
    suite.prepare(virtual=False)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    packages = [path for path in map(Path, sys.path) if (path / "numpy").is_dir()]
    (site / "more.pth").write_text("\n".join([*map(str, packages), str(REPOSITORY / "tests_harness" / "fakes")]))
    here = configured(suite, "here")
    command = f"exec:env HEAD=1 {sys.executable}"
    assert duet(suite, f"--config={here}", f"--base=python:{environment}", f"--head={command}") in (0, 1)
    record = suite.record()
    (race,) = record.races
    assert (race.asked_head, race.against) == (command, f"python:{environment}")
    assert (race.head.versions, race.base.versions) == ("enginegate-fake 1.0",) * 2
    assert record.installed == [], "it is no lock of what was measured"
    assert all(f"int8_wo of {command} (the same versions) b1" in entry.explanation for entry in record.verdicts)
    assert all("over fake-int8_wo@base (the same versions)" in entry.explanation for entry in record.verdicts)
    assert not any("same engine in the same Python" in line for entry in record.verdicts for line in entry.warnings)


@pytest.mark.heavy
def test_two_commits_against_each_other(suite):
    suite.prepare(virtual=False)
    committed(suite, "slow", 2.5, "six==1.16.0\n")
    committed(suite, "fast", 1.0, "six==1.16.0\n")
    config = committed(suite, "later", 1.0, "six==1.16.0\n# nothing else\n")
    config.parent.parent.joinpath("lock.txt").write_text("six==1.16.0\n")
    assert duet(suite, f"--config={config}", "--base=git:fast", "--head=git:slow") == 1
    record = suite.record()
    commit = subprocess.run(["git", "rev-parse", "slow"], cwd=suite.folder, capture_output=True, text=True).stdout
    assert record.commit == commit[:12]
    assert any(line.startswith("of the head: adapters") for line in record.verdicts[0].warnings)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("python:/no/such/place", "--head python:/no/such/place: there is no Python at /no/such/place"),
        ("lock:/no/such/lock.txt", "--head lock:/no/such/lock.txt: there is no lock"),
        ("accepted", "--head accepted: there is no lock"),
        ("config:/no/such.yaml", "--head config:/no/such.yaml: "),
        ("git:no-such-ref", "--head git:no-such-ref: this repository has no commit 'no-such-ref'"),
        ("exec:/no/such/command", "--head exec:/no/such/command: "),
        ("exec:false", "its process ended with code 1"),
        ("nonsense", "--head 'nonsense' names no base"),
    ],
)
def test_what_is_wrong_with_a_head_names_the_option(suite, capsys, monkeypatch, what, says):
    subprocess.run(["git", "init", "-q", str(suite.folder)], check=True)
    monkeypatch.chdir(suite.folder)
    here = configured(suite, "here")
    assert duet(suite, f"--config={here}", f"--base=python:{sys.executable}", f"--head={what}") == 2
    said = capsys.readouterr()
    assert says in said.out + said.err


def test_a_base_that_is_wrong_names_its_option_too(suite, capsys):
    here = configured(suite, "here")
    assert duet(suite, f"--config={here}", "--base=python:/no/such/place") == 2
    assert "--base python:/no/such/place: there is no Python" in capsys.readouterr().out


def test_a_race_of_an_older_record_has_no_other_head():
    side = SideEntry(engine=HEAD, python="", versions="", effective={}, key="")
    old = RaceEntry(against="accepted", head=side, base=side, launches=[], tokens={}, output_len={}, stopped="")
    old = RaceEntry.model_validate_json(old.model_dump_json(exclude={"asked_head"}))
    assert old.asked_head == ""


BUILD = ("tests_perf/test_build.py", "--batch-size=1")


def test_engines_that_only_the_base_has_are_listed(suite):
    base = configured(suite, "base", engines=engines("int8_wo", "bf16", "int4_wo"))
    head = configured(suite, "head", engines=engines("int8_wo", "fp32"))
    suite.run(*BUILD, f"--against=config:{base}", config=head)
    warnings = suite.record().warnings
    assert [line for line in warnings if line.startswith("gone: ")] == [
        f"gone: fake bf16, which config:{base} has",
        f"gone: fake int4_wo, which config:{base} has",
    ]
    assert any("fake fp32: it is new" in line for line in warnings)


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [(["--precision=int8_wo"], []), (["--precision=int8_wo,bf16"], []), (["--engine=fake"], ["bf16"])],
)
def test_what_was_not_asked_for_is_not_gone(suite, arguments, gone):
    """An engine that is asked for by name runs, also where the head's configuration does not list it."""
    base = configured(suite, "base", engines=engines("int8_wo", "bf16"))
    head = configured(suite, "head", engines=engines("int8_wo"))
    suite.run(*BUILD, *arguments, f"--against=config:{base}", config=head)
    found = [line for line in suite.record().warnings if line.startswith("gone: ")]
    assert found == [f"gone: fake {name}, which config:{base} has" for name in gone]


def test_nothing_is_gone_where_the_base_has_no_configuration_of_its_own(suite):
    head = configured(suite, "head", engines=engines("int8_wo"))
    suite.run(*BUILD, f"--against=exec:{sys.executable}", config=head)
    assert not any("gone: " in line for line in suite.record().warnings)


def test_a_backend_that_the_head_dropped_is_gone(suite):
    both = {**engines("int8_wo"), "hf": {"precisions": ["fp32"]}}
    base, head = configured(suite, "base", engines=both), configured(suite, "head", engines=engines("int8_wo"))
    suite.run(*BUILD, f"--against=config:{base}", config=head)
    assert f"gone: hf fp32, which config:{base} has" in suite.record().warnings


def test_a_commits_own_engines_are_compared_with_the_heads(suite):
    config = committed(suite, "before", 1.0, "six==1.16.0\n")
    content = yaml.safe_load(config.read_text())
    content["engines"] = engines("int8_wo")
    config.write_text(yaml.safe_dump(content))
    suite.run(*BUILD, "--against=git:before", config=config)
    assert "gone: fake int4_wo, which git:before has" in suite.record().warnings


def test_a_new_engine_of_a_duet_is_said_and_is_no_failure_of_it(suite, capsys):
    base = configured(suite, "base", engines=engines("int4_wo"))
    here = configured(suite, "here", engines=engines("int8_wo"))
    assert duet(suite, f"--config={here}", f"--base=config:{base}") == 2, "nothing was judged"
    said = capsys.readouterr().out
    assert "int8_wo: it is new" in said
    assert "broke off" not in said


def ended_in_its_race(suite, tmp_path: Path, command: list[str], sent: int) -> tuple[int, str]:
    """Start a race in a process of its own, end it in its second launch, and see that nothing of it is left.

    Gives its exit code and what it printed.
    """
    marker = f"race-{os.getpid()}-{time.time_ns()}"
    environment = clean_environment(suite.workspace, ENGINEGATE_TEST_RACE=marker)
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            command, cwd=suite.folder, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True
        )
    deadline = time.monotonic() + 120
    while "launch 2" not in (tmp_path / "out").read_text() and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "out").read_text()
        time.sleep(0.1)
    while len(marked(marker)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert len(marked(marker)) >= 3, "the session and both sides"
    process.send_signal(sent)
    process.wait(60)
    while marked(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(marker) == []
    return process.returncode, (tmp_path / "out").read_text()


def marked(marker: str) -> list[list[str]]:
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get("ENGINEGATE_TEST_RACE") == marker and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.cmdline())
        except psutil.Error:
            continue
    return found


def long_race(suite, name: str) -> Path:
    live = {"looks": [40], "margin": 0.05, "tolerated": 0.25, "pairs": 8}
    return configured(suite, name, gates={**copy.deepcopy(CONFIG["gates"]), "live": live})


@pytest.mark.heavy
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_duet_that_is_ended_leaves_its_record_and_no_process(suite, tmp_path, sent):
    suite.prepare(virtual=False)
    here = long_race(suite, "here")
    command = [sys.executable, "-m", "enginegate", "duet", "--precision=int8_wo", "--batch-size=1", f"--config={here}"]
    command += [f"--base=exec:{sys.executable}", f"--head=python:{sys.executable}", f"--runs={suite.folder / 'runs'}"]
    code, said = ended_in_its_race(suite, tmp_path, command, sent)
    assert code == 130, said
    record = load_record(latest_record(suite.folder / "runs"))
    assert record.status == "partial"
    (race,) = record.races
    assert len(race.launches) >= 1
    assert race.stopped == f"interrupted in launch {len(race.launches) + 1}"
    assert (race.head.engine, race.base.engine) == (HEAD, BASE)
    assert f"run {record.id}: " in said


@pytest.mark.heavy
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_session_that_is_ended_in_its_race_leaves_its_record_and_no_process(suite, tmp_path, sent):
    suite.prepare(virtual=False)
    here = long_race(suite, "here")
    arguments = suite.arguments(
        "tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo", "-s", config=here
    )
    command = [sys.executable, "-m", "pytest", *arguments, f"--against=exec:{sys.executable}"]
    code, said = ended_in_its_race(suite, tmp_path, command, sent)
    assert code == 2, said
    record = suite.record()
    assert record.status == "partial"
    (race,) = record.races
    assert race.launches
    assert "interrupted" in race.stopped


@pytest.mark.heavy
def test_two_sides_that_see_the_cache_elsewhere(suite, tmp_path, capsys):
    """Each in a mount namespace where the workspace lies under another path, and nothing under its own."""
    folder, there, nothing = suite.workspace.folder, tmp_path / "there", tmp_path / "nothing"
    there.mkdir()
    nothing.mkdir()
    script = tmp_path / "inside"
    script.write_text(
        f"#!/bin/sh\nexec unshare -rm sh -c 'mount --bind {folder} {there} && mount --bind {nothing} {folder} && "
        f'exec "$0" "$@"\' {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    if not shutil.which("unshare") or subprocess.run([script, "-c", ""], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user cannot make a mount namespace")
    suite.prepare(virtual=False)
    here = configured(suite, "here", base={"paths": {str(folder): str(there)}})
    assert duet(suite, f"--config={here}", f"--base=exec:{script}", f"--head=exec:{script}") in (0, 1)
    record = suite.record()
    assert len(record.races[0].launches) == 4
    assert not any("runtime only" in line for entry in record.verdicts for line in entry.warnings)
    blind = configured(suite, "blind")
    capsys.readouterr()
    assert duet(suite, f"--config={blind}", f"--base=exec:{script}") == 2
    said = capsys.readouterr().out
    assert f"is not there for {script}; on this machine it is {folder}" in said
