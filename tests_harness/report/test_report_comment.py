"""The short summary for a pull request: what is not PASS comes first, and it never is too long for a comment."""

from __future__ import annotations

import pytest
from enginegate.cli import main
from enginegate.core.records import JointEntry
from enginegate.report.comment import LIMIT, LONGEST, MOST, markdown_comment
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


def test_what_is_not_pass_is_told_worst_first():
    verdicts = [
        verdict_entry(INT8, status="INCONCLUSIVE", explanation="undecided"),
        verdict_entry(INT8, status="FAIL", explanation="slower\nby 6 %"),
        verdict_entry(INT8, status="PASS", explanation="as fast"),
        *[verdict_entry(INT8, status="NO_BASELINE", explanation="nothing")] * 3,
    ]
    lines = markdown_comment([run_record(verdicts=verdicts)]).splitlines()
    assert lines[0] == "### ❌ enginegate: tiny-8m: 1 FAIL, 1 INCONCLUSIVE, 3 NO_BASELINE, 1 PASS"
    told = [line for line in lines if line.startswith("- ")]
    assert told == [
        "- ❌ FAIL slower by 6 %",
        "- ❔ INCONCLUSIVE undecided",
        "- ➖ NO_BASELINE 3 verdicts (speedup of int8_wo): nothing",
        "- the machine was busy",
    ]
    assert any(line.startswith("| openvino int8_wo | 1 |") and "❌ FAIL 1/6" in line for line in lines)


def test_a_withdrawn_pass_and_an_unfinished_run_are_told():
    joint = [JointEntry(engine=INT8, status="FAIL", explanation="its speed PASS is withdrawn")]
    text = markdown_comment([run_record(joint=joint, status="partial", warnings=[])])
    assert text.startswith("### ❌ ")
    assert "- ❌ its speed PASS is withdrawn" in text
    assert "**The run was interrupted; this is what it had measured.**" in text
    assert "<details>" not in text


@pytest.mark.parametrize("count", [MOST, MOST + 1, 5000])
def test_it_is_never_too_long(count):
    verdicts = [verdict_entry(INT8, status="FAIL", explanation=f"{number} " + "x" * 5000) for number in range(count)]
    record = run_record(verdicts=verdicts, warnings=["y" * 5000] * count)
    text = markdown_comment([record] * 3)
    assert len(text) <= LIMIT
    assert (f"and {count - MOST} more" in text) == (count > MOST)
    assert max(map(len, text.splitlines())) < LONGEST + 50
    short = markdown_comment([record] * 3, limit=2000)
    assert len(short) <= 2000
    assert short.endswith("… The rest is in `summary.md`.\n")


def test_the_command_writes_it_where_it_is_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr("enginegate.report.plot.save_plot", lambda *_: None)
    path = save_record(run_record(), tmp_path / "runs")
    comment = tmp_path / "new" / "comment.md"
    assert main(["report", str(path), "--comment", str(comment)]) == 0
    assert comment.read_text(encoding="utf-8").startswith("### ✅ enginegate: tiny-8m: 6 PASS")
    assert main(["report", str(path), "--comment", str(tmp_path)]) == 2
