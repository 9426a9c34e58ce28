"""The memory tables of docs/optimization_techniques.md are those of docs/results/memory, and say what the page says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests_harness.docs.docs_text import DOCS, REPOSITORY

RESULTS = DOCS / "results" / "memory"


def test_tables_are_those_of_the_files():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "memory" / "page.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + "run python scripts/memory/page.py"


def test_every_measured_kv_cache_is_the_laws_and_every_total_within_five_percent():
    lines = json.loads((RESULTS / "cpu.json").read_text(encoding="utf-8"))["lines"]
    assert len(lines) >= 12
    for line in lines:
        assert line["predicted"]["kv"] == line["reported_kv"] == line["pool_kv"], line["name"]
        assert line["predicted"]["total"] == pytest.approx(line["driver"], rel=0.05), line["name"]


def test_the_pipeline_held_the_blocks_of_the_formula():
    for line in json.loads((RESULTS / "paged.json").read_text(encoding="utf-8"))["lines"]:
        assert line["held_blocks"] == line["formula_blocks"] <= line["pool_blocks"]
