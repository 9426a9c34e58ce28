"""``enginegate power``: which reference lets a gate see what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.gates.sequential import SpeedPolicy
from enginegate.storage.runs import save_record
from enginegate.verdicts.power import run_policy

from tests_harness.storage.factory import REFERENCE, SPEEDUPS, arena_entry, run_record, verdict_entry

NOISY, *STEADY = SPEEDUPS


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Reference and one engine scatter by 10 % a block, two engines by 0.1 %."""
    arena, quiet = arena_entry(blocks=24, noise=0.1), arena_entry(blocks=24, noise=0.001, seed=1)
    blocks = []
    for block, other in zip(arena.blocks, quiet.blocks, strict=True):
        rounds = {entry.engine: entry for entry in other.rounds}
        mixed = [rounds[entry.engine] if entry.engine in STEADY else entry for entry in block.rounds]
        blocks.append(block.model_copy(update={"rounds": mixed}))
    arena = arena.model_copy(update={"blocks": blocks})
    record = run_record(batch_sizes=(), arenas=[arena], verdicts=[], memory=[])
    return str(save_record(record, tmp_path))


def powers(run: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[tuple[str, str], dict]:
    assert main(["power", run, "--json", *arguments]) == 0
    return {(row["engine"], row["reference"]): row for row in json.loads(capsys.readouterr().out)}


def test_noise_of_the_reference_decides_what_is_seen(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = powers(run, capsys, "--margin", "1%", "--tolerated", "3%")
    assert len(rows) == 12
    over_steady, over_noisy = rows[STEADY[0], STEADY[1]], rows[STEADY[0], REFERENCE]
    assert over_steady["smallest_seen"] == 0.02
    assert over_steady["power"]["0.01"] <= 0.05, "the margin itself is no slowdown to fail on"
    assert over_noisy["smallest_seen"] is None or over_noisy["smallest_seen"] > 0.05
    assert over_steady["noise"] < 0.003 < 0.03 < over_noisy["noise"]


def test_stored_sessions_and_what_is_believed_of_their_shift_cost_power(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    margins = ("--margin", "1%", "--tolerated", "3%")
    pair = STEADY[0], STEADY[1]
    seen = [powers(run, capsys, *margins, "--sessions", count)[pair]["smallest_seen"] for count in ("0", "1", "10")]
    assert seen[0] < seen[2] < seen[1]
    assert powers(run, capsys, "--sessions", "3")[pair]["sessions"] == 3
    assert main(["power", run, "--sessions", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("against 3 stored sessions")
    assert main(["power", run, "--sessions=-1"]) == 2
    assert "not a whole number from 0 on" in capsys.readouterr().err


def test_belief_is_the_runs_own_for_each_metric() -> None:
    record = run_record(verdicts=[])
    record.config["gates"] = {"speed": {"shift": {"itl": 0.003}}}
    assert run_policy(record, "itl").shift.scale == 0.003
    assert run_policy(record, "ttft").shift.scale == SpeedPolicy().shift.scale


def test_table_has_a_column_for_each_reference(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", run, "--metric", "itl"]) == 0
    heading, names, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith(
        "b1-i64-o64 itl, 24 blocks: the smallest slowdown that a gate fails with 90% power (margin 3.0%"
    )
    assert names.split() == ["over", "hf-bf16", "openvino-bf16", "openvino-int8_wo", "openvino-int4_awq"]
    assert [line.split()[0] for line in lines[:4]] == names.split()[1:]
    assert any("few to resample" in line for line in lines[4:]), "what weakens the table stands under it"


def test_margin_beyond_what_is_tolerated_is_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", run, "--margin", "9%"]) == 2
    assert "hint: give --margin, --tolerated or --alpha another value" in capsys.readouterr().err


def test_few_blocks_and_lone_engines_are_named_and_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arenas = [arena_entry(blocks=6), arena_entry(8, speedups={}), arena_entry(2)]
    path = save_record(run_record(batch_sizes=(), arenas=arenas, verdicts=[], memory=[]), tmp_path)
    assert main(["power", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b1-i64-o64: 6 blocks of 4 engine(s); at least 8 are needed"
    assert lines[1] == "b8-i64-o64: 16 blocks of 1 engine(s); one engine alone has no ratio"
    assert lines[2].startswith("b2-i64-o64 speedup, 16 blocks")


def test_gate_is_the_runs_own(tmp_path: Path) -> None:
    stored = {"margin": 0.02, "tolerated": 0.05, "alpha": 1e-4, "beta": 0.1, "looks": [12], "shift": {}}
    verdict = verdict_entry(STEADY[0], inputs={"gate": "speed", "policy": stored})
    policy = run_policy(run_record(verdicts=[verdict]), "speedup", margin=0.03)
    assert policy == SpeedPolicy(margin=0.03, tolerated=0.05, alpha=1e-4, beta=0.1, looks=(12,))


def test_run_that_timed_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run_record(batch_sizes=(), arenas=[], verdicts=[], memory=[])
    assert main(["power", str(save_record(record, tmp_path))]) == 0
    assert capsys.readouterr().out == "the run timed nothing\n"
