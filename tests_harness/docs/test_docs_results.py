"""docs/results.md: what it says of judging stored sessions again, and of the cores, follows from their records."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from docs_text import REPOSITORY
from enginegate.config.loading import find_config, load_config
from enginegate.core.records import RunRecord, VerdictEntry
from enginegate.gates.robust import Array
from enginegate.gates.sequential import SpeedPolicy, restore_policy
from enginegate.measure.ratios import log_ratios, median_seconds
from enginegate.storage.audits import load_audit
from enginegate.storage.runs import load_record
from enginegate.verdicts.audit import judged_by
from enginegate.verdicts.compare import Rule, compare_sessions
from enginegate.verdicts.inputs import StoredFloor, restore_inputs
from enginegate.verdicts.judge import judge
from enginegate.verdicts.sources import load_session

CARD = "nvidia-h200-16c-aec33040"
RECORDS = REPOSITORY / "docs" / "results" / "records"
FIRST, SLOWED, THIRD = "20261121-220710-efae", "20261121-220933-23ee", "20261121-221114-a24d"
INT8, INT4 = "smollm2-135m-vllm-int8_wo", "smollm2-135m-vllm-int4_awq"


@cache
def load(session: str) -> RunRecord:
    return load_record(RECORDS / session / "run.json")


def verdicts(session: str, engine: str) -> list[VerdictEntry]:
    return [verdict for verdict in load(session).verdicts if verdict.engine == engine and verdict.metric == "itl"]


def itl(session: str, engine: str) -> list[float]:
    """The blocks' log ratios of inter-token latency over the session's reference."""
    (arena,) = load(session).arenas
    return log_ratios(arena.blocks, arena.reference, engine, "itl")


def times(session: str, engine: str) -> tuple[float, float]:
    """Median seconds between tokens of the session's reference, and of the engine."""
    (arena,) = load(session).arenas
    return median_seconds(arena.blocks, arena.reference, "itl"), median_seconds(arena.blocks, engine, "itl")


def judged(session: str, engine: str, *stored: str, shift: float) -> str:
    """By the session's own policy, but for the belief about the shift between sessions."""
    (inputs,) = [entry.inputs for entry in verdicts(session, engine)]
    policy = {**inputs["policy"], "shift": {**inputs["policy"]["shift"], "scale": shift}}
    against = {
        "kind": "baseline",
        "sessions": [itl(each, engine) for each in stored],
        "times": [times(each, engine) for each in stored],
    }
    changed = restore_inputs({**inputs, "policy": policy, "against": against})
    return judge(changed, load(session)).status.value


@pytest.mark.parametrize("engine", [INT8, INT4])
def test_by_the_default_belief_one_stored_session_decides_nothing(engine):
    assert judged(SLOWED, engine, FIRST, shift=0.007) == "INCONCLUSIVE"
    (stored,) = verdicts(SLOWED, engine)
    assert stored.status == "INCONCLUSIVE"
    assert stored.inputs["policy"]["shift"]["scale"] == 0.007


def test_by_the_tighter_belief_the_slowed_engines_fail():
    assert judged(SLOWED, INT8, FIRST, shift=0.003) == "FAIL"
    assert judged(SLOWED, INT4, FIRST, shift=0.003) == "INCONCLUSIVE"
    for engine in (INT8, INT4):
        assert judged(SLOWED, engine, FIRST, THIRD, shift=0.003) == "FAIL"


@pytest.mark.parametrize("engine", [INT8, INT4])
@pytest.mark.parametrize(("new", "stored"), [(FIRST, THIRD), (THIRD, FIRST)])
def test_by_the_tighter_belief_unslowed_sessions_pass(engine, new, stored):
    assert judged(new, engine, stored, shift=0.003) == "PASS"


@pytest.mark.parametrize(
    ("metric", "sessions", "failed"),
    [
        ("itl", 0, (97, 100)),
        ("itl", 1, (0, 2)),
        ("itl", 3, (2, 100)),
        ("itl", 10, (91, 100)),
        ("speedup", 0, (82, 100)),
        ("speedup", 3, (0, 0)),
        ("speedup", 10, (1, 89)),
        ("ttft", 0, (1, 5)),
    ],
)
def test_what_the_audits_say_is_seen_of_2_and_3_percent(metric, sessions, failed):
    audits = load_audit(REPOSITORY / "baselines", CARD)
    assert audits is not None
    gate = audits.of(INT8, "b1-i64-o64", "smollm2-135m-hf-graph-fp16", metric)
    assert gate is not None
    result = judged_by(gate, sessions, restore_policy(gate.policy))
    seen = {power.slowdown: 100 * power.fails.value for power in result.powers}
    assert (seen[0.02], seen[0.03]) == pytest.approx(failed, abs=0.51)
    assert result.false_alarms.value <= 0.0005


@pytest.mark.parametrize("session", ["20261121-183926-a86a", "20261122-060426-7f35"])
def test_floors_of_the_default_model_decide_at_the_first_look(session):
    """All seven precisions, at both batch sizes, by all three metrics."""
    record, config = load(session), load_config(find_config("smollm2-135m"))
    gates = [restore_inputs(entry.inputs) for entry in record.verdicts if entry.inputs["gate"] == "speed"]
    assert len(gates) == 42
    for gate in gates:
        floors = config.file.floors["vllm"][gate.candidate.rpartition("-vllm-")[2]]
        floor = getattr(floors, gate.metric)[gate.workload.partition("-")[0]]
        policy = replace(gate.policy, looks=SpeedPolicy().looks)
        verdict = judge(gate.model_copy(update={"against": StoredFloor(ratio=floor), "policy": policy}), record)
        assert (verdict.status.value, verdict.samples) == ("PASS", policy.looks[0]), verdict.explanation


def test_the_second_session_over_eager_hf_fails_nothing_but_one_line_of_compare():
    base, new = "20261121-183926-a86a", "20261122-060426-7f35"
    assert {verdict.status for verdict in load(new).verdicts} == {"PASS", "INCONCLUSIVE"}
    compared = compare_sessions([load_session(RECORDS / base)], load_session(RECORDS / new), Rule()).compared
    assert len(compared) == 50
    (worse,) = [item for item in compared if item.outcome == "worse"]
    assert worse.benchmark.startswith(f"{INT8} b8")
    assert worse.metric == "itl"


def geometric_mean(quiet: Array, other: Array) -> tuple[float, float, float]:
    """Of the pairs' ratios, and a 95 % interval from resampled pairs."""
    logs = np.log(quiet / other)
    draws = np.random.default_rng(0).integers(len(logs), size=(10_000, len(logs)))
    low, high = np.exp(np.percentile(logs[draws].mean(axis=1), [2.5, 97.5]))
    return float(np.exp(logs.mean())), low, high


def test_what_the_quietest_core_gained():
    rows: dict[str, list[Array]] = {"any core": [], "quietest core": []}
    for line in (RECORDS.parent / "steadiness-h200.txt").read_text(encoding="utf-8").splitlines():
        choice, colon, rounds = line.strip().partition(": ")
        if colon and choice in rows:
            rows[choice].append(np.array([float(each.partition("/")[0]) for each in rounds.split()]))
    phases = list(zip(rows["quietest core"], rows["any core"], strict=True))
    assert [len(quiet) for quiet, _ in phases] == [40, 40]
    in_a_row, after_sleep = (geometric_mean(*phase) for phase in phases)
    assert in_a_row == pytest.approx((0.94, 0.88, 1.00), abs=0.006)
    assert after_sleep == pytest.approx((0.93, 0.87, 0.98), abs=0.006)
    together = geometric_mean(*(np.concatenate(rows[choice]) for choice in ("quietest core", "any core")))
    assert together == pytest.approx((0.93, 0.89, 0.98), abs=0.006)
