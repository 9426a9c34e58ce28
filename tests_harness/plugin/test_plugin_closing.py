"""What stands on the terminal when a session has ended."""

from __future__ import annotations

pytest_plugins = ["pytester"]

SPEED = ("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1")
TABLE = "Name (time in"


def flat(result) -> str:
    return " ".join(result.stdout.str().split())


def test_it_ends_in_one_screen_of_80_columns(suite, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = suite.run(*SPEED)
    lines = result.outlines
    heading = next(index for index, line in enumerate(lines) if line.startswith("engine, batch "))
    assert lines[heading + 1].startswith("fake int8_wo b1 ")
    assert "95 %" in lines[heading]
    assert max(len(line) for line in lines[heading : heading + 4]) <= 80
    run = f"runs/{suite.record().id}"
    assert f"complete run {suite.record().id}: {run}/summary.md" in lines
    assert f"all verdicts and tables: -v, or `enginegate report {run}`" in lines
    assert "Latency" not in result.stdout.str()


def test_with_v_it_shows_all(suite):
    output = suite.run(*SPEED, "-v").stdout.str()
    for shown in ("Latency", "PASS int8_wo b1: ", TABLE):
        assert shown in output
    assert "all verdicts and tables" not in output


def test_benchmark_tables_of_ours_come_when_asked_for_and_those_of_others_always(suite):
    other = suite.folder / "test_other.py"
    other.write_text("def test_other(benchmark):\n    benchmark(lambda: None)\n", encoding="utf-8")
    assert TABLE not in suite.run(*SPEED).stdout.str()
    assert "test_speedup[" in suite.run(*SPEED, "--benchmark-columns=min").stdout.str().partition(TABLE)[2]
    both = suite.run(*SPEED, "test_other.py").stdout.str().partition(TABLE)[2]
    assert "test_other" in both
    assert "test_speedup[" not in both


def test_files_of_pytest_benchmark_hold_the_samples_all_the_same(suite):
    suite.run(*SPEED, "--benchmark-json=all.json")
    assert "test_speedup" in (suite.folder / "all.json").read_text(encoding="utf-8")


def test_a_fail_shows_its_sentence_and_no_traceback_unless_asked(suite):
    config = suite.workspace.variant("high", floors={"fake": {"int8_wo": {"speedup": {"b1": 9.0}}}})
    output = suite.run(*SPEED, config=config).stdout.str()
    assert "FAIL: int8_wo b1: " in output
    assert "assert gate.speed" not in output
    assert "assert gate.speed" in suite.run(*SPEED, "--tb=long", config=config).stdout.str()


LETTERS = ("tests_quality/test_multiple_choice.py", "-k", "letters or cloze")


def test_letters_of_a_model_that_guesses_are_skipped_with_one_reason(suite):
    result = suite.run(*LETTERS)
    skipped = result.parseoutcomes()["skipped"]
    assert skipped > 1
    assert f"skipped {skipped}: letters: the reference scores " in flat(result)
    assert {verdict.metric for verdict in suite.record().verdicts} == {"cloze_accuracy", "cloze_flips"}
    asked = {entry.engine for entry in suite.record().quality if entry.metric == "letters"}
    assert asked == {"toy-fake-fp32"}, "the quality reference alone"


def test_strict_gates_ask_them_all_the_same(suite):
    result = suite.run(*LETTERS, "--precision=int8_wo", "--strict-gates")
    assert "skipped" not in result.parseoutcomes()
    assert "letters_accuracy" in {verdict.metric for verdict in suite.record().verdicts}
