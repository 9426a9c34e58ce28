"""Every hole fails closed: the test itself does not pass, and its report says why and what to do."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree

import enginegate.plugin.gate
import pytest
from enginegate.measure.arena import Arena
from enginegate.report.markdown import markdown_summary
from enginegate.session.gate_session import GateSession
from enginegate.storage.summary import measurements

pytest_plugins = ["pytester"]

SPEED = ("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1")
CLOZE = ("tests_quality/test_multiple_choice.py", "--precision=int8_wo", "-k", "cloze and not flips")


def assert_refused(result, *texts):
    """One test, which did not pass, and whose report holds the texts."""
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1, outcomes
    assert "passed" not in outcomes
    assert "1 no baseline" not in result.outlines[-1]
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    output = result.stdout.str()
    for text in texts:
        assert text in output


def edit(folder, pattern, change):
    """Change the one baseline file that matches."""
    (path,) = folder.glob(pattern)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_missing_baseline_fails_where_one_is_required_and_tells_how_to_record_it(suite, monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = suite.run(*SPEED)
    command = f"enginegate accept runs/{suite.record().id}"
    assert_refused(result, "NO_BASELINE: int8_wo b1:", command, "--no-require-baseline")
    assert "floor" not in result.stdout.str()
    (summary,) = [line for line in result.outlines if line.startswith("FAILED tests_perf")]
    assert "NO_BASELINE: int8_wo b1:" in summary
    suite.run(*SPEED, "--no-require-baseline").assert_outcomes(passed=1)
    monkeypatch.setenv("CI", "false")
    suite.run(*SPEED).assert_outcomes(passed=1)


def test_a_session_that_is_too_short_is_asked_for_its_baseline_all_the_same(suite):
    """It was INCONCLUSIVE, with exit code 0: a slow engine stayed green for as long as its sessions were short."""
    result = suite.run(*SPEED, "--require-baseline", "--time-budget=0.02")
    assert_refused(result, "NO_BASELINE: int8_wo b1:", "only 1 blocks", "enginegate accept runs/")
    (verdict,) = suite.record().verdicts
    assert (verdict.status, verdict.accepted) == ("NO_BASELINE", False)


def test_a_baseline_of_memory_alone_judges_memory_and_size_and_leaves_speed_to_floors(suite, accepted):
    """What is left of a baseline whose sessions keep no times of the reference, and so cannot decide."""

    def without_sessions(content):
        content["reference"] = ""
        for engine in content["engines"].values():
            engine["sessions"] = []

    suite.take_baselines(accepted)
    edit(suite.folder, "baselines/perf/*/toy/b1-*.json", without_sessions)
    tests = ("tests_perf/test_memory.py", "tests_perf/test_build.py::test_engine_size")
    result = suite.run(*SPEED, *tests)
    assert result.ret == 0
    found = {entry.metric: entry for entry in suite.record().verdicts}
    (memory,) = accepted.record.memory[:1]
    size = next(entry.size_bytes for entry in accepted.record.engines if entry.id == memory.engine)
    assert found["peak_memory"].inputs["baseline"] == memory.peak
    assert found["engine_size"].inputs["baseline"] == size
    assert found["speedup"].inputs["against"] == {"kind": "floor", "ratio": 1.5}
    assert {entry.status for entry in found.values()} == {"PASS"}
    assert found["speedup"].inputs["notes"] == []


def test_perf_baseline_of_another_machine_is_none(suite, accepted):
    suite.take_baselines(accepted)
    (own,) = (suite.folder / "baselines" / "perf").iterdir()
    own.rename(own.with_name("another-machine-4c-00000000"))
    assert_refused(suite.run(*SPEED, "--require-baseline"), "there is no baseline to compare with")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("schema_version", 99, "has schema version 99"),
        ("model_digest", "0" * 64, "is of model digest 000"),
        ("fingerprint", "another-machine", "is of fingerprint another-machine"),
        ("reference", "toy-fake-bf16", "is of reference toy-fake-bf16, this run's is toy-fake-fp32"),
    ],
)
def test_unfit_perf_baseline_is_refused(suite, accepted, field, value, text):
    suite.take_baselines(accepted)
    edit(suite.folder, "baselines/perf/*/toy/b1-*.json", lambda content: content.update({field: value}))
    assert_refused(suite.run(*SPEED), text, "hint:")


def test_unfit_quality_baseline_is_refused(suite, accepted):
    suite.take_baselines(accepted)

    def other_version(content):
        content["metrics"]["cloze"]["version"] = "cloze/0;items=none"

    edit(suite.folder, "baselines/quality/toy/fake-int8_wo.json", other_version)
    assert_refused(suite.run(*CLOZE), "cloze of version cloze/0", "record a new one")


def test_quality_baseline_without_a_column_that_is_judged_is_refused(suite, accepted):
    suite.take_baselines(accepted)

    def renamed(content):
        columns = content["metrics"]["cloze"]["columns"]
        columns[columns.index("acc_norm")] = "accuracy_of_old"

    edit(suite.folder, "baselines/quality/toy/fake-int8_wo.json", renamed)
    assert_refused(suite.run(*CLOZE), "keeps no acc_norm of cloze", "record a new one")


def test_corrupt_baseline_is_refused_before_anything_is_timed(suite, accepted):
    suite.take_baselines(accepted)
    (path,) = suite.folder.glob("baselines/perf/*/toy/b1-*.json")
    path.write_text(path.read_text(encoding="utf-8")[:-100], encoding="utf-8")
    result = suite.run(*SPEED)
    assert_refused(result, "is not valid JSON", "restore it from version control")
    assert not any("block 1" in line for line in suite.told)


def test_run_is_never_its_own_baseline(suite, accepted, monkeypatch):
    suite.take_baselines(accepted)
    monkeypatch.setattr(GateSession, "record_id", lambda *_: accepted.record.id)
    assert_refused(suite.run(*SPEED), f"run {accepted.record.id} is part of the baseline")


@pytest.mark.parametrize(
    ("sabotage", "text"),
    [
        ("OneTokenLess", "produced 7 tokens where 8 were asked"),
        ("Timed", "token times of sequence 0 are missing or not finite"),
        ("ZeroTimed", "token times of sequence 0 decrease or lie outside the round"),
        ("NegativeTimed", "token times of sequence 0 decrease or lie outside the round"),
    ],
)
def test_samples_that_cannot_be_are_refused(suite, sabotage, text):
    suite.prepare(sabotage)
    result = suite.run(*SPEED)
    assert_refused(result, f"toy-fake-int8_wo, b1-i16-o8: {'the engine ' * (sabotage == 'OneTokenLess')}{text}")
    assert "Traceback" not in result.stdout.str()
    record = suite.record()
    assert record.status == "partial", "a test without a verdict must not look like one that passed"
    assert any("test_speedup" in line and "ended without a verdict" in line for line in record.warnings)


TIMED = ("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--batch-size=1")


def test_engine_that_fails_in_the_race_costs_its_own_tests_once(suite):
    """It took the whole arena down, and each of the six timed tests raced again."""
    suite.prepare("Leaving")
    result = suite.run(*TIMED)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*3 errors, 3 no baseline*"])
    output = result.stdout.str()
    assert suite.told.count("timing b1-i16-o8") == 1
    reason = "toy-fake-int8_wo, b1-i16-o8: the engine failed in its round: RuntimeError: CUDA error: out of luck"
    errors = output.partition("short test summary")[0].partition("= ERRORS =")[2]
    assert errors.count(f"{reason}\n  hint:") == 3
    assert output.count("ERROR at setup of test_") == output.count("[toy-fake-int8_wo-b1] _") == 3
    record = suite.record()
    (arena,) = record.arenas
    assert arena.failures == {"toy-fake-int8_wo": reason}
    assert arena.contestants == ["toy-fake-fp32", "toy-fake-int4_wo"]
    assert {verdict.engine for verdict in record.verdicts} == {"toy-fake-int4_wo"}
    assert len(record.verdicts) == 3
    assert all(verdict.samples >= 6 for verdict in record.verdicts), "blocks without the one that left count"
    assert record.status == "partial"
    assert all(row.engine != "toy-fake-int8_wo" for row in measurements(record) if row.workload)
    assert f"b1-i16-o8: toy-fake-int8_wo left the race: {reason}" in markdown_summary(record)


def test_engine_that_falls_over_after_its_race_costs_its_own_tests_once(suite):
    """The others' blocks were lost, and every timed test raced again."""
    suite.prepare("Mute")
    result = suite.run(*TIMED)
    result.stdout.fnmatch_lines(["*3 errors, 3 no baseline*"])
    assert suite.told.count("timing b1-i16-o8") == 1
    record = suite.record()
    assert list(record.arenas[0].failures) == ["toy-fake-int8_wo"]
    assert {verdict.engine for verdict in record.verdicts} == {"toy-fake-int4_wo"}


def test_baseline_of_one_engine_that_cannot_be_used_costs_its_own_tests_once(suite, accepted):
    """It ended the race of all engines of its arena, at each of their tests."""
    suite.take_baselines(accepted)
    (file,) = (suite.folder / "baselines" / "perf").rglob("b1-*.json")
    content = json.loads(file.read_text())
    session = content["engines"]["toy-fake-int8_wo"]["sessions"][0]
    session["log_ratios"] = {metric: ratios[:3] for metric, ratios in session["log_ratios"].items()}
    session["orders"] = session["orders"][:3]
    file.write_text(json.dumps(content))
    result = suite.run(*TIMED)
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] + outcomes["errors"] == 3
    assert suite.told.count("timing b1-i16-o8") == 1
    record = suite.record()
    assert {verdict.engine for verdict in record.verdicts} == {"toy-fake-int4_wo"}
    assert any("session 1 of the baseline has 3 blocks" in line for line in record.warnings)


def test_engine_whose_library_falls_over_while_loading_costs_its_own_tests_and_is_loaded_once(suite):
    """The library's own exception ended the race of the others, at each of their tests."""
    suite.prepare("NotLoading")
    result = suite.run(*TIMED)
    result.stdout.fnmatch_lines(["*3 errors, 3 no baseline*"])
    output = result.stdout.str()
    assert suite.told.count("loading toy-fake-int8_wo") == 1
    assert suite.told.count("timing b1-i16-o8") == 1
    errors = output.partition("short test summary")[0].partition("= ERRORS =")[2]
    assert errors.count("toy-fake-int8_wo could not be built or loaded: RuntimeError: libfake.so") >= 3
    assert {verdict.engine for verdict in suite.record().verdicts} == {"toy-fake-int4_wo"}


def test_reference_that_fails_in_the_race_ends_it_once_for_all(suite):
    suite.prepare("Leaving", precision="fp32")
    result = suite.run(*TIMED)
    result.assert_outcomes(errors=6)
    output = result.stdout.str()
    assert suite.told.count("timing b1-i16-o8") == 1
    assert output.count("the reference left the race: toy-fake-fp32, b1-i16-o8: the engine failed in its round") >= 6
    record = suite.record()
    assert record.verdicts == []
    assert record.arenas[0].stopped == "the reference toy-fake-fp32 failed"
    assert record.arenas[0].contestants == []


def test_answers_of_one_token_have_no_latency_between_tokens_and_all_else(suite):
    """Their ITL, which is no number, took every timed test down, each after a race of its own."""
    config = suite.workspace.variant("single", workload={"batch_sizes": [1], "input_len": 16, "output_len": 1})
    result = suite.run(*TIMED, "-rs", config=config)
    outcomes = result.parseoutcomes()
    assert outcomes["skipped"] == 2
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 0
    output = result.stdout.str()
    assert "a single token has no inter-token latency" in output
    assert suite.told.count("timing b1-i16-o1") == 1
    record = suite.record()
    assert sorted(verdict.metric for verdict in record.verdicts) == ["speedup", "speedup", "ttft", "ttft"]
    figures = {name for block in record.arenas[0].blocks for entry in block.rounds for name in entry.figures}
    assert figures == {"ttft", "last_token"}
    arenas = [arena.model_dump(mode="json") for arena in record.arenas]
    assert json.dumps(arenas, allow_nan=False), "NaN is no JSON"


def test_tokens_that_come_all_at_once_cost_the_itl_test_alone(suite):
    suite.prepare("AtOnce")
    result = suite.run(*TIMED)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1, outcomes
    assert "toy-fake-int8_wo has no itl: no two of its tokens came one after the other" in result.stdout.str()
    assert suite.told.count("timing b1-i16-o8") == 1
    judged = {(verdict.engine, verdict.metric) for verdict in suite.record().verdicts}
    assert ("toy-fake-int4_wo", "itl") in judged
    assert ("toy-fake-int8_wo", "itl") not in judged
    assert len(judged) == 5


def test_gate_without_samples_is_refused(suite, monkeypatch):
    monkeypatch.setattr(Arena, "run", lambda *_: None)
    assert_refused(suite.run(*SPEED), "collected no blocks")


def test_quality_gate_without_items_is_refused(suite):
    (suite.workspace.folder / "data" / "empty.jsonl").write_text("", encoding="utf-8")
    quality = {"reference": {"backend": "fake", "precision": "fp32"}, "questions": "data/empty.jsonl"}
    result = suite.run(*CLOZE, config=suite.workspace.variant("empty", quality=quality))
    assert_refused(result, "empty.jsonl")


def test_empty_prompt_file_is_refused_before_anything_loads(suite):
    (suite.workspace.folder / "data" / "empty.jsonl").write_text("", encoding="utf-8")
    quality = {"reference": {"backend": "fake", "precision": "fp32"}, "prompts": "data/empty.jsonl"}
    result = suite.run(*SPEED, config=suite.workspace.variant("empty", quality=quality))
    assert_refused(result, "empty.jsonl")
    assert not any(line.startswith("loading") for line in suite.told)


def test_crash_between_measuring_and_judging_fails_the_test_and_keeps_the_samples(suite, monkeypatch):
    def fall_over(*_):
        raise RuntimeError("the gate fell over")

    monkeypatch.setattr(enginegate.plugin.gate, "judge", fall_over)
    assert_refused(suite.run(*SPEED), "RuntimeError: the gate fell over")
    record = suite.record()
    assert record.status == "partial"
    assert len(record.arenas[0].blocks) >= 6
    assert record.verdicts == []


def test_engine_of_another_precision_is_refused_by_what_it_says_of_itself(suite):
    suite.prepare("Disguised")
    assert_refused(suite.run(*SPEED), "toy-fake-int8_wo is not the engine", "weights are int4_wo, asked was int8_wo")


def test_engine_that_was_refused_stays_refused_and_stops_no_other(suite):
    suite.prepare("Disguised")
    result = suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--batch-size=1")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 3, "speed-up, TTFT and ITL of int8_wo"
    assert result.stdout.str().count("toy-fake-int8_wo is not the engine") >= 3
    record = suite.record()
    assert {verdict.engine for verdict in record.verdicts} == {"toy-fake-int4_wo"}
    assert len(record.verdicts) == 3
    assert "toy-fake-int8_wo" not in record.arenas[0].contestants


def test_engine_of_another_precision_that_lies_about_it_fails_quality(suite, accepted):
    suite.take_baselines(accepted)
    suite.prepare("Swapped")
    result = suite.run("tests_quality", "--precision=int8_wo", "-k", "perplexity or bleu or divergence")
    result.assert_outcomes(failed=3, deselected=7)
    lines = ["*FAIL: int8_wo divergence:*", "*FAIL: int8_wo perplexity:*", "*FAIL: int8_wo bleu:*"]
    result.stdout.fnmatch_lines(lines)


def test_doubled_kv_budget_fails_memory(suite, accepted, monkeypatch):
    suite.take_baselines(accepted)
    only = ("tests_perf/test_memory.py", "--precision=int8_wo", "--batch-size=1", "-k", "kv_budget")
    monkeypatch.setenv("ENGINEGATE_FAKE_KV_FACTOR", "2")
    assert_refused(suite.run(*only), "FAIL: int8_wo b1 kv budget: 2.0 MiB")
    monkeypatch.delenv("ENGINEGATE_FAKE_KV_FACTOR")
    engines = {"fake": {"precisions": ["int8_wo"], "runtime": {"kv_cache_bytes": 2 << 20}}}
    asked = suite.workspace.variant("doubled", engines=engines)
    assert_refused(suite.run(*only, config=asked), "taken with other runtime settings than this run's")


def test_slowdown_fails_with_the_explanation_in_every_report(suite, accepted):
    suite.take_baselines(accepted)
    suite.prepare("Slowed")
    result = suite.run(*SPEED, "--junitxml=junit.xml")
    assert_refused(result, "FAIL: int8_wo b1:", "baseline 3.00x: slower by", "more than the 3 % margin")
    output = result.stdout.str()
    assert "where" not in output.partition("short test summary")[0].partition("FAILURES")[2].partition("junit")[0]
    (case,) = ElementTree.parse(suite.folder / "junit.xml").getroot().iter("testcase")
    properties = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
    assert properties["enginegate_verdict"] == "FAIL"
    assert float(properties["speedup"]) == pytest.approx(3.0 / 1.12, rel=0.02)
    assert "slower by" in properties["speedup_explanation"]
    assert properties["speedup_interval"].startswith("[2.")
    (failure,) = case.iter("failure")
    assert "FAIL: int8_wo b1:" in failure.get("message")
    record = suite.record()
    assert record.status == "complete"
    assert [verdict.status for verdict in record.verdicts] == ["FAIL"]


def test_inconclusive_is_an_outcome_of_its_own_and_fails_under_strict_gates(suite, accepted):
    suite.take_baselines(accepted)
    summaries = ("tests_quality/test_summaries.py", "--precision=int8_wo")
    result = suite.run(*summaries, "-v")
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*", "*1 inconclusive*"])
    assert "passed" not in result.parseoutcomes()
    assert result.ret == pytest.ExitCode.OK
    assert_refused(suite.run(*summaries, "--strict-gates"), "INCONCLUSIVE: int8_wo ")


def test_random_weights_are_refused_for_quality_with_the_reason(suite):
    config = suite.workspace.variant("random", model={"name": "toy", "source": "random:tiny"})
    result = suite.run(*CLOZE, config=config)
    assert_refused(result, "quality cannot be measured on random:tiny: its weights are random", "run tests_perf alone")


def test_reference_itself_is_not_judged(suite):
    result = suite.run("tests_perf/test_speedup.py", "--precision=fp32", "--batch-size=1", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*toy-fake-fp32 is the reference itself*"])


def test_missing_checkpoint_is_an_error_that_names_it(suite):
    config = suite.workspace.variant("missing", model={"name": "toy", "source": "path:nowhere"})
    result = suite.run(*SPEED, config=config)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nowhere" in result.stderr.str()
    assert not (suite.folder / "runs").exists()


def test_source_that_names_nothing_is_found_before_any_test(suite):
    config = suite.workspace.variant("misspelt", model={"name": "toy", "source": "random:tiny?sed=0"})
    result = suite.run(*SPEED, config=config)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*model.source: random:tiny?sed=0 cannot be read*"])


def test_records_that_cannot_be_written_are_told_and_the_exit_code_says_so(suite):
    shutil.copy(suite.workspace.config, suite.folder / "blocked")
    result = suite.run(*SPEED, "--runs=blocked/runs")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["warning: run record blocked/runs/*cannot be written*"])
    assert result.ret != pytest.ExitCode.OK


@pytest.mark.parametrize(("sabotage", "short"), [("Silent", True), ("Stuck", False)])
def test_an_engine_that_says_nothing_or_one_thing_fails_by_its_texts_though_accuracy_stays(
    suite, accepted, sabotage, short
):
    suite.take_baselines(accepted)
    suite.prepare(sabotage)
    result = suite.run(
        "tests_quality/test_multiple_choice.py", "tests_quality/test_similarity.py", "--precision=int8_wo"
    )
    statuses = {verdict.metric: verdict.status for verdict in suite.record().verdicts}
    assert (statuses["cloze_accuracy"], statuses["cloze_flips"]) == ("PASS", "PASS")
    assert (statuses["bleu"], statuses["similarity_rougeL"]) == ("FAIL", "FAIL")
    assert (statuses["output_length"] == "FAIL") == short
    assert result.parseoutcomes()["failed"] == 2 + short
