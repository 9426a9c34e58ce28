"""docs/serving.md: its tables are those of the results beside it."""

from __future__ import annotations

import json
import math
import re

from docs_text import DOCS, read
from enginegate.core.serving_records import SloEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival
from enginegate.gates.serving import SloPolicy, requests_to_decide
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, drawn
from enginegate.measure.serving.timeline import run_of
from enginegate.report.serving_curve import curve_values
from enginegate.verdicts.capacity import find_curve
from scripted import scripts_of


def test_each_result_has_its_place_on_the_page():
    for file in (DOCS / "results" / "serving").glob("*.json"):
        assert f"<!-- serving: {file.stem} -->" in read("serving.md")


def test_results_become_a_table(tmp_path, monkeypatch):
    def serve(rate, number):
        trace = drawn("poisson", rate, 200, LengthPairs(((8, 4),)), seed=number)
        arrivals = [Arrival((1,) * 8, SamplingParams(4), time) for time in trace.times]
        return run_of(trace, MockServer(1, [0.1] * 200).events(arrivals), subject="mock")

    asked = {"rates": (2.0, 40.0), "start": 1.0, "tolerance": 0.1, "most": 2, "load": "poisson, 8 tokens in, 4 out"}
    curve = find_curve("toy", serve, SloEntry(e2el=1.0, share=0.9), SloPolicy(0.9), **asked)
    found = {
        "machine": "toy-machine",
        "generator": {
            "rate": 200.0,
            "requests": 2000,
            "checks": {"lag": [0.0002, 0.001, ""], "little": [0.001, 0.02, ""]},
        },
        "curves": [curve_values(curve)],
    }
    (tmp_path / "cpu.json").write_text(json.dumps(found), encoding="utf-8")
    with scripts_of("serving") as script:
        page = script("page")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    once = "\n".join(page.serving("cpu"))
    assert "| `toy` | 2 |" in once
    assert (
        "`toy` (poisson, 8 tokens in, 4 out): the capacity lies between 2 and 40 requests/s (90 % within E2EL 1 s)"
        in once
    )
    assert "sent 0.20 ms late at the 99th percentile (1 allowed)" in once


def test_how_many_requests_decide_is_what_the_page_says():
    for share, count in ((0.99, 459), (0.95, 90)):
        assert requests_to_decide(0.0, SloPolicy(share=share)) == count == math.ceil(math.log(0.01) / math.log(share))
        assert re.search(rf"\b{count}\b", read("serving.md"))
