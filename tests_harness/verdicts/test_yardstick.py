"""A ratio to stored sessions moves when the reference does: then nothing is claimed, in either direction."""

from __future__ import annotations

import re

import pytest
from enginegate.core.records import ArenaEntry, RunRecord
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.verdict import Verdict
from enginegate.measure.ratios import log_ratios, median_seconds
from enginegate.storage.accept import apply_accept
from enginegate.storage.baselines import read_perf
from enginegate.verdicts.inputs import SpeedInputs, StoredFloor, StoredSessions
from enginegate.verdicts.judge import judge
from enginegate.verdicts.speed import speed_undecided

from tests_harness.storage.factory import MODEL, REFERENCE, arena_entry, run_record

ENGINE = f"{MODEL}-openvino-int8_wo"
WORK = "b1-i64-o64"


def timed(reference: float = 1.0, engine: float = 1.0, seed: int = 0) -> ArenaEntry:
    """An arena in which the reference and the engine take so many times as long as they did."""
    arena = arena_entry(noise=0.004, seed=seed)
    factors = {REFERENCE: reference, ENGINE: engine}
    blocks = [
        block.model_copy(
            update={
                "rounds": [
                    each.model_copy(update={"seconds": each.seconds * factors.get(each.engine, 1.0)})
                    for each in block.rounds
                ]
            }
        )
        for block in arena.blocks
    ]
    return arena.model_copy(update={"blocks": blocks})


def record(arena: ArenaEntry) -> RunRecord:
    return run_record(batch_sizes=(), arenas=[arena], verdicts=[], memory=[])


def gate(*stored: ArenaEntry, times: bool = True) -> SpeedInputs:
    against = StoredSessions(
        sessions=[log_ratios(each.blocks, REFERENCE, ENGINE) for each in stored],
        times=[
            (median_seconds(each.blocks, REFERENCE, "speedup"), median_seconds(each.blocks, ENGINE, "speedup"))
            for each in stored
            if times
        ],
    )
    return SpeedInputs(
        metric="speedup",
        workload=WORK,
        candidate=ENGINE,
        reference=REFERENCE,
        reference_label="hf-bf16",
        subject="int8_wo b1",
        against=against,
        policy=SpeedPolicy(),
    )


def judged(now: ArenaEntry, times: bool = True) -> Verdict:
    return judge(gate(timed(seed=1), timed(1.02, 1.02, seed=2), times=times), record(now))


@pytest.mark.parametrize(("engine", "status"), [(1.0, "PASS"), (1.25, "FAIL"), (0.8, "PASS")])
def test_beside_a_reference_that_stayed_the_ratio_is_believed(engine, status):
    assert judged(timed(1.01, engine, seed=3)).status.value == status


@pytest.mark.parametrize(
    ("reference", "engine", "says"),
    [
        (1.31, 1.02, r"reference's time moved by \+(29|3\d) %, the engine's by \+\d %"),
        (1.31, 1.31, r"the engine's by \+(29|3\d) %"),
        (0.8, 1.0, r"reference's time moved by -2\d %"),
        (0.8, 1.6, r"the engine's by \+5\d %"),
    ],
)
def test_beside_a_reference_that_moved_nothing_is_claimed_in_either_direction(reference, engine, says):
    """An unchanged engine was "faster by 25.5 %", since its host slowed the reference; a slower one would pass, too."""
    verdict = judged(timed(reference, engine, seed=3))
    assert verdict.status.value == "INCONCLUSIVE"
    assert re.search(says, verdict.explanation), verdict.explanation


def test_sessions_that_keep_no_times_decide_nothing():
    verdict = judged(timed(seed=3), times=False)
    assert verdict.status.value == "INCONCLUSIVE"
    assert "keep no times of the reference" in verdict.explanation


def test_no_more_blocks_are_taken_where_they_could_decide_nothing():
    near = timed(1.0, 1.05, seed=3)
    assert speed_undecided(gate(timed(seed=1)), near.model_copy(update={"blocks": near.blocks[:6]}))
    moved = timed(1.31, 1.05, seed=3)
    assert not speed_undecided(gate(timed(seed=1)), moved.model_copy(update={"blocks": moved.blocks[:6]}))


def test_a_floor_that_is_passed_wants_no_sharper_ratio():
    """It was measured on until its interval was as narrow as the margin, for a baseline that nobody may want."""
    noisy = arena_entry(blocks=6, noise=0.1)
    low, near = (gate().model_copy(update={"against": StoredFloor(ratio=ratio)}) for ratio in (1.2, 2.4))
    assert not speed_undecided(low, noisy)
    assert speed_undecided(near, noisy), "the ratio is about 2.5: this floor is not decided yet"
    verdict = judge(low, record(noisy))
    assert (verdict.status.value, verdict.samples) == ("PASS", 6)
    assert verdict.interval[1] / verdict.interval[0] > (1 + low.policy.margin) ** 2


def test_with_nothing_to_compare_with_the_ratio_becomes_as_sharp_as_a_baseline_must_be():
    alone = gate().model_copy(update={"against": None})
    assert speed_undecided(alone, arena_entry(blocks=6, noise=0.1))
    assert not speed_undecided(alone, arena_entry(blocks=6, noise=0.001))


def test_accept_stores_the_times_that_a_later_session_is_checked_by(tmp_path):
    run = record(timed())
    apply_accept(run, tmp_path, force=True)
    baseline = read_perf(tmp_path, run.fingerprint.key, MODEL, WORK)
    assert baseline is not None
    (session,) = baseline.engines[ENGINE].sessions
    assert session.times["speedup"] == pytest.approx((1.0, 0.4), rel=0.02)
    assert set(session.times) == set(session.log_ratios)
    assert len(baseline.engines[ENGINE].decisive("itl").sessions) == 1
