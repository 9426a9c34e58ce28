"""Multiple choice with ties, from a record: what counts as a flip, and what credit an item has."""

from __future__ import annotations

import pytest
from enginegate.core.records import RunRecord
from enginegate.gates.items import QualityPolicy
from enginegate.gates.verdict import Status
from enginegate.quality.choice import COLUMNS, choice_row
from enginegate.verdicts.inputs import AccuracyInputs, FlipsInputs
from enginegate.verdicts.judge import judge
from enginegate.verdicts.lookup import pick

from tests_harness.storage.factory import quality_entry, run_record

INT8 = "tiny-8m-openvino-int8_wo"
POLICY = QualityPolicy(alpha=0.01)
CHOICES = ("aa", "bb", "cc", "dd")
#: The log-likelihoods of an answer that is B, of one that is A, and of ties.
B, A = (-2.0, -1.0, -3.0, -4.0), (-1.0, -2.0, -3.0, -4.0)
A_OR_B, C_OR_D = (-1.0, -1.0, -3.0, -4.0), (-4.0, -3.0, -1.0, -1.0)


def answered(*likelihoods: tuple[float, ...], answer: int = 1) -> RunRecord:
    """A record in which one engine answered 25 questions for each of these."""
    rows = [choice_row(each, CHOICES, answer) for each in likelihoods for _ in range(25)]
    entry = quality_entry(INT8, revision=2).model_copy(
        update={"columns": list(COLUMNS), "items": {f"i{n}": [float(x) for x in row] for n, row in enumerate(rows)}}
    )
    return run_record(quality=False, verdicts=[]).model_copy(update={"quality": [entry]})


def inputs(before: RunRecord, column: str) -> dict[str, object]:
    return {
        "metric": "cloze",
        "candidate": INT8,
        "subject": "",
        "source": "cloze",
        "reference": None,
        "columns": [column],
        "baseline": pick(before.quality[0], [column]),
        "policy": POLICY,
    }


@pytest.mark.parametrize(
    ("before", "now", "flipped"),
    [
        (B, B, 0),
        (B, A, 25),
        (A, A_OR_B, 0),
        (B, A_OR_B, 0),  # the first of the tied is A: it is another answer by nothing but its place
        (A_OR_B, B, 0),
        (A_OR_B, A_OR_B, 0),
        (A_OR_B, C_OR_D, 25),
        (B, C_OR_D, 25),
    ],
)
def test_a_tie_is_a_flip_only_where_no_answer_is_shared(
    before: tuple[float, ...], now: tuple[float, ...], flipped: int
) -> None:
    gate = FlipsInputs(**inputs(answered(before, B), "tied_norm"), limit=0.05)
    verdict = judge(gate, answered(now, B))
    assert f"{flipped} of 50 answers changed" in verdict.explanation
    assert verdict.status is (Status.FAIL if flipped else Status.INCONCLUSIVE)


def test_flips_of_older_records_compare_the_first_of_the_best() -> None:
    gate = FlipsInputs(**inputs(answered(B), "chosen_norm"), limit=0.05)
    assert "25 of 25 answers changed" in judge(gate, answered(A_OR_B)).explanation


def test_an_answer_without_a_number_is_a_flip() -> None:
    record = answered(B)
    broken = record.quality[0].model_copy(
        update={"items": {item: [*row[:-1], float("nan")] for item, row in record.quality[0].items.items()}}
    )
    gate = FlipsInputs(**inputs(record, "tied_norm"), limit=0.05)
    assert judge(gate, record.model_copy(update={"quality": [broken]})).status is Status.FAIL


def test_the_credit_of_a_tie_is_judged() -> None:
    gate = AccuracyInputs(**inputs(answered(B, B, A, A), "acc_norm"), limit=None)
    same = judge(gate, answered(A_OR_B, B, A_OR_B, A))
    assert same.estimate == 0.5
    assert "12.5 lost and 12.5 gained of 100" in same.explanation
    worse = judge(gate, answered(A_OR_B, A_OR_B, A, A))
    assert worse.status is Status.FAIL
    assert "25 lost and 0 gained of 100" in worse.explanation
