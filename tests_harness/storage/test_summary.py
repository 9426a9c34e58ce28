from __future__ import annotations

import math
from statistics import median

import pytest
from enginegate.core.errors import BaselineError, EngineGateError
from enginegate.core.records import AttemptEntry, RunRecord
from enginegate.gates.verdict import CONFIDENCE
from enginegate.report.markdown import markdown_summary, tally
from enginegate.session.recording import merge_records
from enginegate.storage.accept import check_acceptable
from enginegate.storage.runs import load_record, save_record
from enginegate.storage.summary import measurements, median_interval, paired_log_ratios, reruns, worst
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tests_harness.storage.factory import arena_entry, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_interval_of_the_median_covers_as_often_as_it_says(values: list[float]) -> None:
    interval = median_interval(values)
    count = len(values)
    if interval is None:
        assert 2 * 0.5**count > 0.05
        return
    low, high = interval
    assert low <= median(values) <= high
    rank = sorted(values).index(low) + 1
    assert 1 - 2 * binom.cdf(rank - 1, count, 0.5) >= CONFIDENCE or values.count(low) > 1


def test_the_interval_is_the_narrowest_that_covers_as_often_as_every_interval_that_is_shown() -> None:
    """It was one of 99 %, beside the verdicts' of 95 %."""
    for count in range(6, 60):
        values = list(range(count))
        low, _ = median_interval(values) or (0, 0)
        assert 1 - 2 * binom.cdf(low, count, 0.5) >= CONFIDENCE > 1 - 2 * binom.cdf(low + 1, count, 0.5)


def test_figures_follow_the_law_of_the_factory() -> None:
    found = {(item.engine, item.workload, item.metric): item for item in measurements(run_record(verdicts=[]))}
    speedup = found[INT8, "b8-i64-o64", "speedup"]
    assert speedup.value == pytest.approx(2.5, rel=0.02)
    assert speedup.low is not None
    assert speedup.low < speedup.value < (speedup.high or 0)
    assert found[INT8, "b8-i64-o64", "throughput"].value == pytest.approx(8 * 64 * 2.5, rel=0.02)
    assert found[INT8, "b1-i64-o64", "ttft_seconds"].value == pytest.approx(0.05 / 2.5, rel=0.02)
    assert found[INT8, "", "cloze.accuracy_norm"].value == 0.87
    assert (INT8, "", "cloze.accuracy_norm/capitals") not in found
    assert (INT8, "", "cloze.stderr") not in found


def test_disturbed_rounds_do_not_count_while_there_are_others() -> None:
    arena = arena_entry()
    slow = arena.blocks[0].rounds[0].model_copy(update={"seconds": 1000.0, "disturbed": True})
    blocks = [arena.blocks[0].model_copy(update={"rounds": [slow]})] * 20 + arena.blocks[1:]
    record = run_record(arenas=[arena.model_copy(update={"blocks": blocks, "contestants": [slow.engine]})], verdicts=[])
    latency = next(item for item in measurements(record) if item.metric == "latency")
    assert latency.value == pytest.approx(1.0, rel=0.05)


def test_one_token_has_no_gap_to_a_next_one() -> None:
    arena = arena_entry(output_len=1)
    assert set(paired_log_ratios(arena, INT8)) == {"speedup", "ttft"}
    record = run_record(arenas=[arena], memory=[], verdicts=[])
    assert not any(item.metric.startswith("itl") for item in measurements(record))


def test_a_verdict_lends_its_interval_and_status_to_its_figure() -> None:
    verdicts = [
        verdict_entry(INT8, "b1-i64-o64", "FAIL"),
        verdict_entry(INT8, "b1-i64-o64", "PASS", metric="peak_memory", interval=(math.nan, math.nan), unit="bytes"),
        verdict_entry(INT8, None, "INCONCLUSIVE", metric="flips", unit="share", estimate=0.02, interval=(0.01, 0.03)),
    ]
    found = {(i.engine, i.workload, i.metric): i for i in measurements(run_record(verdicts=verdicts))}
    speedup = found[INT8, "b1-i64-o64", "speedup"]
    assert (speedup.value, speedup.low, speedup.high, speedup.verdict) == (2.31, 2.27, 2.36, "FAIL")
    memory = found[INT8, "b1-i64-o64", "peak_memory"]
    assert (memory.value, memory.low, memory.verdict) == (600 * 2**20, None, "PASS")
    assert found[INT8, "", "flips"].verdict == "INCONCLUSIVE"
    assert found[INT8, "b8-i64-o64", "speedup"].verdict == ""


def test_the_worst_status_wins() -> None:
    assert worst(["PASS", "NO_BASELINE"]) == "NO_BASELINE"
    assert worst(["INCONCLUSIVE", "FAIL", "PASS"]) == "FAIL"
    assert worst([]) == ""


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    arena = arena_entry()
    rounds = [turn.model_copy(update={"seconds": seconds}) for turn in arena.blocks[0].rounds]
    broken = arena.model_copy(update={"blocks": [arena.blocks[0].model_copy(update={"rounds": rounds})]})
    with pytest.raises(EngineGateError, match="positive"):
        measurements(run_record(arenas=[broken], verdicts=[]))


def attempt(*statuses: str, errors: tuple[str, ...] = ()) -> AttemptEntry:
    verdicts = [verdict_entry(INT8, status=status) for status in statuses]
    return AttemptEntry(test=verdict_entry(INT8).test, verdicts=verdicts, errors=list(errors))


def run_again(last: str, *attempts: AttemptEntry) -> RunRecord:
    verdicts = [verdict_entry(INT8, status=last)] if last else []
    return run_record("again").model_copy(update={"verdicts": verdicts, "attempts": list(attempts)})


@pytest.mark.parametrize(
    ("last", "attempts", "text", "turned"),
    [
        ("PASS", [attempt("FAIL"), attempt("FAIL")], "PASS at attempt 3 of 3, after FAIL, FAIL; a gate's", True),
        ("INCONCLUSIVE", [attempt("FAIL")], "INCONCLUSIVE at attempt 2 of 2, after FAIL; a gate's", True),
        ("PASS", [attempt("PASS", "FAIL", errors=("broken",))], "PASS at attempt 2 of 2, after FAIL; a gate's", True),
        ("FAIL", [attempt("FAIL"), attempt("PASS")], "FAIL at attempt 3 of 3, after FAIL, PASS", False),
        ("PASS", [attempt(errors=("ended without a verdict: broken",))], "PASS at attempt 2 of 2, after error", False),
        ("", [attempt("FAIL")], "no verdict at attempt 2 of 2, after FAIL; a gate's", True),
    ],
)
def test_a_rerun_says_what_came_of_it(last, attempts, text, turned, tmp_path) -> None:
    record = load_record(save_record(run_again(last, *attempts), tmp_path))
    (found,) = reruns(record)
    assert text in str(found)
    assert found.turned == turned
    assert ("; 1 FAIL went away when run again" in tally(record)) == turned
    assert str(found) in markdown_summary(record)
    if turned:
        with pytest.raises(BaselineError, match="failed until they were run again") as caught:
            check_acceptable(record, force=False)
        assert "--reruns" in caught.value.hint
    elif last == "PASS":
        check_acceptable(record, force=False)
    check_acceptable(record, force=True)


def test_records_without_attempts_stay_readable() -> None:
    old = run_record("old").model_dump(mode="json")
    del old["attempts"]
    assert RunRecord.model_validate(old).attempts == []
    assert reruns(run_record("old")) == []


def test_what_a_crashed_worker_had_concluded_of_a_test_that_ran_again_is_an_earlier_attempt() -> None:
    """It was in the record beside the verdict that counts."""
    other = verdict_entry(INT8, test="other", status="FAIL")
    cut = run_again("FAIL").model_copy(update={"verdicts": [verdict_entry(INT8, status="FAIL"), other]})
    ended = run_again("PASS", attempt("INCONCLUSIVE"))
    merged = merge_records([ended], "id", "partial", [], [cut, cut])
    assert [(entry.test, entry.status) for entry in merged.verdicts] == [
        ("other", "FAIL"),
        (verdict_entry(INT8).test, "PASS"),
    ]
    kept = [(entry.test, [each.status for each in entry.verdicts]) for entry in merged.attempts]
    assert sorted(kept) == sorted(
        [
            ("other", ["FAIL"]),
            (verdict_entry(INT8).test, ["FAIL"]),
            (verdict_entry(INT8).test, ["FAIL"]),
            (verdict_entry(INT8).test, ["INCONCLUSIVE"]),
        ]
    )


def test_workers_that_each_ran_every_test_keep_all_verdicts() -> None:
    """``--dist each``: none of them is a rerun of another."""
    merged = merge_records([run_again("FAIL"), run_again("PASS")], "id", "complete", [])
    assert [entry.status for entry in merged.verdicts] == ["FAIL", "PASS"]
    assert merged.attempts == []
