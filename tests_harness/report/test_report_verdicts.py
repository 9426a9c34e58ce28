from __future__ import annotations

import math
from pathlib import Path

import pytest
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import load_record, save_record

from tests_harness.storage.factory import gated_record, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"


@pytest.mark.parametrize(("floor", "status"), [(2.0, "PASS"), (3.0, "FAIL")])
def test_a_saved_record_gives_its_verdicts_again(tmp_path: Path, floor: float, status: str) -> None:
    record = load_record(save_record(gated_record(floor), tmp_path))
    (outcome,) = recompute_verdicts(record)
    assert outcome.stored.status == status
    assert outcome.agrees
    assert outcome.again is not None
    assert math.isclose(outcome.again.estimate, 2.5, rel_tol=0.02)


def test_a_verdict_that_was_tampered_with_does_not_agree() -> None:
    record = gated_record(3.0)
    for change in ({"status": "PASS"}, {"estimate": 3.5}):
        forged = record.verdicts[0].model_copy(update=change)
        (outcome,) = recompute_verdicts(record.model_copy(update={"verdicts": [forged]}))
        assert not outcome.agrees


def test_samples_that_were_tampered_with_do_not_agree() -> None:
    record = gated_record(3.0)
    faster = run_record(speedups={INT8: 4.0}).arenas
    (outcome,) = recompute_verdicts(record.model_copy(update={"arenas": faster}))
    assert not outcome.agrees


def test_what_cannot_be_recomputed_says_why_and_does_not_agree() -> None:
    record = gated_record(2.0)
    (without,) = recompute_verdicts(run_record(verdicts=[verdict_entry(INT8)]))
    assert not without.agrees
    assert "no inputs" in without.problem
    (unknown,) = recompute_verdicts(run_record(verdicts=[verdict_entry(INT8, inputs={"gate": "horoscope"})]))
    assert "horoscope" in unknown.problem
    (lost,) = recompute_verdicts(record.model_copy(update={"arenas": []}))
    assert not lost.agrees
    assert lost.problem
