"""The whole suite on real engines of a tiny random-weight model: built, timed, gated, recorded, reported, accepted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.core.records import RunRecord
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import latest_record, load_record

REPOSITORY = Path(__file__).resolve().parents[2]
ARGUMENTS = ("--model", "tiny-random", "--precision", "int8_wo", "--batch-size", "2", "--time-budget", "30")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("a folder with spaces")


def run(place: Path, *arguments: str, module: str = "pytest") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environment |= {"ENGINEGATE_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


def measure(place: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], RunRecord]:
    folders = ("--runs", str(place / "runs"), "--baselines", str(place / "baselines"))
    done = run(place, "tests_perf", *ARGUMENTS, *folders, *more)
    return done, load_record(latest_record(place / "runs"))


@pytest.fixture(scope="module")
def first(place) -> tuple[subprocess.CompletedProcess[str], RunRecord]:
    return measure(place)


def test_a_first_run_builds_measures_and_reports(place, first):
    done, record = first
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exporting tiny-random-openvino-int8_wo" in done.stdout
    assert record.status == "complete"
    assert record.model.random_weights
    assert {entry.role for entry in record.engines} == {"reference", "candidate"}
    candidate = next(entry for entry in record.engines if entry.role == "candidate")
    assert candidate.effective["precision"] == "int8_wo"
    (arena,) = record.arenas
    assert [entry.engine for entry in arena.blocks[0].rounds] == arena.contestants
    assert [entry.engine for entry in arena.blocks[1].rounds] == arena.contestants[::-1]
    assert all(entry.tokens == 2 * 32 for block in arena.blocks for entry in block.rounds)
    (memory,) = [entry for entry in record.memory if entry.engine == candidate.id]
    assert memory.peak >= memory.loaded > 0
    assert memory.kv_budget == memory.kv_predicted
    assert {entry.metric for entry in record.verdicts} >= {"speedup", "ttft", "itl", "peak_memory", "engine_size"}
    assert "NO_BASELINE" in {entry.status for entry in record.verdicts}


def test_its_files_tell_the_same(place, first):
    _, record = first
    folder = place / "runs" / record.id
    with (folder / "benchmark_results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["Precision"] for row in rows} >= {"int8_wo"}
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "random weights" in summary.lower()
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "runs" / "history.sqlite").stat().st_size > 0
    assert all(entry.agrees for entry in recompute_verdicts(record))


@pytest.mark.heavy
def test_a_second_run_builds_nothing_and_is_gated_by_what_was_accepted(place, first):
    _, record = first
    accepted = run(
        place, "accept", str(place / "runs" / record.id), "--baselines", str(place / "baselines"), module="enginegate"
    )
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    done, second = measure(place)
    assert "exporting" not in done.stdout
    statuses = {entry.metric: entry.status for entry in second.verdicts}
    assert "NO_BASELINE" not in statuses.values()
    assert statuses["kv_budget"] == statuses["engine_size"] == "PASS"
    assert all(entry.agrees for entry in recompute_verdicts(second))


@pytest.mark.heavy
def test_quality_refuses_random_weights_with_the_reason(place, first):
    done = run(place, "tests_quality", "-k", "bleu", *ARGUMENTS, "--runs", str(place / "other"))
    assert done.returncode == 1
    assert "its weights are random" in done.stdout


@pytest.mark.heavy
def test_a_kv_budget_twice_the_accepted_one_fails_memory(place, first, tmp_path):
    baselines = tmp_path / "baselines"
    shutil.copytree(place / "baselines", baselines)
    for file in baselines.glob("perf/*/*/*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        for engine in content["engines"].values():
            engine["memory"]["kv_budget"] //= 2
        file.write_text(json.dumps(content), encoding="utf-8")
    folders = ("--runs", str(tmp_path / "runs"), "--baselines", str(baselines))
    done = run(place, "tests_perf/test_memory.py", "-k", "kv_budget", *ARGUMENTS, *folders)
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout
    assert "kv budget" in done.stdout
