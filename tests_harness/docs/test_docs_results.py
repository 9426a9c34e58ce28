"""docs/results.md: what it says of judging the steady sessions again follows from their records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.config import REPOSITORY
from harness.gates.sequential import RATIO_SHIFT, SpeedPolicy
from harness.gates.sessions import Baseline
from harness.gates.speed import replay_speed
from harness.measure.arena import log_ratios
from harness.records_io import load_record

RECORDS = REPOSITORY / "docs" / "results" / "records"
FIRST, SLOWED, THIRD = "20261121-220710-efae", "20261121-220933-23ee", "20261121-221114-a24d"
INT8, INT4 = "smollm2-135m-vllm-int8_wo", "smollm2-135m-vllm-int4_awq"


def itl(session: str, engine: str) -> list[float]:
    """The blocks' log ratios of inter-token latency over the session's reference."""
    (arena,) = load_record(RECORDS / session / "run.json").arenas
    return log_ratios(arena.blocks, arena.reference, engine, "itl")


def judged(session: str, engine: str, *stored: str, shift: float) -> str:
    """By the sessions' own policy, but for the belief about the shift between sessions."""
    believed = replace(RATIO_SHIFT, scale=shift)
    policy = SpeedPolicy(margin=0.01, tolerated=0.03, alpha=0.01 / 6, looks=(40,), shift=believed)
    against = Baseline([itl(each, engine) for each in stored])
    return replay_speed(itl(session, engine), against, policy).status.value


@pytest.mark.parametrize("engine", [INT8, INT4])
def test_by_the_default_belief_one_stored_session_decides_nothing(engine):
    assert judged(SLOWED, engine, FIRST, shift=0.007) == "INCONCLUSIVE"
    (stored,) = [
        verdict
        for verdict in load_record(RECORDS / SLOWED / "run.json").verdicts
        if verdict.engine == engine and verdict.metric == "itl"
    ]
    assert stored.status == "INCONCLUSIVE"


def test_by_the_tighter_belief_the_slowed_engines_fail():
    assert judged(SLOWED, INT8, FIRST, shift=0.003) == "FAIL"
    for engine in (INT8, INT4):
        assert judged(SLOWED, engine, FIRST, THIRD, shift=0.003) == "FAIL"


@pytest.mark.parametrize("engine", [INT8, INT4])
@pytest.mark.parametrize(("new", "stored"), [(FIRST, THIRD), (THIRD, FIRST)])
def test_by_the_tighter_belief_unslowed_sessions_pass(engine, new, stored):
    assert judged(new, engine, stored, shift=0.003) == "PASS"
