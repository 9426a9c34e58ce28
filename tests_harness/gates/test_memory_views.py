"""Predicted against measured memory: the KV cache to the byte, the total within its share."""

from __future__ import annotations

from typing import Any

import pytest
from enginegate.gates.memory_views import judge_views
from enginegate.gates.verdict import Status

KV, TOTAL = 1_000_000, 400_000_000
HONEST: dict[str, Any] = {
    "kv": KV,
    "kv_views": {"the engine says": KV, "its pool has": KV},
    "at_most": False,
    "total": TOTAL,
    "measured": TOTAL,
    "tolerated": 0.05,
    "spread": 8_000_000,
    "unsure": "",
    "metric": "memory_law",
    "subject": "int8_wo b1 memory",
}


def test_what_is_as_predicted_passes():
    verdict = judge_views(**HONEST)
    assert verdict.status is Status.PASS
    assert "KV cache of 1,000,000 bytes, as predicted; 400.0 MB in all, predicted 400.0 (+0.0 %)" in verdict.explanation


@pytest.mark.parametrize("view", ["the engine says", "its pool has"])
@pytest.mark.parametrize("value", [2 * KV, KV + 1, KV - 1, 0])
def test_a_kv_cache_of_another_size_fails_in_whichever_view(view, value):
    verdict = judge_views(**HONEST | {"kv_views": HONEST["kv_views"] | {view: value}})
    assert verdict.status is Status.FAIL
    assert f"should have 1,000,000 bytes; {view} {value:,}" in verdict.explanation


def test_a_pool_that_something_else_limits_may_be_smaller_and_never_larger():
    smaller = {"the engine says": KV // 2, "its pool has": None}
    assert judge_views(**HONEST | {"at_most": True, "kv_views": smaller}).status is Status.PASS
    larger = {"the engine says": KV + 1, "its pool has": None}
    assert judge_views(**HONEST | {"at_most": True, "kv_views": larger}).status is Status.FAIL


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("off", "status"), [(27_999_999, Status.PASS), (28_000_001, Status.FAIL)])
def test_the_total_may_be_off_by_its_share_and_the_spread(off, status, sign):
    assert judge_views(**HONEST | {"measured": TOTAL + sign * off}).status is status


def test_a_total_of_a_law_that_may_not_hold_here_decides_nothing_but_its_kv_cache_does():
    other = HONEST | {"unsure": "it was measured with version 1", "measured": 2 * TOTAL}
    verdict = judge_views(**other)
    assert verdict.status is Status.INCONCLUSIVE
    assert "28.0 MB off, but it was measured with version 1" in verdict.explanation
    assert judge_views(**other | {"kv_views": {"the engine says": 2 * KV}}).status is Status.FAIL


def test_without_a_total_the_kv_cache_is_judged_alone():
    verdict = judge_views(**HONEST | {"total": None, "measured": 9 * TOTAL})
    assert verdict.status is Status.PASS
    assert "no total was predicted" in verdict.explanation
