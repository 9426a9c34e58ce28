"""``enginegate power``: which reference lets a gate see what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.records_io import save_record
from tests_harness.records.factory import REFERENCE, SPEEDUPS, arena_entry, run_record

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


def test_table_has_a_column_for_each_reference(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", run, "--metric", "itl"]) == 0
    heading, names, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith("b1-i64-o64 itl, 24 blocks: the smallest slowdown that a gate with margin 3.0%")
    assert names.split() == ["over", "hf-bf16", "openvino-bf16", "openvino-int8_wo", "openvino-int4_awq"]
    assert [line.split()[0] for line in lines] == names.split()[1:]


def test_margin_beyond_what_is_tolerated_is_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", run, "--margin", "9%"]) == 2
    assert "mend: give --margin and --tolerated" in capsys.readouterr().err


def test_few_blocks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run_record(batch_sizes=(), arenas=[arena_entry(blocks=6)], verdicts=[], memory=[])
    assert main(["power", str(save_record(record, tmp_path))]) == 2
    assert "at least 8 finite" in capsys.readouterr().err


def test_run_that_timed_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run_record(batch_sizes=(), arenas=[], verdicts=[], memory=[])
    assert main(["power", str(save_record(record, tmp_path))]) == 0
    assert capsys.readouterr().out == "the run timed nothing\n"
