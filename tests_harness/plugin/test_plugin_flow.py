"""One complete session, everything it wrote, and a second one that is judged by it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict

import pytest
from enginegate.cli import main
from enginegate.gates.sequential import RATIO_SHIFT
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import load_record, save_record
from enginegate.storage.texts import load_texts
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

pytest_plugins = ["pytester"]


def test_complete_session_says_which_verdicts_have_no_baseline(accepted):
    assert accepted.returncode == 0, accepted.output
    statuses = [verdict.status for verdict in accepted.record.verdicts]
    assert statuses.count("NO_BASELINE") > 10
    assert f"{statuses.count('NO_BASELINE')} no baseline" in accepted.output
    assert "NO BASELINE" in accepted.output
    assert accepted.record.status == "complete"
    assert accepted.record.warnings == []
    assert accepted.output.count("toy: speed and memory") == 1
    folder = accepted.folder / "runs" / accepted.record.id
    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "texts.json", "benchmark_results.csv", "summary.md", "plot.png"}
    assert (accepted.folder / "runs" / "history.sqlite").exists()


def test_what_the_engines_wrote_lies_beside_the_record(accepted):
    folder = accepted.folder / "runs" / accepted.record.id
    texts = load_texts(folder)
    assert set(texts.metrics) == {"similarity", "summaries"}
    for metric in texts.metrics.values():
        assert "toy-fake-int8_wo" in metric.answers
        assert metric.prompts.keys() == metric.references.keys() == metric.answers["toy-fake-int8_wo"].keys()
    similarity = texts.metrics["similarity"]
    assert all(text.tokens for text in similarity.references.values()), "the reference's own answers"
    assert (
        texts.metrics["summaries"].references[next(iter(texts.metrics["summaries"].prompts))].text.startswith("It is")
    )
    row = next(entry for entry in accepted.record.quality if entry.metric == "similarity")
    for item, text in similarity.answers[row.engine].items():
        assert len(text.tokens) == row.items[item][row.columns.index("length")]
        assert (text == similarity.references[item]) == bool(row.items[item][row.columns.index("exact")])


def test_record_and_table_say_of_which_data_the_scores_are(accepted):
    named = {entry.metric: entry.data.name for entry in accepted.record.quality}
    assert named["perplexity"] == "data/passages.jsonl"
    assert set(named.values()) == {f"data/{name}.jsonl" for name in ("prompts", "articles", "passages", "questions")}
    assert "items of data/passages.jsonl (sha256 " in accepted.output


def test_progress_lines_leave_no_empty_line_in_verbose_output(accepted):
    lines = accepted.output.splitlines()
    shown = [index for index, line in enumerate(lines) if line.startswith("  .. ")]
    assert shown
    assert all(lines[index + 1].strip() for index in shown)


def test_every_verdict_is_recomputed_from_the_record_alone(accepted, tmp_path):
    again = load_record(save_record(accepted.record, tmp_path))
    assert len(again.verdicts) == len(accepted.record.verdicts) > 15
    for stored in again.verdicts:
        verdict = judge(restore_inputs(stored.inputs), again)
        assert verdict.status.value == stored.status
        assert verdict.explanation == stored.explanation
        assert math.isclose(verdict.estimate, stored.estimate, rel_tol=1e-6) or math.isnan(stored.estimate)
    assert all(entry.agrees for entry in recompute_verdicts(again))


def test_every_gate_of_the_session_shares_its_error_budget(accepted):
    speed = [verdict for verdict in accepted.record.verdicts if verdict.inputs["gate"] == "speed"]
    quality = [verdict for verdict in accepted.record.verdicts if verdict.test.startswith("tests_quality")]
    assert (len(speed), len(quality)) == (6, 8)
    # letters, which are skipped here, had a share
    assert all(math.isclose(verdict.alpha, 0.01 / 15, rel_tol=1e-6) for verdict in speed + quality)


def test_each_metric_has_the_shift_between_sessions_that_the_configuration_believes(suite, accepted):
    """What the configuration says, each metric's own."""

    def believed(record):
        speed = [verdict for verdict in record.verdicts if verdict.inputs["gate"] == "speed"]
        return {verdict.metric: verdict.inputs["policy"]["shift"] for verdict in speed}

    assert believed(accepted.record) == dict.fromkeys(("speedup", "ttft", "itl"), asdict(RATIO_SHIFT))
    config = suite.workspace.variant("shift", gates={"speed": {"shift": {"itl": 0.002}}})
    suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--precision=int8_wo", config=config)
    assert believed(suite.record())["itl"] == {**asdict(RATIO_SHIFT), "scale": 0.002}
    assert believed(suite.record())["speedup"] == asdict(RATIO_SHIFT)


def test_benchmark_file_holds_the_samples_of_the_arena_and_what_else_was_measured(accepted):
    content = accepted.benchmarks
    assert content["machine_info"]["enginegate"]["key"] == accepted.record.fingerprint.key
    assert content["machine_info"]["enginegate"]["identity"] == accepted.record.fingerprint.identity
    (arena,) = [arena for arena in accepted.record.arenas if arena.batch_size == 2]
    rounds = [entry for block in arena.blocks for entry in block.rounds if entry.engine == "toy-fake-int8_wo"]
    (speedup,) = [b for b in content["benchmarks"] if b["name"] == "test_speedup[toy-fake-int8_wo-b2]"]
    samples = speedup["stats"]["data"]
    assert len(samples) == len(rounds) >= 6
    assert all(math.isclose(a, b.seconds, rel_tol=1e-5) for a, b in zip(samples, rounds, strict=True))
    assert speedup["params"] == {"candidate": "toy-fake-int8_wo", "batch_size": 2}
    extra = speedup["extra_info"]
    assert {"ttft", "itl_p50", "itl_p95", "itl_p99", "tokens_per_second", "latency"} <= extra.keys()
    (memory,) = [
        entry
        for entry in accepted.record.memory
        if (entry.engine, entry.workload) == ("toy-fake-int8_wo", arena.workload)
    ]
    assert extra["memory"]["peak"] == memory.peak
    assert "UNSERIALIZABLE" not in str(content)


def test_junit_xml_carries_verdict_estimate_interval_and_explanation(accepted):
    cases = ElementTree.parse(accepted.folder / "junit.xml").getroot().iter("testcase")
    found = {case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")} for case in cases}
    properties = found["test_speedup[toy-fake-int8_wo-b1]"]
    assert properties["enginegate_verdict"] == "PASS"
    assert float(properties["speedup"]) > 1.5
    assert properties["speedup_interval"].startswith("[")
    assert "above the floor of 1.50x" in properties["speedup_explanation"]


def test_second_session_passes_against_the_accepted_one(suite, accepted, monkeypatch):
    suite.take_baselines(accepted)
    monkeypatch.setenv("ENGINEGATE_FAKE_SEED", "1")
    result = suite.run(
        "--precision=int8_wo", "--require-baseline", "--benchmark-autosave", "tests_perf", "tests_quality"
    )
    statuses = {verdict.test.rpartition("::")[2]: verdict for verdict in suite.record().verdicts}
    assert not any(test.startswith("test_letters") for test in statuses), "a metric at chance cannot see a loss"
    summaries = statuses.pop("test_summary_rouge[toy-fake-int8_wo]")
    assert summaries.status == "INCONCLUSIVE", "one that was at 0 before cannot, either"
    assert "the baseline itself scores 0.000" in summaries.explanation
    assert {verdict.status for verdict in statuses.values()} == {"PASS"}, suite.record().verdicts
    assert "baseline" in statuses["test_speedup[toy-fake-int8_wo-b1]"].explanation
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 inconclusive*"])
    assert list((suite.folder / ".benchmarks").rglob("*.json"))
    assert suite.record().status == "complete"
    # its reference's scores came from the cache, and it can be accepted all the same
    assert main(["accept", str(suite.folder / "runs" / suite.record().id), "--baselines=baselines"]) == 0


def test_benchmark_disable_leaves_the_gates_as_they_are(suite):
    result = suite.run("tests_perf/test_speedup.py", "-k", "b1 and int8_wo", "--benchmark-disable")
    result.assert_outcomes(passed=1, deselected=3)
    assert [verdict.status for verdict in suite.record().verdicts] == ["PASS"]


def last_line(result):
    """What stands last before pytest's own closing line."""
    lines = [line for line in result.outlines if line.strip()]
    return lines[-2]


def test_the_last_line_tells_the_next_step(suite, accepted):
    """Floors see large changes alone."""
    result = suite.run("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1")
    run = f"runs/{suite.record().id}"
    assert last_line(result).startswith(f"next: `enginegate accept {run}`, then `pytest --against accepted`: ")
    suite.take_baselines(accepted)
    result = suite.run("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1")
    assert last_line(result).startswith("next: `pytest --against accepted`: ")


@pytest.mark.parametrize(
    ("arguments", "ci"),
    [
        (("tests_perf/test_speedup.py", "--no-require-baseline"), "true"),
        (("tests_perf/test_speedup.py", "--against=git:no-such-ref"), ""),
        (("tests_quality/test_perplexity.py",), ""),
    ],
)
def test_where_there_is_no_next_step_none_is_told(suite, monkeypatch, arguments, ci):
    monkeypatch.setenv("CI", ci)
    result = suite.run(*arguments, "--precision=int8_wo", "--batch-size=1")
    assert "next: " not in result.stdout.str()


def test_what_accept_would_refuse_is_not_proposed(suite):
    config = suite.workspace.variant("high", floors={"fake": {"int8_wo": {"speedup": {"b1": 9.0}}}})
    result = suite.run("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1", config=config)
    assert [verdict.status for verdict in suite.record().verdicts] == ["FAIL"]
    assert "next: " not in result.stdout.str()


@pytest.mark.parametrize(("floor", "status"), [(9.0, "FAIL"), (1.0, "PASS")])
def test_with_an_accepted_engine_the_next_step_is_a_race(suite, accepted, floor, status):
    suite.take_baselines(accepted)
    model = {"name": "other", "source": "path:checkpoint"}
    config = suite.workspace.variant("other", model=model, floors={"fake": {"int8_wo": {"speedup": {"b1": floor}}}})
    result = suite.run("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1", config=config)
    assert [verdict.status for verdict in suite.record().verdicts] == [status]
    purpose = "confirms it on the accepted engine, live" if status == "FAIL" else "sees small changes, too"
    assert f"next: `pytest --against accepted`: a race that {purpose}" in " ".join(result.stdout.str().split())
