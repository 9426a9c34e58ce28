"""``enginegate report --html``: what the page holds, and what it does with what it should not be given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.report import plot
from enginegate.report.dashboard import shell
from enginegate.storage.runs import load_record, save_record

from tests_harness.report.dashboard_pages import HOSTILE, RACED, Read, full_record
from tests_harness.storage.factory import before_figures, run_record

LIBRARY = "window.vegaEmbed = null;"


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Making the real one takes seconds, as drawing the plot beside does; the browser's tests have it."""
    monkeypatch.setattr(shell, "chart_library", lambda: LIBRARY)
    monkeypatch.setattr(plot, "save_plot", lambda *_: None)


@pytest.fixture
def html(tmp_path):
    def write(*runs: str) -> Read:
        assert main(["report", *runs, "--out", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")]) == 0
        return Read((tmp_path / "page.html").read_text(encoding="utf-8"))

    return write


def test_a_page_holds_everything_and_loads_nothing(html, tmp_path, capsys):
    page = html(str(save_record(full_record(), tmp_path / "runs")))
    page.check_closed()
    assert f"written: {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert [each["id"] for each in page.all("section") if each.get("id")] == [
        "overview", "why", "tradeoff", "results", "verdicts", "gates", "texts", "runs",
    ]  # fmt: skip
    assert "tiny-8m: 1 FAIL, 1 INCONCLUSIVE, 1 NO_BASELINE, 1 PASS" in page.text
    assert "the machine was busy" in page.text
    assert "similarity: reference beside tiny-8m-openvino-int8_wo: 1 of 2 differ" in page.text
    lines = [each for each in page.all("tr") if each.get("data-status")]
    assert {each["data-machine"] for each in lines if "data-machine" in each} == {"epyc-2c-0a1b2c3d"}
    assert {each["data-status"] for each in lines} == {"FAIL", "INCONCLUSIVE", "NO_BASELINE", "PASS"}


def test_text_of_a_record_is_text_of_the_page(html, tmp_path):
    page = html(str(save_record(full_record(), tmp_path / "runs")))
    assert page.all("img") == []
    assert page.text.count(HOSTILE) >= 9
    assert len(page.scripts) == 3


def test_a_table_stands_beside_every_chart(html):
    page = html(str(RACED))
    page.check_closed()
    charts = {each["key"]: each for each in page.data("figures")}
    assert charts.keys() == {"live", "tradeoff", "speedup"}
    assert [each["label"] for each in charts["live"]["choices"]] == [
        "Whole answers", "Time to the first token", "Gap between tokens",
    ]  # fmt: skip
    assert {each.get("data-chart") for each in page.all("div")} - {None} == charts.keys()
    (answers, *_) = charts["live"]["choices"]
    (bf16,) = [each for each in answers["values"] if each["row"] == "openvino bf16, b1"]
    assert (bf16["status"], bf16["margin"], bf16["tolerated"], len(bf16["launches"])) == ("PASS", 2, 5, 4)
    assert "−1.8 %" in page.text  # the same, in the table
    assert "54 of 54 verdicts came out the same when they were recomputed" in page.text
    assert "Why it is not all PASS" in page.text


def test_runs_of_several_machines_share_a_page(html, tmp_path):
    first = run_record("first")
    machine = first.fingerprint.model_copy(update={"key": "another-4c"})
    other = run_record("other", seed=1).model_copy(update={"fingerprint": machine})
    page = html(*(str(save_record(each, tmp_path / "runs")) for each in (first, other)))
    options = {each["value"] for each in page.all("option")}
    assert {"epyc-2c-0a1b2c3d", "another-4c"} <= options
    points = page.data("figures")[0]["choices"][0]["values"]
    assert {each["group"] for each in points} == {"tiny-8m on epyc-2c-0a1b2c3d", "tiny-8m on another-4c"}


def test_a_record_without_anything_is_a_page_too(html, tmp_path):
    empty = run_record(batch_sizes=(), quality=False, verdicts=[], memory=[], arenas=[], engines=[])
    page = html(str(save_record(empty, tmp_path / "runs")))
    assert "no verdicts" in page.text
    assert page.data("figures") == []


def test_a_record_of_an_older_schema_is_shown(html, tmp_path):
    path = save_record(run_record("old"), tmp_path / "runs")
    old = before_figures(json.loads(path.read_text()))
    path.write_text(json.dumps(old))
    assert "tiny-8m: 6 PASS" in html(str(path)).text


@pytest.mark.parametrize("name", ["texts.json", "audit.json"])
def test_what_lies_beside_a_record_and_is_damaged_is_told_on_the_page(html, tmp_path, name):
    path = save_record(full_record(), tmp_path / "runs")
    (path.parent / name).write_text('{"schema_version": 1, "run"')
    page = html(str(path))
    what = "texts" if name == "texts.json" else "audit"
    assert f"The {what} of full {'are' if what == 'texts' else 'is'} not shown" in page.text
    assert "it may be cut off" in page.text


def test_audits_that_a_run_measured_are_shown(html, tmp_path):
    path = save_record(run_record("audited"), tmp_path / "runs")
    kept = Path(__file__).parents[2] / "baselines" / "perf" / "amd-epyc-family-26-model-2-2c-2c8f532f" / "audit.json"
    (path.parent / "audit.json").write_text(kept.read_text())
    text = html(str(path)).text
    assert "Audits of these runs" in text
    assert text.count("false alarms") >= len(json.loads(kept.read_text())["gates"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no run record"),
        ("", "it is empty"),
        ("{", "not valid JSON"),
        ("[]", "not a run record"),
        ('{"schema_version": 99}', "schema version 99"),
    ],
)
def test_a_record_that_cannot_be_used_is_an_error_and_no_page(tmp_path, capsys, content, reason):
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run" / "run.json").write_text(content)
    assert main(["report", str(tmp_path / "run"), "--html", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert "hint:" in said
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_is_an_error(tmp_path, capsys):
    path = save_record(run_record(), tmp_path / "runs")
    (tmp_path / "file").write_text("")
    assert main(["report", str(path), "--html", str(tmp_path / "file" / "page.html")]) == 2
    assert "name another file with --html FILE" in capsys.readouterr().err


def test_without_the_library_the_error_says_what_to_install(tmp_path, capsys, monkeypatch):
    from enginegate.report.dashboard.library import chart_library

    monkeypatch.setattr(shell, "chart_library", chart_library)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / "cache"))
    path = save_record(run_record(), tmp_path / "runs")
    assert main(["report", str(path), "--html", str(tmp_path / "page.html")]) == 2
    assert "pip install 'enginegate[html]'" in capsys.readouterr().err


def test_verdicts_that_do_not_agree_are_told(html, tmp_path):
    record = load_record(RACED)
    verdicts = [record.verdicts[0].model_copy(update={"status": "FAIL"}), *record.verdicts[1:]]
    page = html(str(save_record(record.model_copy(update={"verdicts": verdicts}), tmp_path / "runs")))
    assert "53 of 54 verdicts came out the same" in page.text
    assert "differs: now" in page.text


def test_a_page_and_recomputing_alone_exclude_each_other(tmp_path, capsys):
    path = save_record(run_record(), tmp_path / "runs")
    assert main(["report", str(path), "--verdicts", "--html", str(tmp_path / "page.html")]) == 2
    assert "--verdicts writes no files" in capsys.readouterr().err
