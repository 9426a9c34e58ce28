"""One race, an audit for each speed metric: measured, filed, found again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import enginegate.session.audit_race
import enginegate.storage.audits
import numpy as np
import pytest
from enginegate.core.errors import BaselineError, MeasurementError
from enginegate.core.files import write_atomically
from enginegate.core.records import Block, Round
from enginegate.core.specs import Workload
from enginegate.gates.audit import one_line, power_warning, sees
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.session.audit_race import CONFIRMED, measure_session
from enginegate.storage.audits import (
    SCHEMA,
    AuditedGate,
    AuditFile,
    audit_path,
    file_of,
    load_audit,
    load_run_audit,
    save_run_audit,
)
from enginegate.verdicts.audit import accept_audit, judged_by, new_gate, result

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
        figures = {"ttft": 0.1, "itl_p95": 1.0, "itl_p99": 1.0, "itl_p50": times["itl_p50"]}
        return Round(engine=name, seconds=times["seconds"], tokens=5, foreign_load=0.0, figures=figures)

    return [Block(rounds=[turn(name) for name in speeds]) for _ in range(40)]


@pytest.fixture
def sessions(monkeypatch):
    """What an arena with those rounds gives."""
    arena = SimpleNamespace(blocks=blocks(), run=lambda *_: None, failures={}, contestants=())
    monkeypatch.setattr(enginegate.session.audit_race, "Arena", lambda *_, **__: arena)
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
    assert result(speedup).noise > 20 * result(itl).noise
    assert one_line(result(itl)).endswith("sees 2 % with 100 % power against a ratio known exactly")
    assert "sees 2 %" not in one_line(result(speedup))
    assert power_warning(result(speedup), POLICY)
    assert power_warning(result(itl), POLICY) is None
    assert speedup.policy["correlation"] == max(0.0, result(speedup).autocorrelation), "audited as the gates run"
    assert [entry.status for entry in itl.sessions[0].confirmations] == ["FAIL", "FAIL"]
    assert speedup.sessions[0].confirmations[0].status == "INCONCLUSIVE"


def test_an_audit_keeps_the_order_of_its_blocks(sessions):
    assert sessions["itl"].same_orders == sessions["itl"].live_orders == [1] * 40, "as those blocks were run"


def test_an_audit_whose_engine_fails_is_none(monkeypatch):
    arena = SimpleNamespace(blocks=[], run=lambda *_: None, failures={"same 2": MeasurementError("it fell over")})
    monkeypatch.setattr(enginegate.session.audit_race, "Arena", lambda *_, **__: arena)
    race = {"run": "a", "started": "now", "blocks": 40, "time_budget": 1.0, "progress": print}
    with pytest.raises(MeasurementError, match="it fell over"):
        measure_session(None, None, WORK, None, POLICIES, **race)


def test_a_metric_without_a_value_has_no_audit_and_costs_no_other_its_own(monkeypatch):
    without = [
        Block(rounds=[turn.model_copy(update={"figures": {"ttft": 0.1}}) for turn in block.rounds])
        for block in blocks()
    ]
    names = [turn.engine for turn in without[0].rounds]
    arena = SimpleNamespace(blocks=without, run=lambda *_: None, failures={}, contestants=names)
    monkeypatch.setattr(enginegate.session.audit_race, "Arena", lambda *_, **__: arena)
    said = []
    race = {"run": "a", "started": "now", "blocks": 40, "time_budget": 1.0, "progress": said.append}
    assert list(measure_session(None, None, WORK, None, POLICIES, **race)) == ["speedup"]
    assert said == ["b1-i4-o5: no audit of itl, of which a round has no value"]


def test_what_a_gate_sees_hangs_on_the_stored_sessions_that_judge_it(sessions):
    """This belief about their shift, 0.7 %, is seven times the noise."""
    _, itl = gates_of(sessions)
    known, one, ten = (judged_by(itl, count, POLICY) for count in (0, 1, 10))
    assert known == result(itl)
    powers = {each.baseline_sessions: [sees(each, slowdown) for slowdown in (0.02, 0.03)] for each in (known, one, ten)}
    assert powers == {0: [True, True], 1: [False, False], 10: [False, True]}
    assert power_warning(one, POLICY)
    assert power_warning(ten, POLICY) is None
    assert one_line(one).endswith("power against 1 stored session")
    assert one_line(ten).endswith("power against 10 stored sessions")
    unshifting = replace(POLICY, shift=ShiftPrior(1e-6, 100.0))
    assert sees(judged_by(itl, 1, unshifting), 0.02)


def test_a_file_of_another_schema_is_refused_with_what_to_do(sessions, tmp_path):
    accept_audit(file_with(sessions), tmp_path)
    path = audit_path(tmp_path, "here")
    path.write_text(path.read_text().replace(f'"schema_version": {SCHEMA}', '"schema_version": 1'))
    with pytest.raises(
        BaselineError, match=r"(?s)has schema version 1; this enginegate reads .*move it away"
    ) as caught:
        load_audit(tmp_path, "here")
    for step in ("`pytest --eg-gate-audit` (short: `--gate-audit`)", "counts after `enginegate accept RUN`"):
        assert step in str(caught.value), "it named the short option alone, and no accepting"


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


ITL = "engine/b1/reference/itl"


def as_stored(file: AuditFile) -> dict[str, Any]:
    return file.model_dump(mode="json")["gates"]


def stored_gates(folder: Path) -> dict[str, Any]:
    audits = load_run_audit(folder)
    assert audits is not None
    return as_stored(audits)


def test_audits_that_workers_measure_at_once_all_lie_with_their_run(sessions, tmp_path, monkeypatch):
    """Each xdist worker wrote its own list over the others'. A slow disk, so that they surely meet."""

    def slowly(path, text):
        time.sleep(0.02)
        write_atomically(path, text)

    monkeypatch.setattr(enginegate.storage.audits, "write_atomically", slowly)
    (gate, *_) = gates_of(sessions)
    workers = [file_of("here", [gate.model_copy(update={"engine": f"engine {number}"})]) for number in range(6)]
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(lambda file: save_run_audit(file, tmp_path), workers))
    assert stored_gates(tmp_path) == {key: each for file in workers for key, each in as_stored(file).items()}


def test_a_gate_audited_twice_in_a_run_is_there_once_as_measured_last(sessions, tmp_path):
    first = file_with(sessions)
    last = file_of("here", gates_of({"itl": sessions["itl"].model_copy(update={"started": "later"})}))
    assert as_stored(first)[ITL] != as_stored(last)[ITL]
    save_run_audit(first, tmp_path)
    save_run_audit(last, tmp_path)
    assert stored_gates(tmp_path) == as_stored(first) | as_stored(last)


def test_audits_of_two_machines_do_not_mix_in_one_run(sessions, tmp_path):
    save_run_audit(file_with(sessions), tmp_path)
    with pytest.raises(BaselineError, match=r"are of machine here, these are of there"):
        save_run_audit(file_with(sessions).model_copy(update={"fingerprint": "there"}), tmp_path)
