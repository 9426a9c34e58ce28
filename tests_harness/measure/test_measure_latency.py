"""Latency figures from token times, and refusing rounds that are none."""

from __future__ import annotations

import pytest
from enginegate.core.errors import MeasurementError
from enginegate.engines.base import Generation
from enginegate.measure.latency import check_generations, summarise, token_gaps


def generation(*times: float, tokens: int | None = None) -> Generation:
    return Generation(tuple(range(tokens if tokens is not None else len(times))), tuple(times), "length")


def test_ttft_and_itl_come_from_token_times():
    latency = summarise([generation(0.2, 0.3, 0.5), generation(0.4, 0.5, 0.9)])
    assert latency["ttft"] == pytest.approx(0.3)
    assert latency["itl_p50"] == pytest.approx(0.15)  # gaps 0.1, 0.2, 0.1, 0.4
    assert latency["itl_p99"] == pytest.approx(0.394)


def test_tokens_that_arrive_together_share_their_gap():
    """Most tokens of a speculating engine come in groups: a median of gaps of zero would say nothing of its speed."""
    assert token_gaps([0.2, 0.3, 0.3, 0.6]) == pytest.approx([0.05, 0.05, 0.3])
    assert token_gaps([0.2, 0.2, 0.4]) == pytest.approx([0.2])
    assert summarise([generation(0.2, 0.5, 0.5, 0.5, 0.8, 0.8, 0.8)])["itl_p50"] == pytest.approx(0.1)


def test_one_token_has_a_ttft_and_no_itl():
    latency = summarise([generation(0.2)])
    assert latency == pytest.approx({"ttft": 0.2, "last_token": 0.2}), "gaps were NaN, which is no JSON"


@pytest.mark.parametrize(
    ("generations", "reason"),
    [
        ([generation(0.1, 0.2)], "answered 1 of 2 prompts"),
        ([generation(0.1, 0.2), generation(0.1)], "produced 1 tokens where 2 were asked"),
        ([generation(0.1, 0.2), generation(0.1, 0.2, 0.3)], "produced 3 tokens where 2 were asked"),
        ([generation(0.1, 0.2), generation(0.1, tokens=2)], "missing or not finite"),
        ([generation(0.1, 0.2), generation(0.1, float("nan"))], "missing or not finite"),
        ([generation(0.1, 0.2), generation(0.2, 0.1)], "decrease"),
        ([generation(0.1, 0.2), generation(0.1, 5.0)], "outside the round"),
        ([generation(0.1, 0.2), generation(-0.1, 0.2)], "outside the round"),
    ],
)
def test_a_round_that_is_not_the_work_asked_is_refused(generations, reason):
    with pytest.raises(MeasurementError, match=reason):
        check_generations(generations, 2, 2, 1.0)


def test_a_proper_round_is_taken():
    check_generations([generation(0.1, 0.2), generation(0.1, 1.0)], 2, 2, 1.0)
