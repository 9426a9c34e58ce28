"""``enginegate history``'s questions, each in one command."""

from __future__ import annotations

import json

import pytest
from enginegate.cli import main
from enginegate.storage.history import store

from tests_harness.storage.histories import CANDIDATES, nights

INT8, INT4, BF16 = CANDIDATES


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    found = f"sqlite:///{tmp_path_factory.mktemp('history')}/history.sqlite"
    store.add(nights(63, {INT4: (60, 1.15)}, versions=[(60, "openvino", "2026.5")]), found)
    return found


@pytest.fixture
def ask(url, capsys):
    def of(*arguments: str, code: int = 0) -> str:
        assert main(["history", *arguments, "--history", url]) == code
        return capsys.readouterr().out

    return of


def test_blame_answers_the_whole_question_in_one_command(ask):
    said = ask("blame", "int4_awq", "--machine", "H200")
    for part in (
        "ALERT  tiny-8m-openvino-int4_awq on nvidia-h200",
        "runs night-059 → night-060",
        "b1-i64-o64 speedup: -1",
        "its own time +1",
        "b1-i64-o64 latency: +1",
        "the reference did not move along",
        "0 of 2 other engines moved along: look at the engine first",
        "engine libraries: openvino 2026.3 → openvino 2026.5",
        "commit: 000003b → 000003c",
        "again    enginegate duet --base git:000003b --head git:000003c",
        "search   enginegate history bisect 000003b 000003c",
        "1 changes to the worse, in 2 series of 126 points",
    ):
        assert part in said, part


def test_blame_as_json_has_the_same(ask):
    (first, second) = json.loads(ask("blame", "int4_awq", "--json"))
    assert {first["metric"], second["metric"]} == {"latency", "speedup"}
    assert first["alert"]
    assert first["after"]["commit"] == "000003c"
    assert first["suspect"] == "engine"
    assert {"name": "openvino", "before": "", "after": "2026.5"} in first["differences"]
    assert first["shift"]["low"] < first["shift"]["size"] < first["shift"]["high"]


def test_blame_without_a_change_says_so(ask):
    assert ask("blame", "int8_wo").strip() == "0 changes to the worse, in 2 series of 126 points"


def test_ls_lists_series_and_ends_with_1_for_alerts(ask):
    said = ask("ls")
    assert "7 series of 63 runs, 2 with an alert" in said
    assert sum("ALERT worse" in line for line in said.splitlines()) == 2
    assert "tiny-8m-hf-bf16" not in ask("ls", "--alerts", code=1)
    assert ask("ls", "--alerts", "--precision", "int8_wo") == "2 series of 63 runs, 0 with an alert\n"
    rows = json.loads(ask("ls", "--metric", "latency", "--json"))
    assert [row["points"] for row in rows] == [63] * 4


def test_show_tells_one_series_with_its_points_and_changes(ask, url, capsys):
    (row,) = json.loads(ask("ls", "--engine", "int4", "--metric", "latency", "--json"))
    said = ask("show", row["digest"][:6])
    assert "── ALERT worse +1" in said
    assert "… 33 earlier points" in said
    assert said.count("ms\n") == 30
    assert "rounds, seed 0; model dddddddddddd" in said
    shown = json.loads(ask("show", row["digest"], "--json"))
    assert len(shown["points"]) == 63
    assert len(shown["changes"]) == 1
    assert main(["history", "show", "--engine", "int4", "--history", url]) == 2
    assert "2 series are meant" in capsys.readouterr().err


def test_diff_tells_figures_and_versions_of_two_runs(ask, url, capsys):
    said = ask("diff", "night-059", "latest", "--engine", "int4")
    assert "openvino: none → 2026.5" in said
    assert "commit: 000003b → 000003e" in said
    assert "2 series, 0 of them in one of the two runs alone" in said
    rows = json.loads(ask("diff", "night-059", "night-060", "--metric", "latency", "--json"))["figures"]
    (slower,) = [row for row in rows if row["engine"] == INT4]
    assert slower["change"] == pytest.approx(slower["after"] / slower["before"] - 1)
    assert slower["change"] > 4 * slower["usual_spread"] > 0.04
    for wrong, reason in (("night-9", "no run 'night-9'"), ("night-0", "63 runs begin with")):
        assert main(["history", "diff", wrong, "latest", "--history", url]) == 2
        assert reason in capsys.readouterr().err


def test_annotate_makes_a_change_known(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/history.sqlite"
    store.add(nights(63, {INT4: (60, 1.15)}), url)
    place = ("--history", url)
    assert main(["history", "annotate", "night-060", "OpenVINO 2026.5", "--engine", "int4", *place]) == 0
    assert "noted for 2 series" in capsys.readouterr().out
    assert main(["history", "ls", "--alerts", *place]) == 0
    assert main(["history", "annotate", "night-060", " ", *place]) == 2
    assert "needs a reason" in capsys.readouterr().err
    assert main(["history", "annotate", "night-060", "x", "--engine", "int9", *place]) == 2
    assert "has no figure in the series" in capsys.readouterr().err


def test_what_is_not_in_a_history_is_told(url, capsys):
    assert main(["history", "blame", "int9", "--history", url]) == 2
    assert "no series of engine 'int9'" in capsys.readouterr().err
    assert main(["history", "ls", "--history", "history.sqlite"]) == 2
    assert "it is no URL of a database" in capsys.readouterr().err
