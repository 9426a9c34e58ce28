"""docs/quality_results.md: the sentences above its tables are what its records say."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from enginegate.gates.verdict import Status
from scripted import scripts_of

RECORD = "sensitivity.json.gz"


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    with scripts_of("sensitivity") as script:
        yield script("page")


@pytest.fixture(scope="module")
def verdicts(page):
    record, engines = page._read(RECORD)
    return {bad: page.judged(engines[good], engines[bad], engines["bf16"]) for bad, good in record["pairs"].items()}


@pytest.mark.heavy
def test_no_gate_fails_bf16_beside_fp32_ten_times_out_of_ten(verdicts):
    unbroken = [found for bad, found in verdicts.items() if bad.startswith("bf16 in batches")]
    assert len(unbroken) == 10
    for found in unbroken:
        assert Status.FAIL not in {verdict.status for verdict in found.values()}
        assert found["divergence"].status is Status.PASS


@pytest.mark.heavy
def test_every_broken_engine_fails_and_divergence_sees_every_change_of_weights(verdicts):
    broken = {bad: found for bad, found in verdicts.items() if not bad.startswith("bf16 in batches")}
    assert len(broken) == 11
    for bad, found in broken.items():
        assert Status.FAIL in {verdict.status for verdict in found.values()}, bad
        if bad.startswith("int"):
            assert found["divergence"].status is Status.FAIL, bad
    for after in ("another chat template", "temperature 1 left on", "answers of one token, repeated"):
        assert broken[after]["divergence"].status is Status.PASS
        assert broken[after]["accuracy"].status is Status.PASS
        assert broken[after]["BLEU"].status is Status.FAIL


def test_a_coarser_group_is_seen_with_few_tokens(page):
    assert next(page.few(RECORD)).endswith("10 of 10 FAIL.")
