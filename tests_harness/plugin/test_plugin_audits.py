"""What the machine's audit says of a metric reaches the gates of that metric, and no other's."""

from __future__ import annotations

import enginegate.plan.gates
import numpy as np
from enginegate.cli import main
from enginegate.gates.audit import one_line, power_warning
from enginegate.gates.sequential import SpeedPolicy, restore_policy
from enginegate.storage.audits import AuditSession, audit_path, file_of, load_audit, load_run_audit
from enginegate.verdicts.audit import accept_audit, judged_by, new_gate, result

pytest_plugins = ["pytester"]


def session(correlation: float, noise: float) -> AuditSession:
    """40 blocks, each of which remembers the last."""
    generator, blocks = np.random.default_rng(1), [0.0]
    for _ in range(39):
        blocks.append(correlation * blocks[-1] + float(generator.normal(0, noise)))
    return AuditSession(run="earlier", started="then", same=blocks, live=blocks, confirmations=[])


def test_an_audit_lies_with_its_run_until_it_is_accepted(suite, accepted, capsys):
    """It used to be written into baselines/, where nothing but ``accept`` may write."""
    result = suite.run("tests_perf", "--gate-audit", "--precision=int8_wo", "--batch-size=1")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])
    root, key = suite.folder / "baselines", accepted.record.fingerprint.key
    assert not root.exists()
    (run,) = (suite.folder / "runs").glob("*/audit.json")
    audits = load_run_audit(run.parent)
    gates = {gate.metric: gate for gate in audits.gates.values()}
    assert set(gates) == {"speedup", "ttft", "itl"}
    for gate in gates.values():
        (measured,) = gate.sessions
        assert len(measured.same) == len(measured.live) == 40
        assert [entry.status for entry in measured.confirmations][1:] == ["FAIL"], "really slowed by 10 %"
        assert 0.08 < measured.confirmations[1].change < 0.11
        result.stdout.fnmatch_lines(
            [f"*{gate.engine} {gate.workload} {gate.metric}: this gate on this machine: *against a ratio known exactly"]
        )
        result.stdout.fnmatch_lines(["  sees * against 1 stored session", "  sees * against 10 stored sessions"])
    accept = ["accept", str(run.parent), "--baselines", str(root)]
    assert main(accept) == 0
    assert load_audit(root, key) == audits
    assert main(accept) == 2
    assert "was accepted before, and a run is accepted once" in capsys.readouterr().err


def test_an_audit_that_cannot_be_continued_is_refused_before_the_race(suite, accepted):
    path = audit_path(suite.folder / "baselines", accepted.record.fingerprint.key)
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1}', encoding="utf-8")
    result = suite.run("tests_perf", "--gate-audit", "--precision=int8_wo", "--batch-size=1")
    result.stdout.fnmatch_lines(["*audit.json has schema version 1; this enginegate reads versions up to 2*"])
    assert not any("block 1" in line for line in suite.told)


def test_each_gate_is_told_what_its_own_metric_was_audited_with(suite, accepted, monkeypatch):
    inputs = next(entry.inputs for entry in accepted.record.verdicts if entry.metric == "speedup")
    policies = {"speedup": SpeedPolicy(), "itl": SpeedPolicy()}
    sessions = {"speedup": session(0.0, 0.001), "itl": session(0.9, 0.3)}
    names = inputs["candidate"], inputs["reference"], inputs["workload"]
    suite.take_baselines(accepted)
    root = suite.folder / "baselines"
    gates = [new_gate(*names, metric, policies[metric], sessions[metric]) for metric in sessions]
    speedup, itl = gates
    elsewhere = new_gate("another-engine", *names[1:], "ttft", policies["itl"], sessions["itl"])
    accept_audit(file_of(accepted.record.fingerprint.key, [*gates, elsewhere]), root)
    resampled = []
    monkeypatch.setattr(enginegate.plan.gates, "judged_by", lambda *told: resampled.append(told) or judged_by(*told))
    suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--precision=int8_wo", "--batch-size=1")
    assert len(resampled) == 2, "once for each audited verdict, and not for each look of the arena"
    told = {entry.metric: entry for entry in suite.record().verdicts if entry.workload == inputs["workload"]}
    lines = {metric: entry.inputs["audit"] for metric, entry in told.items()}
    policies = {metric: restore_policy(entry.inputs["policy"]) for metric, entry in told.items()}
    stored = {metric: len(entry.inputs["against"]["sessions"]) for metric, entry in told.items()}
    assert stored == {"speedup": 1, "itl": 1, "ttft": 1}
    expected = [one_line(judged_by(gate, 1, policies[gate.metric])) for gate in (speedup, itl)]
    assert lines == {"speedup": expected[0], "itl": expected[1], "ttft": None}
    assert all(line.endswith("against 1 stored session") for line in expected)
    correlations = {metric: entry.inputs["policy"]["correlation"] for metric, entry in told.items()}
    assert correlations["itl"] > 0.5
    assert correlations["speedup"] < 0.3
    assert correlations["ttft"] == 0.0, "another engine's audit says nothing of this one"
    for metric in ("speedup", "itl"):
        assert any("less than 90 % power" in note for note in told[metric].inputs["notes"])
    assert power_warning(result(speedup), policies["speedup"]) is None, "a single stored session is what blinds it"
