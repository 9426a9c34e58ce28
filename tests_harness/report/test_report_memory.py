"""The table of predicted memory beside what others say; from a record alone."""

from __future__ import annotations

import io

from enginegate.core.records import MemoryParts
from enginegate.report.markdown import markdown_summary
from enginegate.report.memory_views import memory_table
from enginegate.report.side_tables import write_side_tables
from enginegate.report.terminal import print_report, print_screen
from rich.console import Console

from tests_harness.storage.factory import engine_entry, memory_entry, run_record

ENGINE, OTHER = "tiny-8m-openvino-int8_wo", "tiny-8m-openvino-bf16"
LAW = MemoryParts(
    weights=135_200_000,
    copies=2,
    kv=2_000_000,
    kv_written=1_000_000,
    activations=12_000_000,
    own=None,
    total=None,
)


def record():
    predicted = memory_entry(ENGINE, "b8-i64-o64").model_copy(update={"predicted": LAW, "allocator": 211_000_000})
    entries = [predicted, memory_entry(OTHER)]
    return run_record(memory=entries, engines=[engine_entry(ENGINE), engine_entry(OTHER)], arenas=[], verdicts=[])


def test_a_row_for_each_pass_that_was_predicted():
    table = memory_table(record())
    (row,) = table.rows
    assert dict(zip(table.headings[:5], row, strict=False))["Batch"] == "8"
    assert row == ("openvino int8_wo", "8", "135.2", "", "2.0", "2.0", "1.0", "12.0", "", "", "211.0", "629.1")
    assert len(row) == len(table.headings)


def test_the_table_is_in_both_reports_and_a_file_and_not_on_the_short_screen(tmp_path):
    console = Console(width=110, file=io.StringIO())
    print_report(record(), console)
    assert "memory as predicted, and in four views" in console.file.getvalue()
    assert "211.0" in console.file.getvalue()
    assert "| openvino int8_wo | 8 | 135.2 | n/a | 2.0 |" in markdown_summary(record())
    (file,) = write_side_tables([record()], tmp_path)
    assert file.name == "memory_views.csv"
    assert "openvino int8_wo,8,135.2,,2.0" in file.read_text(encoding="utf-8")
    screen = Console(width=80, file=io.StringIO())
    print_screen(record(), screen)
    assert "four views" not in screen.file.getvalue()


def test_no_table_where_nothing_was_predicted():
    bare = run_record(memory=[memory_entry(OTHER)], engines=[engine_entry(OTHER)], arenas=[], verdicts=[])
    assert memory_table(bare) is None
    assert "four views" not in markdown_summary(bare)
