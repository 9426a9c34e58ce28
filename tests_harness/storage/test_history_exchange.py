"""Runs in and out of a history, by its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.storage.history import store
from enginegate.storage.history.entries import Note, entry_of
from enginegate.storage.history.store import Wanted, load
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import run_record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/history.sqlite"


@pytest.fixture
def filled(url: str) -> str:
    runs = [run_record(f"r{day}", started=f"2026-11-0{day}T00:00:00+00:00", commit=f"c{day}") for day in (1, 2)]
    bare = run_record("bare", arenas=[], memory=[], quality=[], verdicts=[], engines=[], status="partial")
    store.add([entry_of(each) for each in (*runs, bare)], url)
    digest = next(iter(load(url).series))
    store.annotate(url, [Note(digest, "r2", "OpenVINO 2026.4 — by intention", "2026-11-03T00:00:00+00:00")])
    return url


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_an_export_makes_the_same_history_and_counts_once(filled, tmp_path, ending, capsys):
    file, again = tmp_path / f"all.{ending}", f"sqlite:///{tmp_path}/again.sqlite"
    assert main(["history", "export", str(file), "--history", filled]) == 0
    for said in ("3 new runs, 0 replaced, 0 were there already", "0 new runs, 0 replaced, 3 were there already"):
        assert main(["history", "import", str(file), "--history", again]) == 0
        assert said in capsys.readouterr().out
    assert store.entries(again) == store.entries(filled)
    assert load(again) == load(filled)


def test_run_records_are_found_in_their_folder(tmp_path, url, capsys):
    for name in ("a", "b"):
        save_record(run_record(name), tmp_path / "runs")
    assert main(["history", "import", str(tmp_path / "runs"), "--history", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 2
    assert load(url).runs["a"].record.endswith("runs/a/run.json")


BENCHMARK = {
    "machine_info": {
        "node": "ci", "machine": "x86_64", "system": "Linux", "release": "6.1", "python_version": "3.11.7",
        "cpu": {"brand_raw": "EPYC", "count": 2},
    },
    "commit_info": {"id": "0123456789abcdef0123", "dirty": True, "time": "2026-11-01T00:00:00"},
    "datetime": "2026-11-01T10:00:00.5",
    "benchmarks": [
        {"fullname": "test_a.py::test_a[1]", "stats": {"median": 0.002, "data": [0.002] * 8}},
        {"fullname": "x" * 400, "stats": {"median": 0.003}},
    ],
}  # fmt: skip
ASV = {
    "commit_hash": "fedcba9876543210", "date": 1790000000000, "env_name": "py3.11-numpy2", "python": "3.11",
    "params": {"machine": "lab", "arch": "x86_64"}, "requirements": {"numpy": "2.4"}, "version": 2,
    "result_columns": ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"],
    "results": {
        "suite.time_step": [[0.5, None], [["1", "8"]], "v1", 0, 1.0, [0.4, None], [0.6, None]],
        "suite.peakmem_step": [[1000], [], "v1"],
        "suite.track_items": {"result": 7},
    },
}  # fmt: skip


def test_other_tools_results_become_series(tmp_path, url, capsys):
    lab = tmp_path / "asv" / "lab"
    lab.mkdir(parents=True)
    (lab / "fedcba98-py3.11.json").write_text(json.dumps(ASV))
    (lab / "machine.json").write_text('{"machine": "lab"}')
    (tmp_path / "asv" / "benchmarks.json").write_text('{"suite.track_items": {"unit": "items"}, "version": 2}')
    (tmp_path / "0001_a.json").write_text(json.dumps(BENCHMARK))
    places = [str(tmp_path / "asv"), str(tmp_path / "0001_a.json")]
    for said in ("2 new runs", "2 were there already"):
        assert main(["history", "import", *places, "--history", url]) == 0
        assert said in capsys.readouterr().out
    found = {(each.key.engine, each.key.workload): each for each in load(url).series.values()}
    values = {name: series.points[0].value for name, series in found.items()}
    long = next(name for name, _ in values if name.startswith("xx"))
    assert values == {
        ("suite.time_step", "1"): 0.5, ("suite.time_step", "8"): None, ("suite.peakmem_step", ""): 1000,
        ("suite.track_items", ""): 7, ("test_a.py::test_a[1]", ""): 0.002, (long, ""): 0.003,
    }  # fmt: skip
    step = found["suite.time_step", "1"]
    assert (step.key.unit, step.key.method, step.key.variant) == ("seconds", "asv v1", "py3.11-numpy2")
    assert step.points[0][2:4] == (0.4, 0.6)
    assert found["suite.track_items", ""].key.unit == "items"
    assert len(long) == 256
    theirs = next(run for run in load(url).runs.values() if run.origin == "pytest-benchmark")
    assert (theirs.commit, theirs.started) == ("0123456789ab-dirty", "2026-11-01T10:00:00+00:00")
    assert theirs.environment == {"kernel": "6.1", "python": "3.11.7"}


TABLE = """Model,Precision,Batch Size,Latency (ms),Tokens/sec,GPU Memory (MB),Accuracy (%),ROUGE-1
distilgpt2,int8_wo,16,43.03,7437.19,1347.58,24.79,19.32
distilgpt2,full_prec,16,47.78,6696.80,1463.30,24.87,
"""


def test_a_table_of_results_is_a_run(tmp_path, url):
    file = tmp_path / "benchmark_results.csv"
    file.write_text(TABLE)
    given = ["--machine", "rtx-a4000", "--commit", "abc", "--started", "2025-01-02T00:00:00"]
    for _ in range(2):
        assert main(["history", "import", str(file), "--history", url, *given]) == 0
    (run,) = load(url).runs.values()
    assert (run.machine, run.commit, run.started) == ("rtx-a4000", "abc", "2025-01-02T00:00:00+00:00")
    found = {each.key.metric: each.points[0].value for each in load(url, Wanted(precision="int8_wo")).series.values()}
    assert found == pytest.approx(
        {"latency": 0.04303, "throughput": 7437.19, "peak_memory": 1347.58 * 2**20, "accuracy": 0.2479,
         "summaries.rouge1": 0.1932}
    )  # fmt: skip
    assert len(load(url, Wanted(precision="full_prec")).series) == 4


def test_speed_ups_over_two_engines_are_two_series(tmp_path, url):
    for name, over in (("a", "hf-bf16"), ("b", "int8_wo@base"), ("c", "hf-bf16")):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "benchmark_results.csv"
        file.write_text(f"Model,Precision,Batch Size,Speedup,Speedup Over\nm,int8_wo,1,2.{ord(name)},{over}\n")
        assert main(["history", "import", str(file), "--history", url]) == 0
    series = load(url).series.values()
    assert sorted((len(each.points), each.key.method) for each in series) == [
        (1, "table of results, over int8_wo@base"),
        (2, "table of results, over hf-bf16"),
    ]


RUN = {"kind": "run", "run": {"id": "z", "started": "2026-11-01", "commit": "", "machine": "m", "model": "", "status":
       "complete"}, "engines": [], "figures": []}  # fmt: skip
WORDS = "model_digest engine backend precision variant runtime_digest workload metric unit method verdict"
FIGURE = dict.fromkeys(WORDS.split(), "") | {"value": 1.0, "low": None, "high": None}


def with_figures(*figures: dict) -> str:
    return json.dumps(RUN | {"figures": list(figures)})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.jsonl", '{"kind": "run"', "line 1 of FILE cannot be used"),
        ("a.jsonl", "\n[1]\n", "line 2 of FILE cannot be used: it is no JSON object"),
        ("a.jsonl", '{"kind": "walk"}', "its kind is 'walk'"),
        ("a.jsonl", json.dumps(RUN | {"more": 1}), "in place of run, engines and figures"),
        ("a.jsonl", json.dumps(RUN | {"run": RUN["run"] | {"extra": 1}}), "extra"),
        ("a.jsonl", json.dumps(RUN | {"run": RUN["run"] | {"started": "soon"}}), "'soon', which is no time"),
        ("a.jsonl", json.dumps(RUN | {"run": RUN["run"] | {"status": "green"}}), "neither complete nor partial"),
        ("a.jsonl", with_figures(FIGURE, FIGURE), "is there twice"),
        ("a.jsonl", with_figures(FIGURE | {"value": "fast"}), "number"),
        ("a.jsonl", with_figures({"value": 1.0}), "figure 0 has no 'low'"),
        ("a.jsonl", with_figures(FIGURE).replace("1.0", "NaN"), "finite number"),
        ("a.parquet", "PAR1", "cannot be used"),
        ("a.json", "{}", "neither a run record"),
        ("a.json", '{"schema_version": 2, "fingerprint": {}}', "run record"),
        ("a.json", json.dumps(BENCHMARK | {"datetime": "noon"}), "'noon' is no time"),
        ("a.json", json.dumps(BENCHMARK | {"benchmarks": [{}]}), "benchmark 0 has no fullname"),
        ("a.json", json.dumps(ASV | {"date": "today"}), "it has no date"),
        ("a.json", json.dumps(ASV | {"results": {"x.time_a": ["often"]}}), "x.time_a: 'often' is no number"),
        ("a.csv", "Model,Batch\n", "it has no column 'Precision'"),
        ("a.csv", TABLE.replace("43.03", "fast"), "row 2, column Latency (ms): 'fast' is no number"),
        ("a.csv", TABLE + "distilgpt2,int8_wo\n", "row 4 has 2 cells"),
        ("a.csv", TABLE + TABLE.splitlines()[1] + "\n", "is there twice"),
        ("a.txt", "", "files that end in .txt are not known"),
    ],
)
def test_a_broken_file_is_named_and_the_others_are_taken(tmp_path, url, capsys, name, text, reason):
    broken = tmp_path / name
    broken.write_text(text)
    save_record(run_record("whole"), tmp_path / "runs")
    assert main(["history", "import", str(broken), str(tmp_path / "runs"), "--history", url]) == 2
    said = capsys.readouterr()
    assert "1 new runs" in said.out
    assert str(broken) in said.err
    assert reason.replace("FILE", str(broken)) in said.err
    assert list(load(url).runs) == ["whole"]


def test_what_is_not_there_is_told(tmp_path, url, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["history", "import", str(tmp_path / "empty"), str(tmp_path / "no.jsonl"), "--history", url]) == 2
    said = capsys.readouterr().err
    assert "there are no runs in" in said
    assert "there is no file" in said
    assert main(["history", "export", str(tmp_path / "x.jsonl"), "--history", f"sqlite:///{tmp_path}/none.sqlite"]) == 2
    assert "there is no history" in capsys.readouterr().err
    assert main(["history", "upgrade", "--runs", str(tmp_path / "runs")]) == 0
    assert main(["history", "export", str(tmp_path / "x.xlsx"), "--runs", str(tmp_path / "runs")]) == 2
    assert "names no format" in capsys.readouterr().err
