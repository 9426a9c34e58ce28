from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import gated_record, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    save_record(run_record("first"), tmp_path / "runs")
    return tmp_path / "runs"


def test_accept_prints_what_moves_and_writes(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--runs", str(runs), "--baselines", str(tmp_path / "baselines")]
    assert main(["accept", "latest", "--dry-run", *common]) == 0
    assert "dry run: nothing written" in capsys.readouterr().out
    assert not (tmp_path / "baselines").exists()
    assert main(["accept", "first", *common]) == 0
    out = capsys.readouterr().out
    assert "accepted run first: 5 file(s) written" in out
    assert "new: " in out
    save_record(run_record("second", {INT8: 2.75}), runs)
    assert main(["accept", "second", *common]) == 2
    assert "the level moved" in capsys.readouterr().err
    assert main(["accept", "second", "--replace", *common]) == 0
    out = capsys.readouterr().out
    assert "session 1 of at most 10, in place of 1 at another level" in out
    assert " -> " in out
    assert "+" in out
    assert " %" in out
    assert main(["accept", "second", *common]) == 2
    assert "was accepted before" in capsys.readouterr().err


def test_accept_speaks_json(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accept", str(runs / "first"), "--baselines", str(tmp_path / "b"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["run"] == "first"
    assert len(answer["written"]) == 5
    speedup = next(row for row in answer["changes"] if row["engine"] == INT8 and row["metric"] == "speedup")
    assert speedup["old"] is None
    assert speedup["new"] == pytest.approx(2.5, rel=0.02)


def test_accept_refuses_failures_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_record(run_record(verdicts=[verdict_entry(INT8, status="FAIL")]), tmp_path / "runs")
    arguments = ["accept", str(path), "--baselines", str(tmp_path / "baselines")]
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert not (tmp_path / "baselines").exists()
    assert main([*arguments, "--force"]) == 0


def test_accept_says_when_it_cannot_write(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["accept", "first", "--runs", str(runs), "--baselines", str(tmp_path / "file")]) == 2
    assert "baseline" in capsys.readouterr().err


def test_report_prints_the_table_and_writes_beside_the_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "latest", "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "openvino int8_wo" in out
    assert "2.31x [2.27, 2.36]" in out
    assert "tiny-8m: 6 PASS" in out
    assert sorted(path.name for path in (runs / "first").iterdir()) == [
        "benchmark_results.csv", "plot.png", "run.json", "summary.md",
    ]  # fmt: skip


def test_report_speaks_json_and_takes_a_folder(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "first", "--runs", str(runs), "--out", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["rows"]) == 8
    assert answer["rows"][0]["verdict"] == ""
    assert len(answer["verdicts"]) == 6
    assert (tmp_path / "out" / "plot.png").is_file()


def test_report_of_verdicts_that_cannot_be_recomputed_is_1(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "first", "--runs", str(runs), "--verdicts"]) == 1
    out = capsys.readouterr().out
    assert "0 of 6 verdicts" in out
    assert "DIFFERS" in out
    save_record(run_record("none", verdicts=[]), runs)
    assert main(["report", "none", "--runs", str(runs), "--verdicts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("floor", [2.0, 3.0])
def test_report_recomputes_verdicts_from_the_record_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], floor: float
) -> None:
    path = save_record(gated_record(floor), tmp_path)
    assert main(["report", str(path), "--verdicts"]) == 0
    assert "1 of 1 verdicts recomputed from the record agree" in capsys.readouterr().out
    record = json.loads(path.read_text())
    status = record["verdicts"][0]["status"]
    record["verdicts"][0]["status"] = "PASS" if status == "FAIL" else "FAIL"
    path.write_text(json.dumps(record))
    assert main(["report", str(path), "--verdicts", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["recomputed"] == status
    assert not row["agrees"]


def test_a_corrupt_record_is_2(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "first" / "run.json").write_text('{"schema_version": 1, "id": ')
    for command in ("report", "accept"):
        assert main([command, "first", "--runs", str(runs)]) == 2
        assert "not valid JSON" in capsys.readouterr().err
