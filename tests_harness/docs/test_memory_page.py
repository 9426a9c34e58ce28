"""What docs/optimization_techniques.md says of memory is what docs/results/memory holds."""

from __future__ import annotations

import json

import pytest
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.vllm.kv_cache import kv_law
from enginegate.models.attention import AttentionKind

from tests_harness.docs.docs_text import DOCS, read, table_after

RESULTS = DOCS / "results" / "memory"


def test_every_measured_kv_cache_is_the_laws_and_every_total_within_five_percent():
    lines = json.loads((RESULTS / "cpu.json").read_text(encoding="utf-8"))["lines"]
    assert len(lines) >= 12
    for line in lines:
        assert line["predicted"]["kv"] == line["reported_kv"] == line["pool_kv"], line["name"]
        assert line["predicted"]["total"] == pytest.approx(line["driver"], rel=0.05), line["name"]


def test_every_measured_kv_cache_of_the_card_is_the_laws_and_five_of_seven_totals_within_five_percent():
    lines = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))["lines"]
    for line in lines:
        assert line["predicted"]["kv"] == line["reported_kv"] == line["pool_kv"], line["name"]
    off = [line["predicted"]["total"] / line["driver"] - 1 for line in lines]
    assert len(off) == 7
    assert sum(abs(each) <= 0.05 for each in off) == 5
    assert (round(min(off), 3), round(max(off), 3)) == (-0.066, 0.07)


def test_the_pipeline_held_the_blocks_of_the_formula():
    for line in json.loads((RESULTS / "paged.json").read_text(encoding="utf-8"))["lines"]:
        assert line["held_blocks"] == line["formula_blocks"] <= line["pool_blocks"]


def test_one_formula_for_all_is_off_by_what_the_page_says():
    """Gemma 3 27B and DeepSeek-V3 by their published shapes; steps of 2,048 tokens."""
    shapes = {
        "Gemma 3 27B": (AttentionKind(52, 32, 16, 128, 128, 1024), AttentionKind(10, 32, 16, 128, 128)),
        "DeepSeek-V3": (AttentionKind(61, 128, 128, 192, 128, latent=576),),
    }
    rows = table_after(read("optimization_techniques.md"), "<!-- checked: kv laws -->")
    tokens = 131_072
    for name, formula, law, off in rows:
        model = Geometry(1, 1, 1, tokens, shapes[name.partition(":")[0]])
        naive = 2 * model.kv_elements_per_token * tokens
        found = kv_law(model, "bf16", 16, 2048).bytes(1, tokens)
        assert (formula, law) == (f"{naive / 1e9:.2f} GB", f"{found / 1e9:.2f} GB")
        assert off == f"{100 * (naive / found - 1):+.0f} %"
