"""Ceilings lie in the record: its verdicts come out of it again, and records without them are judged as ever."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import RecordError
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.items import QualityPolicy
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import load_record, save_record
from enginegate.verdicts.compare import Rule, compare_sessions
from enginegate.verdicts.corpus import bleu_score, ceiling
from enginegate.verdicts.inputs import CorpusInputs, restore_inputs
from enginegate.verdicts.judge import judge
from enginegate.verdicts.sources import from_record

from tests_harness.storage.factory import quality_entry, run_record, verdict_entry

INT8 = "tiny-8m-openvino-int8_wo"
COUNT = 30


def summaries(ceiling_of_all: float | None) -> QualityEntry:
    """Thirty items that score 0 whoever answers, with ceilings or, as older records, without."""
    entry = quality_entry(INT8, "summaries", items=COUNT)
    rows = {item: [0.0, 0.0, 0.0, 0.0, 40.0] for item in entry.items}
    kept = {} if ceiling_of_all is None else {"rougeL": dict.fromkeys(rows, ceiling_of_all)}
    return entry.model_copy(update={"items": rows, "ceilings": kept})


def inputs(entry: QualityEntry, **changes: Any) -> CorpusInputs:
    values: dict[str, Any] = {
        "metric": "summaries_rougeL",
        "candidate": INT8,
        "subject": "",
        "source": "summaries",
        "reference": None,
        "columns": ["rougeL"],
        "baseline": {item: [0.0] for item in entry.items},
        "limit": None,
        "policy": QualityPolicy(margin=0.01, tolerated=0.06, resamples=50),
        "score": "mean",
        "unit": "F1",
        "ceiling": ceiling(entry, "rougeL"),
    }
    return CorpusInputs(**(values | changes))


def judged_record(entry: QualityEntry) -> RunRecord:
    record = run_record(verdicts=[], quality=False).model_copy(update={"quality": [entry]})
    gate = inputs(entry)
    verdict = judge(gate, record)
    fields = asdict(verdict) | {"status": verdict.status.value, "warnings": list(verdict.warnings)}
    stored = gate.model_dump(mode="json")
    if gate.ceiling is None:
        stored.pop("ceiling")  # as an older version wrote it
    return record.model_copy(update={"verdicts": [verdict_entry(INT8, None, **fields, inputs=stored)]})


@pytest.mark.parametrize(("value", "status"), [(None, "PASS"), (0.0, "INCONCLUSIVE"), (1.0, "INCONCLUSIVE")])
def test_a_saved_record_gives_its_verdict_again(tmp_path: Path, value: float | None, status: str) -> None:
    record = load_record(save_record(judged_record(summaries(value)), tmp_path))
    (outcome,) = recompute_verdicts(record)
    assert outcome.stored.status == status
    assert outcome.agrees
    assert outcome.again is not None
    assert outcome.again.explanation == outcome.stored.explanation


def test_ceilings_that_were_tampered_with_do_not_agree() -> None:
    record = judged_record(summaries(0.0))
    (lost,) = recompute_verdicts(record.model_copy(update={"quality": [summaries(None)]}))
    assert not lost.agrees
    assert "keeps no ceilings of rougeL" in lost.problem


def test_an_older_entry_has_neither_ceilings_nor_signatures() -> None:
    older = summaries(None).model_dump(exclude={"ceilings", "signatures"})
    entry = QualityEntry.model_validate(older)
    assert ceiling(entry, "rougeL") is None
    assert ceiling(entry, "bleu") is None
    assert bleu_score(entry) == "bleu"


def test_compare_heeds_the_ceilings_of_the_new_run() -> None:
    old, blind = ([summaries(value)] for value in (None, 0.0))
    base = run_record("a", quality=False).model_copy(update={"quality": old})
    for entries, status in ((old, "PASS"), (blind, "INCONCLUSIVE")):
        new = run_record("b", quality=False).model_copy(update={"quality": entries})
        compared = compare_sessions([from_record("a", base)], from_record("b", new), Rule()).compared
        assert {item.verdict.status.value for item in compared if item.metric == "summaries"} == {status}


@pytest.mark.parametrize("weight", ["reference_length", ""])
def test_a_weight_that_the_record_lacks_is_an_error(weight: str) -> None:
    """It was taken for 1, so that a long text that is not seen weighed no more than a short one."""
    entry = summaries(0.0)
    record = run_record(quality=False).model_copy(update={"quality": [entry]})
    kept = ceiling(entry, "rougeL")
    assert kept is not None
    with pytest.raises(RecordError, match="has no column"):
        judge(inputs(entry, ceiling=kept.model_copy(update={"weight": weight})), record)


@pytest.mark.parametrize("score", ["bleu:surely", "median", "bleu:"])
def test_a_score_that_nobody_knows_is_an_error(score: str) -> None:
    entry = summaries(None)
    record = run_record(quality=False).model_copy(update={"quality": [entry]})
    gate = restore_inputs(inputs(entry, score=score).model_dump(mode="json"))
    with pytest.raises(RecordError, match="there is no score"):
        judge(gate, record)


@pytest.mark.parametrize(("signature", "score"), [("smooth:exp", "bleu"), ("smooth:add-k[1.00]", "bleu:add-k")])
def test_bleu_is_judged_by_the_smoothing_of_its_signature(signature: str, score: str) -> None:
    entry = quality_entry(INT8, "similarity", items=COUNT)
    signed = entry.model_copy(update={"signatures": {"bleu": f"nrefs:1|tok:13a|{signature}|version:2.6.0"}})
    assert bleu_score(signed) == score


@pytest.mark.parametrize(("smoothing", "named"), [("exp", True), ("add-k[1.00]", False)])
def test_smoothing_is_no_remedy_beside_longer_answers_or_twice(smoothing: str, named: bool) -> None:
    entry = quality_entry(INT8, "similarity", items=COUNT)
    changes = {"signatures": {"bleu": f"nrefs:1|tok:13a|smooth:{smoothing}"}, "ceilings": {"bleu": {}}}
    found = ceiling(entry.model_copy(update=changes), "bleu")
    assert found is not None
    assert ("where all have fewer than four words, quality.bleu_smoothing: add-k" in found.remedy) is named
    assert "longer answers" in found.remedy


@pytest.mark.parametrize(("tokenizer", "named"), [("default", True), ("unicode", False)])
def test_the_remedy_is_not_what_is_chosen_already(tokenizer: str, named: bool) -> None:
    entry = summaries(0.0).model_copy(update={"signatures": {"rouge": f"nrefs:1|tok:{tokenizer}|version:0.1.2"}})
    found = ceiling(entry, "rougeL")
    assert found is not None
    assert ("rouge_tokenizer" in found.remedy) is named
    assert "longer summaries in quality.articles" in found.remedy
