"""``enginegate history --html``: a page of every series, and the points of each beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.report.dashboard import shell
from enginegate.storage.history import store
from enginegate.storage.history.entries import Note

from tests_harness.report.dashboard_pages import HOSTILE, Read
from tests_harness.storage.histories import CANDIDATES, nights

INT8, INT4, _ = CANDIDATES
SERIES = 7  # times of four engines, and three ratios


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setattr(shell, "chart_library", lambda: "window.vegaEmbed = null;")


@pytest.fixture
def site(tmp_path):
    def write(entries, notes=()) -> tuple[Read, Path]:
        url = f"sqlite:///{tmp_path}/history.sqlite"
        store.add(entries, url)
        store.annotate(url, notes)
        assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 0
        return Read((tmp_path / "site" / "index.html").read_text(encoding="utf-8")), tmp_path / "site" / "data"

    return write


def called(file: Path) -> list:
    """The arguments of the call that a file of data is."""
    found = re.fullmatch(r"enginegateHistory\.(runs|series)\((.*)\);\n", file.read_text(), re.DOTALL)
    return json.loads(f"[{found[2]}]")


def lines(page: Read) -> dict[tuple[str, str], dict]:
    """The lines of the list, by precision and metric."""
    found = [each for each in page.all("tr") if "data-key" in each]
    return {(each["data-precision"], each["data-metric"]): each for each in found if each["data-backend"] != "hf"}


def test_every_series_has_its_changes_levels_and_versions(site):
    page, data = site(nights(60, {INT4: (40, 1.15)}, versions=[(40, "openvino", "2026.5")]))
    page.check_closed()
    assert "'self'" in page.policy
    found = lines(page)
    assert {each.name for each in data.iterdir()} == {
        "runs.js", *(f"{each['data-key']}.js" for each in page.all("tr") if "data-key" in each),
    }  # fmt: skip
    digest, series = called(data / f"{found['int4_awq', 'latency']['data-key']}.js")
    assert digest == found["int4_awq", "latency"]["data-key"]
    (change,) = series["changes"]
    assert (change["index"], change["word"]) == (40, "worse")
    assert any("enginegate duet" in line for line in change["lines"])
    assert [(level["first"], level["last"]) for level in series["levels"]] == [(0, 39), (40, 59)]
    assert series["levels"][1]["value"] / series["levels"][0]["value"] == pytest.approx(1.15, abs=0.03)
    assert series["anchor"]["first"] == 0
    assert series["anchor"]["value"] == pytest.approx(0.4, rel=0.02)
    (version,) = series["versions"]
    assert version["index"] == 40
    assert ["openvino", "", "2026.5"] in version["changed"]
    (runs,) = called(data / "runs.js")
    assert runs["id"][series["run"][40]] == "night-040"
    assert len(series["value"]) == len(runs["started"]) == 60


def test_alerts_come_first_and_known_changes_are_none(site):
    # the change of one engine is known; the other's is new
    entries = nights(60, {INT4: (40, 1.15), INT8: (56, 1.2)})
    digests = {figure.key.engine: figure.key.digest for figure in entries[0].figures if figure.key.unit == "seconds"}
    ratios = {figure.key.engine: figure.key.digest for figure in entries[0].figures if figure.key.unit == "x"}
    notes = [Note(each[INT4], "night-040", "by intention", "2026-03-01T00:00:00+00:00") for each in (digests, ratios)]
    page, data = site(entries, notes)
    states = {name: each["data-state"] for name, each in lines(page).items()}
    assert states["int8_wo", "latency"] == states["int8_wo", "speedup"] == "ALERT"
    assert states["int4_awq", "latency"] == "known before"
    assert states["bf16", "latency"] == "steady"
    order = [each["data-state"] for each in page.all("tr") if "data-key" in each]
    assert order[:2] == ["ALERT", "ALERT"]
    assert "History of 60 runs: 1 alert" in page.text
    _, series = called(data / f"{digests[INT4]}.js")
    assert series["anchor"]["first"] == 40  # a change that is known moves the accepted level


def test_a_second_site_takes_the_place_of_the_first_and_leaves_other_files(site, tmp_path):
    _, data = site(nights(10))
    (data / "0123456789abcdef.js").write_text("of a series that is no more")
    (data / "mine.js").write_text("not ours")
    site(nights(12))
    assert not (data / "0123456789abcdef.js").exists()
    assert (data / "mine.js").read_text() == "not ours"
    assert len(list(data.iterdir())) == SERIES + 2


def test_a_page_of_something_else_is_not_written_over(site, tmp_path, capsys):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>My own</h1>")
    url = f"sqlite:///{tmp_path}/history.sqlite"
    store.add(nights(3), url)
    assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "site" / "index.html").read_text() == "<h1>My own</h1>"
    assert not (tmp_path / "site" / "data").exists()


def test_a_folder_that_is_a_file_is_an_error(tmp_path, capsys):
    (tmp_path / "site").write_text("")
    url = f"sqlite:///{tmp_path}/history.sqlite"
    store.add(nights(3), url)
    assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 2
    assert "name another folder with --html DIR" in capsys.readouterr().err


def test_names_and_figures_of_any_kind_stay_text_and_numbers(site):
    def odd(entry):
        run = replace(entry.run, commit=HOSTILE, environment={"driver": HOSTILE})
        figures = [replace(each, value=None) if each.key.unit == "x" else each for each in entry.figures]
        keys = [replace(each, key=replace(each.key, workload=HOSTILE)) for each in figures]
        return replace(entry, run=run, figures=tuple(keys))

    page, data = site([odd(entry) for entry in nights(5)])
    assert page.all("img") == []
    assert HOSTILE in page.text
    _, series = called(data / f"{lines(page)['int8_wo', 'speedup']['data-key']}.js")
    assert (series["value"], series["levels"], series["anchor"]) == ([None] * 5, [], None)


def test_a_page_grows_with_series_and_not_with_runs(site, tmp_path):
    _, data = site(nights(20))
    small = (tmp_path / "site" / "index.html").stat().st_size
    site(nights(200))
    assert (tmp_path / "site" / "index.html").stat().st_size < 1.2 * small
    assert len(called(data / "runs.js")[0]["id"]) == 200


def test_a_history_that_is_not_there_is_an_error_and_no_site(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/none.sqlite"
    assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 2
    assert "hint:" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_an_empty_history_is_a_page(tmp_path):
    url = f"sqlite:///{tmp_path}/history.sqlite"
    store.upgrade(url)
    assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 0
    assert "History of 0 runs: no alerts" in Read((tmp_path / "site" / "index.html").read_text()).text


def test_the_history_may_be_named_before_or_behind_a_subcommand(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/history.sqlite"
    store.add(nights(5), url)
    for arguments in (["--history", url, "ls"], ["ls", "--history", url]):
        assert main(["history", *arguments]) == 0
        assert f"{SERIES} series of 5 runs" in capsys.readouterr().out


def test_history_alone_says_what_it_wants(capsys):
    assert main(["history"]) == 2
    assert "needs a command, or --html DIR" in capsys.readouterr().err
