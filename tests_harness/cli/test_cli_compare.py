from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from enginegate.cli import main
from enginegate.config.schema import GatesSection
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import MODEL, engine_entry, memory_entry, quality_entry, run_record

INT8 = "tiny-8m-openvino-int8_wo"


def bench_file(path: Path, seconds: Mapping[str, float], seed: int = 0, noise: float = 0.01, count: int = 30) -> str:
    generator = random.Random(f"{path.name}/{seed}")
    benchmarks = [
        {"fullname": name, "stats": {"data": [value * generator.lognormvariate(0, noise) for _ in range(count)]}}
        for name, value in seconds.items()
    ]
    machine = {"machine": "x86_64", "cpu": {"brand_raw": "EPYC"}}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": benchmarks}))
    return str(path)


@pytest.fixture
def bases(tmp_path: Path) -> list[str]:
    times = {"test_a": 1.0, "test_b": 2.0, "test_gone": 3.0}
    return [bench_file(tmp_path / f"base{number}.json", times) for number in range(8)]


def outcomes(answer: dict[str, Any]) -> dict[str, str]:
    return {item["benchmark"]: item["outcome"] for item in answer["compared"]}


def test_slower_faster_missing_and_new_are_all_listed(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = bench_file(tmp_path / "new.json", {"test_a": 1.3, "test_b": 1.4, "test_new": 1.0})
    assert main(["compare", *bases, new]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("REGRESSION    test_a time: +")
    assert lines[1].startswith("improvement   test_b time: -")
    assert "missing       test_gone time" in lines
    assert "new           test_new time" in lines
    assert "1 regression, 1 improvement, 1 missing, 1 new" in out
    assert lines[-1].endswith("if nothing changed, up to 0.02 false regressions are expected")


def test_exit_codes(bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = bench_file(tmp_path / "same.json", {"test_a": 1.0, "test_b": 2.0, "test_gone": 3.0}, seed=1)
    assert main(["compare", *bases, same]) == 0
    assert main(["compare", *bases, same, "--strict"]) == 0
    partial = bench_file(tmp_path / "partial.json", {"test_a": 1.0, "test_b": 2.0}, seed=1)
    assert main(["compare", *bases, partial]) == 0
    assert main(["compare", *bases, partial, "--strict"]) == 3
    unsure = bench_file(tmp_path / "unsure.json", {"test_a": 1.08, "test_b": 2.0, "test_gone": 3.0})
    assert main(["compare", bases[0], unsure]) == 0
    assert main(["compare", bases[0], unsure, "--strict"]) == 3
    other = bench_file(tmp_path / "other.json", {"test_other": 1.0})
    assert main(["compare", *bases, other]) == 2
    assert "nothing in common" in capsys.readouterr().err


def test_the_margin_is_what_is_no_regression(bases: list[str], tmp_path: Path) -> None:
    slower = bench_file(tmp_path / "slower.json", {"test_a": 1.15, "test_b": 2.0, "test_gone": 3.0})
    assert main(["compare", *bases, slower]) == 1
    assert main(["compare", *bases, slower, "--margin", "25%"]) == 0
    assert main(["compare", *bases, slower, "--metric", "time"]) == 1
    assert main(["compare", *bases, slower, "--metric", "speedup"]) == 2


def test_one_base_session_does_not_pretend(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = bench_file(tmp_path / "slower.json", {"test_a": 1.15, "test_b": 2.0, "test_gone": 3.0})
    assert main(["compare", bases[0], slower, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert outcomes(answer)["test_a"] == "undecided"


def test_json_and_markdown_tell_ratio_and_interval(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = bench_file(tmp_path / "new.json", {"test_a": 1.3, "test_b": 2.0})
    assert main(["compare", *bases, new, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    worse = answer["compared"][0]
    assert worse["status"] == "FAIL"
    assert worse["interval"][0] < worse["estimate"] < worse["interval"][1]
    assert worse["estimate"] == pytest.approx(1.3, rel=0.02)
    assert answer["missing"] == [{"benchmark": "test_gone", "metric": "time"}]
    assert main(["compare", *bases, new, "--markdown"]) == 1
    out = capsys.readouterr().out
    assert "| REGRESSION | test_a | time | +" in out
    assert "| missing | test_gone | time |" in out
    assert "up to 0.02 false regressions are expected" in out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ('{"hello": 1}', "not a run record"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"min": 1}}]}', "--benchmark-save-data"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"data": []}}]}', "no samples"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"data": ["x"]}}]}', "not a list of numbers"),
        ('{"benchmarks": [{"fullname": "a", "stats": null}]}', "has no data"),
        ('{"benchmarks": [{"stats": {"data": [1]}}]}', "no fullname"),
        ('{"benchmarks": [{"fullname": null, "stats": {"data": [1]}}]}', "no fullname"),
        ('{"benchmarks": [], "benchmarks": []}', "'benchmarks' is there twice"),
        ('{"benchmarks": [], "machine_info": ["x"]}', "machine_info"),
        ('{"benchmarks": [], "machine_info": {"cpu": 1}}', "machine_info.cpu"),
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("[" * 50_000, "nests too deeply"),
        (f'{{"benchmarks": [1{"0" * 5000}]}}', "no float holds"),
        ('{"benchmarks": null}', "no list of benchmarks"),
        ('{"benchmarks": ["a"]}', "no list of benchmarks"),
    ],
)
def test_bad_files_are_2(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert main(["compare", bases[0], str(tmp_path / "bad.json")]) == 2
    assert reason in capsys.readouterr().err


def test_bad_arguments_are_2(bases: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", bases[0]]) == 2
    assert main(["compare", bases[0], bases[1], "--alpha", "0.7"]) == 2
    assert main(["compare", bases[0], bases[1], "--margin", "five"]) == 2
    assert main(["compare", bases[0], "absent.json"]) == 2
    complaints = capsys.readouterr().err
    assert "there is no session at absent.json" in complaints
    assert "Traceback" not in complaints


def test_one_session_given_twice_is_2(bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text(Path(bases[0]).read_text())
    for sessions in ([bases[0], str(copy), bases[1]], [bases[0], str(copy)], [bases[1], bases[0], str(copy)]):
        assert main(["compare", *sessions]) == 2
        assert "are one session" in capsys.readouterr().err
    first, *_, second = records(tmp_path)
    assert main(["compare", first, first, second]) == 2
    assert "are one session" in capsys.readouterr().err


def test_one_sample_passes_nothing(bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = bench_file(tmp_path / "new.json", {"test_a": 1.0}, count=1)
    assert main(["compare", *bases, new, "--strict"]) == 3
    assert "undecided: a session has fewer than 3 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sample", ["0.0", "-1", "1e-300", "1e300", "1e999", "1" + "0" * 400, "NaN", "-Infinity", "true"]
)
def test_samples_that_are_no_times_are_2(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: str
) -> None:
    """They were a regression (1), a traceback (1 as well), or an improvement."""
    (tmp_path / "bad.json").write_text(
        f'{{"benchmarks": [{{"fullname": "test_a", "stats": {{"data": [1.0, {sample}, 1.0]}}}}]}}'
    )
    for sessions in ([*bases, str(tmp_path / "bad.json")], [str(tmp_path / "bad.json"), *bases]):
        assert main(["compare", *sessions]) == 2
        captured = capsys.readouterr()
        assert "bad.json" in captured.err
        assert "Traceback" not in captured.err


def records(tmp_path: Path, **changes: Any) -> list[str]:
    """Six unchanged records and one with ``changes``."""
    saved = [save_record(run_record(f"run{number}", seed=number), tmp_path) for number in range(6)]
    return [str(path) for path in (*saved, save_record(run_record("new", seed=9, **changes), tmp_path))]


def compare_json(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, dict[tuple[str, str], Any]]:
    code = main(["compare", *arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    return code, {(item["benchmark"], item["metric"]): item for item in answer["compared"]}


def test_unchanged_records_regress_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = compare_json(capsys, records(tmp_path))
    assert code == 0
    assert found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]["outcome"] == "same"
    assert found[f"{INT8} b8-i64-o64", "peak_memory"]["outcome"] == "same"
    assert found[INT8, "engine_size"]["outcome"] == "same"


def test_a_slower_engine_and_more_memory_are_found_in_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = [memory_entry(INT8, "b8-i64-o64", peak=900 * 2**20)]
    code, found = compare_json(capsys, records(tmp_path, speedups={INT8: 2.0}, memory=memory))
    assert code == 1
    speedup = found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]
    assert speedup["outcome"] == "worse"
    assert speedup["change"] == pytest.approx(0.25, abs=0.03)
    assert found[f"{INT8} b8-i64-o64", "peak_memory"]["outcome"] == "worse"


def test_the_new_run_says_how_far_sessions_shift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, _, _, _, _, _, new = records(tmp_path)
    record = json.loads(Path(new).read_text())
    widths = []
    for scale in (0.001, 0.007, 0.05):
        record["config"] = {"gates": {"speed": {"shift": {"speedup": scale}}}}
        Path(new).write_text(json.dumps(record))
        _, found = compare_json(capsys, [base, new])
        low, high = found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]["interval"]
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]
    record["config"] = {}
    Path(new).write_text(json.dumps(record))
    _, found = compare_json(capsys, [base, new])
    low, high = found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]["interval"]
    assert high - low == pytest.approx(widths[1]), "unsaid, it is the gates' own"


@pytest.mark.parametrize(
    ("gates", "options", "outcome"),
    [
        ({}, [], "worse"),
        ({"speed": {"margin": 0.1, "tolerated": 0.2}}, [], "same"),
        ({"speed": {"margin": 0.1, "tolerated": 0.2}}, ["--margin", "4%"], "worse"),
        ({"speed": {"margin": 0.07, "tolerated": 0.075}}, [], "undecided"),
    ],
)
def test_the_margins_are_those_of_the_new_run_s_configuration(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    gates: dict[str, Any],
    options: list[str],
    outcome: str,
) -> None:
    """They were compare's own: 5 %, whatever the gates of the run said. Here the engine is 6 % slower."""
    paths = records(tmp_path, speedups={INT8: 2.5 / 1.06}, config={"gates": gates})
    _, found = compare_json(capsys, [*paths, *options])
    verdict = found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]
    assert verdict["outcome"] == outcome
    assert verdict["margin"] == (0.04 if options else gates.get("speed", {}).get("margin", 0.03))


def test_quality_and_memory_too_are_judged_by_the_new_run_s_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Perplexity had margins of 1 and 3 %, where the gates' own defaults are 0.5 and 2 %."""
    old = quality_entry(INT8, "perplexity", items=200)
    worse = {item: [values[0] + 0.06, *values[1:]] for item, values in old.items.items()}  # 0.6 % in perplexity
    new = old.model_copy(update={"items": worse})
    memory = [memory_entry(INT8, "b8-i64-o64", peak=int(1.06 * 600 * 2**20))]
    outcomes = {}
    for name, gates in (
        ("default", {}),
        ("own", {"quality": {"perplexity": {"margin": 0.01, "tolerated": 0.03}}, "memory": {"relative": 0.1}}),
    ):
        paths = [
            str(save_record(run_record(f"{name}-{run}", quality=False, **changes).model_copy(update=entry), tmp_path))
            for run, changes, entry in (
                ("old", {}, {"quality": [old]}),
                ("new", {"memory": memory, "config": {"gates": gates}}, {"quality": [new]}),
            )
        ]
        _, found = compare_json(capsys, paths)
        keys = ((INT8, "perplexity"), (f"{INT8} b8-i64-o64", "peak_memory"))
        outcomes[name] = [found[key]["outcome"] for key in keys]
    assert outcomes == {"default": ["worse", "worse"], "own": ["same", "same"]}


def test_files_of_pytest_benchmark_have_the_documented_margins(
    bases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = bench_file(tmp_path / "new.json", {"test_a": 1.0})
    main(["compare", *bases, new, "--json"])
    (item,) = json.loads(capsys.readouterr().out)["compared"]
    assert item["margin"] == GatesSection().speed.margin
    main(["compare", *bases, new])
    assert "in brackets: 95 % intervals" in capsys.readouterr().out


def test_a_configuration_that_cannot_be_read_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = records(tmp_path, config={"gates": {"speed": {"margin": "wide"}}})
    assert main(["compare", *paths]) == 2
    assert "the configuration that run new keeps of its gates is not usable" in capsys.readouterr().err


def test_lost_answers_are_found_in_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = quality_entry(INT8, "cloze", items=200)
    bad = good.model_copy(
        update={
            "items": {
                item: [values[0], float(number % 10 > 2), *values[2:]]
                for number, (item, values) in enumerate(good.items.items())
            }
        }
    )
    paths = [
        save_record(run_record(name, quality=False).model_copy(update={"quality": [entry]}), tmp_path)
        for name, entry in (("old", good), ("new", bad))
    ]
    code, found = compare_json(capsys, [str(path) for path in paths])
    assert code == 1
    assert found[INT8, "cloze"]["outcome"] == "worse"
    code, found = compare_json(capsys, [str(paths[1]), str(paths[0])])
    assert found[INT8, "cloze"]["status"] != "FAIL"


def test_another_reference_is_another_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = run_record("old", quality=False)
    slower = f"{MODEL}-hf-fp32"
    arenas = [
        arena.model_copy(
            update={
                "reference": slower,
                "contestants": [slower, INT8],
                "blocks": [
                    block.model_copy(
                        update={
                            "rounds": [
                                turn.model_copy(update={"engine": slower}) if turn.engine.endswith("hf-bf16") else turn
                                for turn in block.rounds
                            ]
                        }
                    )
                    for block in arena.blocks
                ],
            }
        )
        for arena in old.arenas
    ]
    new = old.model_copy(update={"id": "new", "arenas": arenas, "engines": [engine_entry(slower), engine_entry(INT8)]})
    paths = [str(save_record(record, tmp_path)) for record in (old, new)]
    code = main(["compare", *paths])
    out = capsys.readouterr().out
    assert code == 0
    assert f"missing       {INT8} b8-i64-o64 over tiny-8m-hf-bf16 speedup" in out
    assert f"new           {INT8} b8-i64-o64 over tiny-8m-hf-fp32 speedup" in out


def test_other_machines_decide_nothing_about_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = records(tmp_path, speedups={INT8: 1.0})
    record = json.loads(Path(paths[-1]).read_text())
    record["fingerprint"]["key"] = "another-machine"
    Path(paths[-1]).write_text(json.dumps(record))
    code, found = compare_json(capsys, paths)
    assert code == 0
    speed = found[f"{INT8} b8-i64-o64 over tiny-8m-hf-bf16", "speedup"]
    assert speed["status"] == "INCONCLUSIVE"
    assert "different machines" in speed["explanation"]
    assert found[INT8, "engine_size"]["status"] == "INCONCLUSIVE"
    assert main(["compare", *paths, "--strict"]) == 3


def test_records_and_benchmark_files_have_nothing_in_common(bases: list[str], tmp_path: Path) -> None:
    path = save_record(run_record(), tmp_path / "runs")
    assert main(["compare", bases[0], str(path)]) == 2
