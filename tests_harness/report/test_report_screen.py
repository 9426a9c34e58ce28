from __future__ import annotations

import io

from enginegate.core.records import JointEntry, RunRecord
from enginegate.report.reasons import alike, reasons
from enginegate.report.terminal import print_screen
from rich.console import Console

from tests_harness.storage.factory import memory_entry, run_record, verdict_entry

BF16, INT8, INT4 = (f"tiny-8m-openvino-{precision}" for precision in ("bf16", "int8_wo", "int4_awq"))
B1, B8 = "b1-i64-o64", "b8-i64-o64"
CHANCE = "{}: 0.17; undecided: the reference scores 0.17, not above the 0.38 of guessing"
BLOCKS = "{}: 2.3x; undecided: after {} blocks the slowdown lies between {} % and 9 %"
LIVE = {"gate": "speed", "against": {"kind": "live"}}


def screen(record: RunRecord, color: bool = False) -> str:
    text = io.StringIO()
    print_screen(record, Console(file=text, width=80, force_terminal=color))
    return text.getvalue()


def flat(record: RunRecord) -> str:
    """The screen as one line, wherever it was broken."""
    return " ".join(screen(record).split())


def undecided(engine: str, metric: str, explanation: str, change: float = 0.0, status: str = "INCONCLUSIVE"):
    return verdict_entry(engine, None, status, metric=metric, explanation=explanation, change=change)


def test_a_line_for_each_engine_and_batch_size_in_80_columns() -> None:
    verdicts = [verdict_entry(engine, workload) for engine in (BF16, INT8, INT4) for workload in (B1, B8)]
    memory = [memory_entry(INT8, B8)]
    text = screen(run_record(batch_sizes=(1, 8), verdicts=verdicts, memory=memory))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("  ")[0].rstrip() for line in lines[1:7]] == [
        f"openvino {precision} {batch}" for precision in ("bf16", "int8_wo", "int4_awq") for batch in ("b1", "b8")
    ]
    for heading in ("over hf bf16 [95 %]", "peak MB", "acc. %", "ppl", "verdict"):
        assert heading in lines[0]
    assert lines[-1].strip() == "tiny-8m: 6 PASS"
    assert "\x1b[" not in text
    assert "\x1b[" in screen(run_record(), color=True)


def test_what_was_not_measured_has_no_column() -> None:
    heading = screen(run_record(quality=False, memory=[])).splitlines()[0]
    assert "acc" not in heading
    assert "MB" not in heading


def test_a_race_against_a_live_base_shows_how_much_slower() -> None:
    """Also one without pytest, whose record has no rows of a table."""
    raced = verdict_entry(INT8, B1, "FAIL", estimate=0.8, interval=(0.75, 0.85), change=0.25, inputs=LIVE)
    for record in (run_record(verdicts=[raced]), run_record(batch_sizes=[], engines=[], verdicts=[raced])):
        text = screen(record)
        assert "slower by [95 %]" in text
        assert "25.0 % [17.6, 33.3]" in text
        assert "int8_wo b1" in text


def test_a_reason_is_said_once_for_all_that_share_it() -> None:
    verdicts = [undecided(engine, "letters_accuracy", CHANCE.format(engine)) for engine in (BF16, INT8, INT4)]
    text = flat(run_record(verdicts=verdicts))
    assert text.count("guessing") == 1
    assert "INCONCLUSIVE 3 verdicts (letters accuracy of bf16, int8_wo, int4_awq): the reference scores 0.17" in text


def test_where_only_the_numbers_differ_the_worst_stands_for_all() -> None:
    verdicts = [
        undecided(BF16, "speedup", BLOCKS.format("bf16 b1", 16, -3), 0.01),
        undecided(INT8, "itl", BLOCKS.format("int8_wo b8", 40, -7), 0.05),
    ]
    (reason,) = reasons(run_record(verdicts=verdicts))
    assert reason.verdicts[0].engine == INT8
    text = flat(run_record(verdicts=verdicts))
    assert "2 verdicts (itl, speedup of int8_wo, bf16), such as int8_wo b8: 2.3x; undecided: after 40 blocks" in text
    assert "16 blocks" not in text


def test_every_fail_has_its_own_sentence_and_comes_first() -> None:
    verdicts = [
        undecided(INT8, "letters_accuracy", CHANCE.format("int8_wo")),
        *(undecided(INT8, metric, f"{metric} is slower by 9 %", 0.09, "FAIL") for metric in ("speedup", "itl")),
        undecided(INT8, "size", "int8_wo size: 9 MiB, no baseline to compare with", status="NO_BASELINE"),
    ]
    statuses = [reason.status for reason in reasons(run_record(verdicts=verdicts))]
    assert statuses == ["FAIL", "FAIL", "INCONCLUSIVE", "NO_BASELINE"]
    assert "FAIL speedup is slower by 9 % FAIL itl is slower by 9 %" in flat(run_record(verdicts=verdicts))


def test_a_screen_is_never_longer_than_its_room_and_says_what_it_leaves_out() -> None:
    verdicts = [undecided(INT8, f"metric{index}", f"sentence {index}", status="FAIL") for index in range(40)]
    text = screen(run_record(verdicts=verdicts))
    assert text.count("FAIL sentence") == 8
    assert "and 32 more reasons" in text
    assert "40 FAIL" in text


def test_a_withdrawn_pass_is_shown_and_one_that_stands_is_not() -> None:
    entries = [JointEntry(engine=INT8, status=status, explanation=status.lower()) for status in ("PASS", "FAIL")]
    text = flat(run_record().model_copy(update={"joint": entries}))
    assert "FAIL fail" in text
    assert "PASS pass" not in text


def test_warnings_alike_are_counted() -> None:
    texts = ["process 12 took 30 % of a core", "process 99 took 8 % of a core", "the disk is full"]
    assert alike(texts) == ["process 12 took 30 % of a core (and 1 like it)", "the disk is full"]
