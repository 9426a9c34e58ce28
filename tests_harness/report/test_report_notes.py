from __future__ import annotations

import io
from pathlib import Path

import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.records import DataEntry, QualityEntry, RunRecord
from enginegate.report import write_report
from enginegate.report.comment import markdown_comment
from enginegate.report.markdown import markdown_summary
from enginegate.report.notes import NOT_AUDITED, data_notes, quality_notes, speed_notes
from enginegate.report.terminal import print_report, print_screen
from enginegate.storage.summary import measurements
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge
from rich.console import Console

from tests_harness.storage.factory import gated_record, memory_entry, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"
INT4 = "tiny-8m-openvino-int4_rtn"
LINE = "this gate on this machine: 0.4 % false alarms, sees 5 % with 96 % power"


def audited(record: RunRecord, line: str | None) -> RunRecord:
    (verdict,) = record.verdicts
    verdict = verdict.model_copy(update={"inputs": verdict.inputs | {"audit": line}})
    return record.model_copy(update={"verdicts": [verdict]})


def with_bandwidth(record: RunRecord, bandwidth: float) -> RunRecord:
    known = {"weights": 100_000_000, "copy_bytes_per_second": bandwidth, "device": "Imaginary GPU"}
    entry = memory_entry(INT8, "b1-i64-o64").model_copy(update=known)
    return record.model_copy(update={"memory": [entry]})


def letters(engine: str, right: int, **scores: float) -> QualityEntry:
    """Answers by letter to 120 questions, a quarter of which have each letter."""
    return QualityEntry(
        engine=engine,
        metric="letters",
        version="letters/1;examples=none;prefix=none;items=120",
        columns=["acc", "acc_calibrated"],
        items={f"i{index}": [float(index < right), float(index < right + 20)] for index in range(120)},
        scores={"accuracy": right / 120, "accuracy_calibrated": (right + 20) / 120, "chance": 0.25, **scores},
    )


HISTOGRAM = {"ties": 0.095, "chosen/A": 0.1, "chosen/B": 0.6, "chosen/C": 0.25, "chosen/D": 0.05}


def test_letters_are_told_with_their_ties_and_what_they_are() -> None:
    record = run_record(quality=False)
    entry = letters(INT8, 60, **HISTOGRAM)
    (note,) = quality_notes(record.model_copy(update={"quality": [entry]}))
    assert note == (
        f"letters of {INT8}: accuracy 50.0 %, with each letter's mean taken off 66.7 %; answers A 10 %, B 60 %,"
        " C 25 %, D 5 %; 9.5 % tie"
    )
    older = entry.model_copy(update={"scores": {"accuracy": 0.5, "chance": 0.25}})
    assert quality_notes(record.model_copy(update={"quality": [older]})) == []


def test_what_the_reference_guesses_is_said_to_be_not_gated() -> None:
    record = run_record(quality=False, verdicts=[])
    with_letters = record.model_copy(update={"quality": [letters("tiny-8m-hf-fp32", 33)]})
    expected = (
        "not gated: letters: the reference scores 0.28, not above the 0.25 of guessing, so no loss could be seen;"
        " with each letter's mean taken off it scores 0.44, which is above it"
    )
    assert quality_notes(with_letters) == [expected]
    assert f"- {expected}" in markdown_summary(with_letters)
    out = io.StringIO()
    print_report(with_letters, Console(file=out, width=400))
    assert out.getvalue().count(expected) == 1
    verdict = verdict_entry(INT8, None, "INCONCLUSIVE", metric="letters_accuracy")
    assert quality_notes(with_letters.model_copy(update={"verdicts": [verdict]})) == [], "--strict-gates asked"
    able = record.model_copy(update={"quality": [letters("tiny-8m-hf-fp32", 60)]})
    assert quality_notes(able) == []


def test_every_speed_table_says_what_the_gate_can_see() -> None:
    assert speed_notes(audited(gated_record(2.0), LINE)) == [LINE]
    assert speed_notes(gated_record(2.0)) == [NOT_AUDITED]
    assert speed_notes(run_record(verdicts=[])) == []


def test_whoever_is_judged_by_a_live_base_is_told_of_the_audit_of_launches() -> None:
    record = gated_record(2.0)
    (verdict,) = record.verdicts
    live = verdict.inputs | {"against": {"kind": "live", "base": f"{INT8}@base", "label": "base"}}
    record = record.model_copy(update={"verdicts": [verdict.model_copy(update={"inputs": live})]})
    (line,) = speed_notes(record)
    for part in ("--eg-gate-audit --eg-against python:COPY", "short --gate-audit --against", "enginegate accept RUN"):
        assert part in line


def test_each_metric_has_its_own_line() -> None:
    record = audited(gated_record(2.0), LINE)
    (speedup,) = record.verdicts
    itl = speedup.model_copy(update={"metric": "itl", "inputs": speedup.inputs | {"metric": "itl", "audit": None}})
    both = record.model_copy(update={"verdicts": [speedup, itl]})
    assert speed_notes(both) == [f"{INT8} b8-i64-o64 speedup: {LINE}", f"{INT8} b8-i64-o64 itl: {NOT_AUDITED}"]


@pytest.mark.parametrize("lines", [(LINE, None), (None, LINE), (LINE, LINE.replace("96", "50"))])
def test_no_engine_s_audit_hides_another_s(lines: tuple[str | None, str | None]) -> None:
    """The first engine's line used to stand for every other engine of the same workload and metric."""
    record = audited(gated_record(2.0), lines[0])
    (first,) = record.verdicts
    second = first.model_copy(update={"engine": INT4, "inputs": first.inputs | {"candidate": INT4, "audit": lines[1]}})
    notes = speed_notes(record.model_copy(update={"verdicts": [first, second]}))
    assert notes == [
        f"{engine} b8-i64-o64 speedup: {line or NOT_AUDITED}" for engine, line in zip((INT8, INT4), lines, strict=True)
    ]


def test_what_is_said_of_all_engines_is_said_once() -> None:
    record = gated_record(2.0)
    (first,) = record.verdicts
    second = first.model_copy(update={"engine": INT4, "inputs": first.inputs | {"candidate": INT4}})
    assert speed_notes(record.model_copy(update={"verdicts": [first, second]})) == [NOT_AUDITED]


def test_whoever_has_no_audit_is_told_the_whole_way_to_one() -> None:
    """It named the short option alone, and not that an audit counts only when it is accepted."""
    for part in ("--eg-gate-audit", "short --gate-audit", "counts after enginegate accept RUN"):
        assert part in NOT_AUDITED


def test_notes_stand_in_the_terminal_and_in_markdown() -> None:
    record = with_bandwidth(audited(gated_record(2.0), LINE), 50e9)
    text = io.StringIO()
    print_report(record, Console(file=text, width=200))
    for shown in (text.getvalue(), markdown_summary(record)):
        assert LINE in shown
        assert f"{INT8} on Imaginary GPU: 160 tokens/s at batch 1 is 32% of the 500" in shown


def test_faster_than_the_memory_can_be_read_is_refused() -> None:
    record = with_bandwidth(gated_record(2.0), 10e9)  # 100 tokens/s at most, and 160 were measured
    inputs = record.verdicts[0].inputs | {"workload": "b1-i64-o64"}
    with pytest.raises(MeasurementError, match="impossible figure"):
        judge(restore_inputs(inputs), record)
    assert any("impossible figure" in note for note in speed_notes(record))


def test_two_cards_are_read_twice_as_fast() -> None:
    record = with_bandwidth(gated_record(2.0), 10e9)
    over_two = [engine.model_copy(update={"spec": engine.spec | {"tensor_parallel": 2}}) for engine in record.engines]
    (note,) = [note for note in speed_notes(record.model_copy(update={"engines": over_two})) if INT8 in note]
    assert "80% of the 200" in note


def test_several_tokens_a_pass_have_no_such_ceiling() -> None:
    record = with_bandwidth(gated_record(2.0), 10e9)
    drafts = [
        engine.model_copy(update={"runtime": engine.runtime | {"speculation": "ngram"}}) for engine in record.engines
    ]
    record = record.model_copy(update={"engines": drafts})
    assert judge(restore_inputs(record.verdicts[0].inputs | {"workload": "b1-i64-o64"}), record).status.value == "PASS"
    assert not any("tokens/s at batch 1" in note for note in speed_notes(record))


def test_a_time_that_is_no_time_costs_its_own_cell_and_no_report() -> None:
    record = run_record(batch_sizes=(1,))
    (arena,) = record.arenas
    rounds = [
        entry.model_copy(update={"figures": {**entry.figures, "ttft": float("nan")}})
        for entry in arena.blocks[0].rounds
    ]
    blocks = [arena.blocks[0].model_copy(update={"rounds": rounds}), *arena.blocks[1:]]
    broken = record.model_copy(update={"arenas": [arena.model_copy(update={"blocks": blocks})]})
    metrics = {entry.metric for entry in measurements(broken)}
    assert "speedup" in metrics
    assert "ttft" not in metrics
    print_report(broken, Console(file=io.StringIO(), width=200))


def with_data(record: RunRecord) -> RunRecord:
    """The record as of a real set: cloze is of 8 of 500 behind two examples, the rest of all of another."""
    chosen = DataEntry(
        name="hub:org/set@0123#test", digest="ab" * 32, size=500, subset="by hash", shots=2, examples="held out"
    )
    whole = DataEntry(name="enginegate:passages.jsonl", digest="cd" * 32, size=8)
    quality = [
        entry.model_copy(update={"data": chosen if entry.metric == "cloze" else whole}) for entry in record.quality
    ]
    return record.model_copy(update={"quality": quality})


def test_every_table_of_quality_scores_says_whose_data(tmp_path: Path) -> None:
    record = with_data(run_record())
    asked = "cloze: 8 of 500 items of hub:org/set@0123#test (sha256 abababababab)"
    line = f"{asked}, chosen by hash, 2-shot, examples held out"
    assert line in data_notes(record.quality)
    texts = {"comment": markdown_comment([record]), "summary": markdown_summary(record)}
    for name, show in (("report", print_report), ("screen", print_screen)):
        console = Console(file=io.StringIO(), width=400)
        show(record, console)
        texts[name] = console.file.getvalue()  # type: ignore[attr-defined]
    write_report([record], tmp_path)
    texts["csv"] = (tmp_path / "benchmark_results.csv").read_text()
    for name, text in texts.items():
        assert line in text, name
    assert "perplexity: 8 items of enginegate:passages.jsonl (sha256 cdcdcdcdcdcd)" in texts["screen"]
    assert "not its questions" not in texts["summary"], "only older records leave open whose they are"


def test_older_records_say_nothing_of_data() -> None:
    assert data_notes(run_record().quality) == []
    assert QualityEntry.model_validate(run_record().quality[0].model_dump(exclude={"data"})).data is None
