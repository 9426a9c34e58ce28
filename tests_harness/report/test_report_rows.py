from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from enginegate.core.records import RunRecord
from enginegate.report import write_report
from enginegate.report.comment import markdown_comment
from enginegate.report.markdown import markdown_summary, markdown_table
from enginegate.report.plot import draw
from enginegate.report.rows import record_rows
from enginegate.report.terminal import print_report, print_screen
from rich.console import Console

from tests_harness.storage.factory import REFERENCE, memory_entry, quality_entry, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"
INT4 = "tiny-8m-openvino-int4_awq"

HEADINGS = (
    "Model,Engine,Precision,Batch Size,Latency (ms),Tokens/sec,Memory (MB),WM (GB),RM (GB),Accuracy (%),ROUGE-1,"
    "ROUGE-2,ROUGE-L,ROUGE-Lsum,BLEU,Perplexity,KLD,TTFT (ms),ITL (ms),Speedup,Speedup Low,Speedup High,Verdict,"
    "Data,Dequantized From,Speedup Over,Cost/1M Output,Cost/1M In+Out,Joules/Token"
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(record: RunRecord, width: int = 120, color: bool = False) -> str:
    text = io.StringIO()
    print_report(record, Console(file=text, width=width, force_terminal=color))
    return text.getvalue()


def screen(record: RunRecord) -> str:
    text = io.StringIO()
    print_screen(record, Console(file=text, width=80))
    return text.getvalue()


def test_the_csv_has_one_line_for_each_engine_and_batch_size(tmp_path: Path) -> None:
    csv_path, summary, plot = write_report([run_record()], tmp_path / "new" / "folder")
    assert [path.name for path in (csv_path, summary, plot)] == ["benchmark_results.csv", "summary.md", "plot.png"]
    assert csv_path.read_text().splitlines()[0] == HEADINGS
    lines = read(csv_path)
    assert [(line["Engine"], line["Precision"], line["Batch Size"]) for line in lines] == [
        (engine, precision, batch)
        for engine, precision in (
            ("hf", "bf16"),
            ("openvino", "bf16"),
            ("openvino", "int8_wo"),
            ("openvino", "int4_awq"),
        )
        for batch in ("1", "8")
    ]
    line = lines[5]
    assert (line["Memory (MB)"], line["WM (GB)"], line["RM (GB)"]) == ("600.00", "0.500", "0.586")
    assert (line["Accuracy (%)"], line["ROUGE-L"], line["BLEU"], line["Perplexity"]) == (
        "87.00",
        "19.00",
        "58.40",
        "27.170",
    )
    assert (line["Speedup"], line["Speedup Low"], line["Speedup High"]) == ("2.310", "2.270", "2.360")
    assert line["Speedup Over"] == REFERENCE
    assert float(line["Latency (ms)"]) == pytest.approx(400, rel=0.02)
    assert float(line["Tokens/sec"]) == pytest.approx(8 * 64 * 2.5, rel=0.02)
    assert float(line["TTFT (ms)"]) == pytest.approx(20, rel=0.02)
    assert float(line["ITL (ms)"]) == pytest.approx(4, rel=0.02)


def test_what_was_not_measured_is_empty_and_not_zero(tmp_path: Path) -> None:
    record = run_record(quality=False, memory=[], verdicts=[])
    csv_path, summary, _ = write_report([record], tmp_path)
    reference, candidate = read(csv_path)[0], read(csv_path)[4]
    for heading in ("Memory (MB)", "WM (GB)", "RM (GB)", "Accuracy (%)", "ROUGE-1", "BLEU", "Perplexity", "Verdict"):
        assert candidate[heading] == "", heading
    assert (reference["Speedup"], reference["Speedup Low"], reference["Speedup Over"]) == ("1.000", "", "")
    assert candidate["Speedup Low"] != ""
    assert "| n/a |" in summary.read_text()
    assert "1.00x (reference)" in summary.read_text()


def test_a_speed_up_over_a_live_base_names_it(tmp_path: Path) -> None:
    record = run_record()
    raced = [
        verdict.model_copy(update={"inputs": {"against": {"kind": "live", "base": f"{INT8}@base"}}})
        if (verdict.engine, verdict.metric, verdict.workload) == (INT8, "speedup", "b8-i64-o64")
        else verdict
        for verdict in record.verdicts
    ]
    csv_path, _, _ = write_report([record.model_copy(update={"verdicts": raced})], tmp_path)
    over = {(line["Precision"], line["Batch Size"]): line["Speedup Over"] for line in read(csv_path)[2:]}
    assert over.pop(("int8_wo", "8")) == f"{INT8}@base"
    assert set(over.values()) == {REFERENCE}


def test_accuracy_is_cloze_where_it_was_measured_and_says_so() -> None:
    letters = quality_entry(INT8, "cloze", accuracy=0.26).model_copy(update={"metric": "letters"})
    only_letters = run_record(quality=False).model_copy(update={"quality": [letters]})
    row = next(row for row in record_rows(only_letters) if row.precision == "int8_wo")
    assert (row.accuracy, row.accuracy_kind) == (26.0, "letters")
    assert "MMLU's format, not its questions" in markdown_summary(only_letters)
    both = only_letters.model_copy(update={"quality": [letters, quality_entry(INT8, "cloze")]})
    row = next(row for row in record_rows(both) if row.precision == "int8_wo")
    assert (row.accuracy, row.accuracy_kind) == (87.0, "cloze")
    assert "(cloze)" in markdown_summary(both)


def test_a_run_of_quality_alone_has_one_row_an_engine() -> None:
    rows = record_rows(run_record(batch_sizes=[]))
    assert [(row.precision, row.batch_size, row.latency_ms) for row in rows] == [
        ("bf16", None, None),
        ("int8_wo", None, None),
        ("int4_awq", None, None),
    ]


def test_a_run_of_memory_alone_knows_its_batch_sizes() -> None:
    memory = [memory_entry(INT8, "b8-i64-o64"), memory_entry(INT8, "b1-i64-o64")]
    record = run_record(arenas=[], memory=memory, verdicts=[])
    rows = [row for row in record_rows(record) if row.precision == "int8_wo"]
    assert [(row.batch_size, row.memory_mb, row.speedup) for row in rows] == [(1, 600.0, None), (8, 600.0, None)]


def test_the_worst_verdict_of_the_batch_or_of_the_whole_engine_shows() -> None:
    verdicts = [
        verdict_entry(INT8, "b1-i64-o64", "PASS"),
        verdict_entry(INT8, "b8-i64-o64", "FAIL"),
        verdict_entry(INT4, "b1-i64-o64", "PASS"),
        verdict_entry(INT4, None, "INCONCLUSIVE", metric="cloze_accuracy"),
    ]
    rows = record_rows(run_record(verdicts=verdicts))
    found = {(row.precision, row.batch_size): row.verdict for row in rows if row.engine == "openvino"}
    assert found == {
        ("bf16", 1): "",
        ("bf16", 8): "",
        ("int8_wo", 1): "PASS",
        ("int8_wo", 8): "FAIL",
        ("int4_awq", 1): "INCONCLUSIVE 1/2",
        ("int4_awq", 8): "INCONCLUSIVE",
    }


def test_the_summary_tells_everything_a_reviewer_asks() -> None:
    verdict = verdict_entry(INT8, status="FAIL", explanation="slower by 6.9 %", warnings=["blocks are correlated"])
    record = run_record(status="partial", verdicts=[verdict_entry(INT4), verdict], warnings=["the machine was busy"])
    text = markdown_summary(record)
    assert text.startswith("# enginegate: tiny-8m: 1 FAIL, 1 PASS\n")
    for expected in (
        "`486177f`",
        "was interrupted",
        "slower by 6.9 % — blocks are correlated",
        "- the machine was busy",
        "epyc-2c-0a1b2c3d",
        "openvino 2026.4.1",
        "16 blocks, stopped: every gate decided",
        "not gated",
    ):
        assert expected in text, expected
    assert text.index("❌ FAIL") < text.index("## Verdicts") or "✅" in text
    verdict_lines = text[text.index("## Verdicts") :].splitlines()
    assert "95 % intervals" in verdict_lines[2]
    assert "❌ FAIL" in verdict_lines[6]
    assert "✅ PASS" in verdict_lines[7]
    assert "random weights" not in text


def test_random_weights_are_labelled_everywhere() -> None:
    record = run_record(quality=False)
    record = record.model_copy(update={"model": record.model.model_copy(update={"random_weights": True})})
    assert "random weights" in markdown_summary(record)
    assert "random weights" in shown(record)


def test_weights_that_were_quantized_before_are_labelled_in_every_table(tmp_path: Path) -> None:
    record = run_record()
    label = "dequantized from 4 bits (Q4_K_M)"
    assert label not in shown(record) + screen(record) + markdown_summary(record) + markdown_comment([record])
    record = record.model_copy(update={"model": record.model.model_copy(update={"dequantized": "4 bits (Q4_K_M)"})})
    text = shown(record)
    assert text.count(label) == 3  # over the tables of speed and quality, and in the last line
    assert label in screen(record)
    assert label in markdown_summary(record).splitlines()[0]
    assert label in markdown_comment([record]).splitlines()[0]
    assert label in draw(record_rows(record)).get_suptitle()
    table, *_ = write_report([record], tmp_path)
    assert {row["Dequantized From"] for row in read(table)} == {"4 bits (Q4_K_M)"}


def test_a_record_from_before_the_field_is_read() -> None:
    content = run_record().model_dump(mode="json")
    del content["model"]["dequantized"]
    assert RunRecord.model_validate(content).model.label == content["model"]["name"]


def test_cells_cannot_break_a_markdown_table() -> None:
    assert list(markdown_table(["a"], [["x|y\nz"]]))[2] == "| x\\|y z |"


@pytest.mark.parametrize(("width", "backend"), [(100, "openvino"), (120, "trtllm")])
def test_the_terminal_table_fits_and_keeps_every_column(width: int, backend: str) -> None:
    long = f"tiny-8m-{backend}-int4_gptq"
    verdict = verdict_entry(long, status="INCONCLUSIVE", estimate=12.31, interval=(12.27, 12.36))
    record = run_record(speedups={long: 12.345}, verdicts=[verdict])
    text = shown(record, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    words = (
        "Latency Tokens TTFT ITL Memory WM RM Speedup Accuracy ROUGE-1 ROUGE-2 ROUGE-L ROUGE-Lsum BLEU Perplexity KLD"
    )
    for word in (*words.split(), "INCONCLUSIVE", "12.31x", "12.36]"):
        assert word in text, word
    assert "…" not in text
    assert "\x1b[" not in text
    assert "\x1b[" in shown(record, color=True)


def test_a_run_that_measured_nothing_still_reports(tmp_path: Path) -> None:
    record = run_record(batch_sizes=[], quality=False, verdicts=[], engines=[])
    csv_path, _, plot = write_report([record], tmp_path)
    assert csv_path.read_text().splitlines() == [HEADINGS]
    assert plot.stat().st_size > 0
    assert "no verdicts" in shown(record)


def test_several_runs_share_one_table(tmp_path: Path) -> None:
    other = run_record("b", verdicts=[])
    other = other.model_copy(update={"model": other.model.model_copy(update={"name": "other"})})
    csv_path, summary, _ = write_report([run_record("a"), other], tmp_path)
    assert {line["Model"] for line in read(csv_path)} == {"tiny-8m", "other"}
    assert summary.read_text().count("# enginegate:") == 2
    assert REFERENCE in summary.read_text()


def test_a_gate_without_a_number_leaves_the_cell_empty(tmp_path: Path) -> None:
    nothing = verdict_entry(INT8, status="FAIL", estimate=math.nan, interval=(math.nan, math.nan))
    record = run_record(arenas=[], verdicts=[nothing])
    csv_path, _, _ = write_report([record], tmp_path)
    line = next(line for line in read(csv_path) if line["Precision"] == "int8_wo")
    assert (line["Speedup"], line["Verdict"]) == ("", "FAIL")
