"""docs/claims.md: every precision and backend is there, and no cell claims what the backend does not have."""

from __future__ import annotations

import re

import pytest
from docs_text import REPOSITORY
from enginegate.core.specs import PRECISIONS
from enginegate.engines.registry import load_backend
from enginegate.engines.trtllm.precisions import ENGINE, TORCH
from enginegate.engines.vllm.precisions import PRECISIONS as VLLM

TEXT = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("## Precisions")[2].partition("## ")[0].splitlines()
    if line.startswith("|") and "---" not in line
]
HEADER, *CELLS = ROWS
CLAIMS = {(row[0], backend): cell for row in CELLS for backend, cell in zip(HEADER[1:], row[1:], strict=True)}
NONE = "–"


def test_every_precision_has_a_row_and_every_backend_a_column():
    assert [row[0] for row in CELLS] == list(PRECISIONS)
    assert HEADER[1:] == ["hf", "openvino", "vllm", "trtllm-engine", "trtllm-torch"]


def test_claims_are_of_the_kinds_that_the_page_explains():
    marks = set(re.findall(r"^\| `([a-z ]+)` \|", TEXT, re.MULTILINE))
    for place, cell in CLAIMS.items():
        assert cell == NONE or {part.strip() for part in cell.split(",")} & marks, place


@pytest.mark.parametrize(
    ("backend", "precisions"), [("trtllm-engine", ENGINE), ("trtllm-torch", TORCH), ("vllm", VLLM)]
)
def test_a_claim_is_made_where_the_backend_has_the_precision_and_nowhere_else(backend, precisions):
    assert {name for name in PRECISIONS if CLAIMS[name, backend] != NONE} == set(precisions)


def test_cpu_backends_have_what_is_claimed():
    for backend in ("hf", "openvino"):
        known = load_backend(backend).capabilities().precisions
        assert {name for name in PRECISIONS if CLAIMS[name, backend] != NONE} <= set(known)


def test_tensorrt_llm_claims_no_real_run():
    for (name, backend), cell in CLAIMS.items():
        if backend.startswith("trtllm-"):
            assert not {"cpu", "gpu"} & {part.strip() for part in cell.split(",")}, name
