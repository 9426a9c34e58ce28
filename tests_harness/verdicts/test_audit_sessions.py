"""One race, an audit for each speed metric: measured, filed, found again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import enginegate.verdicts.audit
import numpy as np
import pytest
from enginegate.core.errors import BaselineError, MeasurementError
from enginegate.core.records import Block, Round
from enginegate.core.specs import Workload
from enginegate.gates.audit import one_line, power_warning, sees
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.verdicts.audit import (
    CONFIRMED,
    SCHEMA,
    AuditedGate,
    AuditFile,
    accept_audit,
    audit_path,
    file_of,
    load_audit,
    measure_session,
    new_gate,
)

POLICY = SpeedPolicy(margin=0.01, tolerated=0.03, looks=(40,))
POLICIES = {"speedup": POLICY, "itl": POLICY}
WORK = Workload(batch_size=1, input_len=4, output_len=5)
#: How much a block of 40 scatters, by metric: a card holds the tokens up, a noisy host the whole.
SCATTER = {"seconds": 0.1, "itl_p50": 0.001}


def blocks() -> list[Block]:
    generator = np.random.default_rng(0)
    speeds = {"reference": 2.0, "same 1": 1.0, "same 2": 1.0}
    speeds |= {f"slowed by {100 * slowdown:g} %": 1.0 + slowdown for slowdown in CONFIRMED}

    def turn(name: str) -> Round:
        times = {
            field: speeds[name] * float(np.exp(generator.normal(0, scatter))) for field, scatter in SCATTER.items()
        }
        return Round(engine=name, tokens=5, ttft=0.1, itl_p95=1.0, itl_p99=1.0, foreign_load=0.0, **times)

    return [Block(rounds=[turn(name) for name in speeds]) for _ in range(40)]


@pytest.fixture
def sessions(monkeypatch):
    """What an arena with those rounds gives."""
    arena = SimpleNamespace(blocks=blocks(), run=lambda *_: None, failures={}, contestants=())
    monkeypatch.setattr(enginegate.verdicts.audit, "Arena", lambda *_, **__: arena)
    race = {"run": "a", "started": "now", "blocks": 40, "time_budget": 1.0, "progress": print}
    return measure_session(None, None, WORK, None, POLICIES, **race)


def gates_of(sessions, run: str = "a") -> list[AuditedGate]:
    return [
        new_gate("engine", "reference", "b1", metric, POLICIES[metric], session.model_copy(update={"run": run}))
        for metric, session in sessions.items()
    ]


def file_with(sessions, run: str = "a") -> AuditFile:
    return file_of("here", gates_of(sessions, run))


def test_each_metric_is_audited_by_its_own_times(sessions):
    speedup, itl = gates_of(sessions)
    assert (speedup.metric, itl.metric) == ("speedup", "itl")
    assert speedup.result.noise > 20 * itl.result.noise
    assert one_line(itl.result).endswith("sees 2 % with 100 % power against a ratio known exactly")
    assert "sees 2 %" not in one_line(speedup.result)
    assert power_warning(speedup.result, POLICY)
    assert power_warning(itl.result, POLICY) is None
    assert speedup.policy["correlation"] == max(0.0, speedup.result.autocorrelation), "audited as the gates run"
    assert [entry.status for entry in itl.sessions[0].confirmations] == ["FAIL", "FAIL"]
    assert speedup.sessions[0].confirmations[0].status == "INCONCLUSIVE"


def test_an_audit_keeps_the_order_of_its_blocks(sessions):
    assert sessions["itl"].same_orders == sessions["itl"].live_orders == [1] * 40, "as those blocks were run"


def test_an_audit_whose_engine_fails_is_none(monkeypatch):
    arena = SimpleNamespace(blocks=[], run=lambda *_: None, failures={"same 2": MeasurementError("it fell over")})
    monkeypatch.setattr(enginegate.verdicts.audit, "Arena", lambda *_, **__: arena)
    race = {"run": "a", "started": "now", "blocks": 40, "time_budget": 1.0, "progress": print}
    with pytest.raises(MeasurementError, match="it fell over"):
        measure_session(None, None, WORK, None, POLICIES, **race)


def test_a_metric_without_a_value_has_no_audit_and_costs_no_other_its_own(monkeypatch):
    without = [Block(rounds=[turn.model_copy(update={"itl_p50": None}) for turn in block.rounds]) for block in blocks()]
    names = [turn.engine for turn in without[0].rounds]
    arena = SimpleNamespace(blocks=without, run=lambda *_: None, failures={}, contestants=names)
    monkeypatch.setattr(enginegate.verdicts.audit, "Arena", lambda *_, **__: arena)
    said = []
    race = {"run": "a", "started": "now", "blocks": 40, "time_budget": 1.0, "progress": said.append}
    assert list(measure_session(None, None, WORK, None, POLICIES, **race)) == ["speedup"]
    assert said == ["b1-i4-o5: no audit of itl, of which a round has no value"]


def test_what_a_gate_sees_hangs_on_the_stored_sessions_that_judge_it(sessions):
    """This belief about their shift, 0.7 %, is seven times the noise."""
    _, itl = gates_of(sessions)
    known, one, ten = (itl.judged_by(count, POLICY) for count in (0, 1, 10))
    assert known == itl.result
    powers = {each.baseline_sessions: [sees(each, slowdown) for slowdown in (0.02, 0.03)] for each in (known, one, ten)}
    assert powers == {0: [True, True], 1: [False, False], 10: [False, True]}
    assert power_warning(one, POLICY)
    assert power_warning(ten, POLICY) is None
    assert one_line(one).endswith("power against 1 stored session")
    assert one_line(ten).endswith("power against 10 stored sessions")
    unshifting = replace(POLICY, shift=ShiftPrior(1e-6, 100.0))
    assert sees(itl.judged_by(1, unshifting), 0.02)


def test_a_file_of_another_schema_is_refused_with_what_to_do(sessions, tmp_path):
    accept_audit(file_with(sessions), tmp_path)
    path = audit_path(tmp_path, "here")
    path.write_text(path.read_text().replace(f'"schema_version": {SCHEMA}', '"schema_version": 1'))
    with pytest.raises(BaselineError, match=r"(?s)has schema version 1; this enginegate reads .*move it away and run"):
        load_audit(tmp_path, "here")


def test_a_later_session_joins_and_no_metric_and_no_engine_speaks_for_another(sessions, tmp_path):
    """Another engine's audit used to stand in where an engine had none, and moved its verdicts."""
    assert load_audit(tmp_path, "here") is None
    for run in ("a", "b"):
        accept_audit(file_with(sessions, run), tmp_path)
    audits = load_audit(tmp_path, "here")
    assert audits is not None
    assert [len(gate.sessions) for gate in audits.gates.values()] == [2, 2]
    assert audits.of("engine", "b1", "reference", "itl") is not None
    for other in (
        ("another engine", "b1", "reference", "itl"),
        ("engine", "b1", "reference", "ttft"),
        ("engine", "b8", "reference", "itl"),
        ("engine", "b1", "another", "itl"),
    ):
        assert audits.of(*other) is None


def test_audits_accepted_at_once_are_all_kept(sessions, tmp_path):
    """The file used to be read, changed and written without a lock: of two that did so at once one was lost."""
    files = [file_with(sessions, run) for run in "abcd"]
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(lambda file: accept_audit(file, tmp_path), files))
    audits = load_audit(tmp_path, "here")
    assert audits is not None
    for gate in audits.gates.values():
        assert sorted(session.run for session in gate.sessions) == list("abcd")
