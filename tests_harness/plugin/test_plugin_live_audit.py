"""``--gate-audit --against COPY``: launches of an engine beside a copy of itself, and what later races believe."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from enginegate.cli import main
from enginegate.core.records import RunRecord
from enginegate.gates.launches import LAUNCH_SPREAD, believed_spread
from enginegate.storage.audits import AuditedLaunches, load_audit, load_run_audit
from workspace import CONFIG, FAKES

pytest_plugins = ["pytester"]
SELECTED = ("--batch-size=1", "--precision=int8_wo")
AUDIT = ("tests_perf", "--gate-audit", *SELECTED)
SPEED = ("tests_perf/test_speedup.py", "tests_perf/test_latency.py", *SELECTED)
HEAD, BASE = "toy-fake-int8_wo", "toy-fake-int8_wo@base"
LOOKS = {"looks": [4], "margin": 0.05, "tolerated": 0.25, "pairs": 4, "audit_launches": 5}


@pytest.fixture(autouse=True)
def no_foreign_load(monkeypatch):
    """Rounds of 20 ms beside the rest of the tests would be repeated for ever."""
    monkeypatch.setattr("enginegate.measure.arena.foreign_load", lambda *_: 0.0)


@pytest.fixture
def separate(tmp_path) -> Path:
    """Another environment that has what this one has."""
    folder = tmp_path / "copy"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "all.pth").write_text(f"{Path(np.__file__).parents[1]}\n{FAKES}\n")
    return folder


def configured(suite, name: str, slower: float = 1.0, precision: str = "int8_wo") -> Path:
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"]["precisions"] = [precision]
    config["engines"]["fake"]["runtime"] = {"slower": slower}
    config["gates"]["live"] = LOOKS
    path = suite.workspace.folder / f"{suite.folder.name}-{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def assert_audited(record: RunRecord, folder: Path) -> dict[str, AuditedLaunches]:
    """The run keeps every launch, and an audit of each metric by those."""
    (race,) = record.races
    assert (race.head.engine, race.base.engine, len(race.launches)) == (HEAD, BASE, 5)
    assert record.status == "complete"
    assert not record.verdicts
    audits = load_run_audit(folder / "runs" / record.id)
    assert audits is not None
    gates = {gate.metric: gate for gate in audits.gates.values() if isinstance(gate, AuditedLaunches)}
    assert set(gates) == {"speedup", "ttft", "itl"}
    for gate in gates.values():
        ((measured,), slowdowns) = gate.sessions, [rate.slowdown for rate in gate.rates]
        assert len(measured.numbers) == 5, "no early stop"
        assert gate.spread == believed_spread([measured.numbers], LAUNCH_SPREAD)
        assert slowdowns == [0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.25]
    return gates


@pytest.mark.heavy
def test_an_audit_of_launches_is_accepted_and_believed_by_the_next_race(suite, separate, capsys):
    suite.prepare(virtual=False)
    same, against = configured(suite, "same"), f"--against=python:{separate}"
    result = suite.run(*AUDIT, against, config=same)
    record, root = suite.record(), suite.folder / "baselines"
    gates = assert_audited(record, suite.folder)
    assert not any("installation that this session runs in" in line for line in record.warnings)
    for metric in gates:
        result.stdout.fnmatch_lines([f"*{HEAD} b1-i16-o8 {metric}: this gate on this machine: *against a live base"])
    result.stdout.fnmatch_lines(["  slower by 5 %: FAIL *, PASS *"])
    run = suite.folder / "runs" / record.id
    assert main(["accept", str(run), "--baselines", str(root)]) == 0
    assert main(["accept", str(run), "--baselines", str(root)]) == 2
    assert "was accepted before" in capsys.readouterr().err
    assert load_audit(root, record.fingerprint.key) == load_run_audit(run)
    assert main(["power", str(run), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["engine"], row["launches"]) == (HEAD, 5)
    assert main(["power", str(run)]) == 0
    told = capsys.readouterr().out
    assert "launches resampled" in told
    assert "timed nothing" not in told

    suite.run(*SPEED, against, config=same)
    judged = suite.record()
    assert {entry.metric for entry in judged.verdicts} == set(gates)
    for entry in judged.verdicts:
        policy = entry.inputs["policy"]
        assert policy["shift"] == {"scale": pytest.approx(gates[entry.metric].spread.scale), "df": LAUNCH_SPREAD.df}
        assert any("are taken to spread by" in line and "by an audit of 5" in line for line in entry.warnings)
        assert entry.inputs["audit"].startswith("this gate on this machine: ")
    main(["report", str(suite.folder / "runs" / judged.id), "--verdicts"])
    told = capsys.readouterr().out
    assert "3 of 3 verdicts recomputed" in told
    assert "DIFFERS" not in told


@pytest.mark.heavy
def test_duet_audits_without_pytest_and_says_where_both_sides_are_one_installation(suite, capsys):
    same = configured(suite, "same")
    common = ["duet", f"--config={same}", *SELECTED, f"--runs={suite.folder / 'runs'}", "--audit"]
    assert main([*common, f"--base=python:{sys.executable}"]) == 0
    told = capsys.readouterr().out
    assert_audited(suite.record(), suite.folder)
    for metric in ("speedup", "ttft", "itl"):
        assert f"{HEAD} b1-i16-o8 {metric}: this gate on this machine: " in told
    assert "is the installation that this session runs in" in told


def test_an_audit_of_two_different_engines_is_refused_and_names_what_differs(suite, capsys):
    """By the first launch, before anything is timed."""
    suite.prepare(virtual=False)
    same, slower = configured(suite, "same"), configured(suite, "slower", slower=2.5)
    result = suite.run(*AUDIT, f"--against=config:{slower}", config=same)
    assert result.ret == 1
    text = result.stdout.str()
    assert "an audit races two copies of the same engine" in text
    assert "runtime.slower: 1.0 here, 2.5 there" in text
    assert not list((suite.folder / "runs").glob("*/audit.json"))
    (race,) = suite.record().races
    assert not race.launches
    assert main(["accept", str(suite.folder / "runs" / suite.record().id)]) == 2


def test_an_engine_that_the_base_has_not_cannot_be_audited(suite):
    suite.prepare(virtual=False)
    same, other = configured(suite, "same"), configured(suite, "other", precision="int4_wo")
    result = suite.run(*AUDIT, f"--against=config:{other}", config=same)
    assert result.ret == 1
    assert "has no engine fake-int8_wo: an audit races two copies of one engine" in result.stdout.str()


@pytest.mark.heavy
def test_launches_that_no_gate_would_judge_are_no_audit(suite, monkeypatch):
    """Those of a busy machine spread by 10 % and more, and would be believed on its quiet days."""
    suite.prepare(virtual=False)
    same = configured(suite, "same")
    monkeypatch.setattr("enginegate.measure.arena.foreign_load", lambda *_: 0.8)
    result = suite.run(*AUDIT, f"--against=config:{same}", config=same)
    assert result.ret == 1
    assert "other work disturbed 100% of the pairs" in result.stdout.str()
    assert not list((suite.folder / "runs").glob("*/audit.json"))


@pytest.mark.heavy
def test_too_few_launches_are_no_audit(suite):
    suite.prepare(virtual=False)
    same = configured(suite, "same")
    result = suite.run(*AUDIT, f"--against=config:{same}", "--time-budget=0.001", config=same)
    assert result.ret == 1
    assert "needs at least 4 launches, and there were 1: time budget of 0 s spent" in result.stdout.str()
    assert not list((suite.folder / "runs").glob("*/audit.json"))
