"""Sessions that measure techniques of serving, against the pretended backend; one sabotage a technique."""

from __future__ import annotations

import pytest
from enginegate.core.technique_records import TechniqueEntry
from enginegate.measure.techniques import TECHNIQUES
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

pytest_plugins = ["pytester"]

FILES = [
    "tests_perf/test_speculation.py",
    "tests_perf/test_prefix_cache.py",
    "tests_perf/test_scheduling.py",
    "tests_perf/test_chunked_prefill.py",
]


def test_techniques_are_left_out_until_they_are_asked_for(suite):
    def collected(*args):
        lines = suite.run("--collect-only", "-q", "--precision=int8_wo", *args).outlines
        return sum(any(file in line for file in FILES) for line in lines)

    assert collected("tests_perf") == 0
    assert collected("tests_perf", "--techniques") == 11
    assert collected("tests_perf", "-m", "techniques") == 11
    assert collected(FILES[0]) == 4


def test_a_session_measures_judges_and_reports(suite):
    result = suite.run("tests_perf", "-m", "techniques", "--precision=int8_wo")
    result.assert_outcomes(passed=11)
    record = suite.record()
    assert {verdict.status for verdict in record.verdicts} == {"PASS"}
    assert [judge(restore_inputs(each.inputs), record).status.value for each in record.verdicts] == ["PASS"] * 11
    entries = {entry.technique: entry for entry in record.techniques}
    assert set(entries) == set(TECHNIQUES)
    assert all(len(entry.on) == len(entry.off) == 5 for entry in entries.values())
    assert [engine.id for engine in record.engines] == ["toy-fake-int8_wo"], "what was borrowed is no engine of it"
    speculation = entries["ngram"]
    assert not any(answer.differs for answer in speculation.answers)
    assert all(run["tokens_per_step"] == pytest.approx(3, abs=0.25) for run in speculation.on)
    assert all(0.5 < run["acceptance"] < 0.7 for run in speculation.on), "it guesses 3, and a step gives 3 with its own"
    assert all(run["tokens_per_step"] == 1 for run in speculation.off)
    assert all(run["hit_rate_by_time"] > 0.7 for run in entries["prefix_cache"].on)
    assert all(run["longest_wait"] > 0 for run in entries["sjf"].on)
    assert max(run["overtaken"] for run in entries["inflight"].on) == 0
    assert min(run["overtaken"] for run in entries["sjf"].on) > 0, "shortest job first lets others pass, and says so"
    text = result.stdout.str()
    assert "chunked prefill" in text
    assert "longest itl" in text
    summary = (suite.folder / "runs" / record.id / "summary.md").read_text(encoding="utf-8")
    assert "## Techniques of serving" in summary
    assert "0 of 15 answers differ" in summary


@pytest.mark.parametrize(
    ("sabotage", "test", "said"),
    [
        ("CarelessDraft", "test_speculation.py", "tokens changed, more than"),
        ("PrefixCacheLeftOn", "test_prefix_cache.py::test_off_while_timed", "below the 0.8 that are asked for"),
        ("Starving", "test_scheduling.py::test_first_come_first_served", "later requests had their first token before"),
        ("Unchunked", "test_chunked_prefill.py::test_interference", "below the 1.5 that are asked for"),
    ],
)
def test_a_technique_that_is_not_what_it_says_fails(suite, sabotage, test, said):
    gates = {"techniques": {"floors": {"chunked_prefill": 1.5}}}
    suite.prepare(sabotage)
    chosen = ["-k", "test_tokens and ngram"] if sabotage == "CarelessDraft" else []
    suite.run(
        f"tests_perf/{test}", "--precision=int8_wo", *chosen, config=suite.workspace.variant("floored", gates=gates)
    )
    (verdict,) = suite.record().verdicts
    assert verdict.status == "FAIL"
    assert said in verdict.explanation


def test_a_backend_that_answers_whole_batches_only_is_skipped_with_the_reason(suite):
    suite.prepare("NotServing")
    result = suite.run("tests_perf/test_prefix_cache.py", "--precision=int8_wo", "-rs")
    result.assert_outcomes(skipped=2)
    assert "has no submit" in result.stdout.str().replace("\n", " ")


#: Timed work that fits an engine for prompts of 8 tokens.
SHORT = {"batch_sizes": [1], "input_len": 8, "output_len": 8}


def test_engines_for_a_few_tokens_are_skipped_with_the_reason(suite):
    config = suite.workspace.variant("short", limits={"max_input_len": 8, "max_output_len": 32}, workload=SHORT)
    result = suite.run("tests_perf/test_chunked_prefill.py", "--precision=int8_wo", "-rs", config=config)
    result.assert_outcomes(skipped=1)
    assert "too few to see what chunked prefill does" in result.stdout.str().replace("\n", " ")


def test_runs_that_are_no_pairs_are_a_damaged_record():
    runs = {"on": [{"ttft": 1.0}] * 2, "off": [{"ttft": 1.0}]}
    with pytest.raises(ValueError, match="2 runs with prefix_off and 1 without it are no pairs"):
        TechniqueEntry(technique="prefix_off", engine="m", load="", with_="", without="", **runs)
