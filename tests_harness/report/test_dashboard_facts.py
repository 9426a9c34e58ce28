"""What the pages of runs show, before it is markup."""

from __future__ import annotations

import math

import pytest
from enginegate.report.dashboard.facts import MEMORY, matrix, pairs, speedups, tradeoffs
from enginegate.report.dashboard.pareto import front
from enginegate.storage.runs import load_record
from hypothesis import given
from hypothesis import strategies as st

from tests_harness.report.dashboard_pages import RACED
from tests_harness.storage.factory import SPEEDUPS, memory_entry, quality_entry, run_record

POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=12)
SIDES = st.tuples(*[st.booleans()] * 3)


def beats(one: tuple[int, ...], other: tuple[int, ...], more: tuple[bool, ...]) -> bool:
    gains = [(a - b) * (1 if up else -1) for a, b, up in zip(one, other, more, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


@given(POINTS, SIDES)
def test_what_is_off_the_front_is_beaten_by_what_is_on_it(points, more):
    found = front(points, more)
    assert any(found) or not points
    on = [point for point, is_on in zip(points, found, strict=True) if is_on]
    for point, is_on in zip(points, found, strict=True):
        assert is_on != any(beats(other, point, more) for other in on)


def test_less_memory_or_a_better_score_keeps_a_slow_engine_on_the_front():
    better = {"tiny-8m-openvino-bf16": 20.0, "tiny-8m-openvino-int8_wo": 25.0, "tiny-8m-openvino-int4_awq": 26.0}
    slow = {"tiny-8m-openvino-int4_awq": 2.0}
    record = run_record(
        speedups=SPEEDUPS | slow,
        batch_sizes=(1,),
        quality=False,
        memory=[memory_entry(engine, peak=600 * 2**20 if "int4" not in engine else 700 * 2**20) for engine in SPEEDUPS],
    )
    scored = [quality_entry(engine, "perplexity", perplexity=value) for engine, value in better.items()]
    found = {
        point.engine.precision: point
        for point in tradeoffs([record.model_copy(update={"quality": scored})])
        if point.against == "Perplexity"
    }
    assert {name: point.front for name, point in found.items()} == {"bf16": True, "int8_wo": True, "int4_awq": False}
    assert found["bf16"].y == 20.0
    assert found["int8_wo"].speed == pytest.approx(64 * 2.5, rel=0.02)
    assert found["int4_awq"].memory == 700


def test_figures_of_one_build_are_joined_over_runs_and_those_of_another_are_not():
    fast = run_record("speeds", batch_sizes=(1,), quality=False)
    scores = run_record("scores", batch_sizes=()).model_copy(update={"memory": [], "arenas": []})
    joined = [point for point in tradeoffs([fast, scores]) if point.against == "Perplexity"]
    assert len(joined) == len(SPEEDUPS)
    other = [entry.model_copy(update={"key": "another build"}) for entry in scores.engines]
    apart = tradeoffs([fast, scores.model_copy(update={"engines": other})])
    assert {point.against for point in apart} == {MEMORY}


def test_random_weights_have_no_quality():
    record = run_record(batch_sizes=(1,))
    random = record.model_copy(update={"model": record.model.model_copy(update={"random_weights": True})})
    assert {point.against for point in tradeoffs([random])} == {MEMORY}


def test_a_live_pair_is_what_its_verdict_and_its_launches_say():
    record = load_record(RACED)
    found = {(pair.engine.precision, pair.workload, pair.metric): pair for pair in pairs(record)}
    assert len(found) == sum(verdict.is_raced for verdict in record.verdicts) == 18
    pair = found["int8_wo", "b8-i64-o64", "speedup"]
    (verdict,) = [
        each
        for each in record.verdicts
        if each.is_raced
        and each.metric == "speedup"
        and each.engine.endswith("int8_wo")
        and each.workload == pair.workload
    ]
    assert pair.change == verdict.change
    assert pair.low == pytest.approx(1 / verdict.interval[1] - 1)
    assert pair.high == pytest.approx(1 / verdict.interval[0] - 1)
    assert len(pair.launches) == verdict.samples == 4
    assert min(pair.launches) < pair.change < max(pair.launches)
    undecided = found["int4_awq", "b1-i64-o64", "speedup"]
    assert (undecided.status, len(undecided.launches), math.isnan(undecided.low)) == ("INCONCLUSIVE", 3, True)


def test_speed_over_the_reference_is_over_it_also_beside_a_live_base():
    found = {(each["precision"], each["workload"]): each for each in speedups(load_record(RACED))}
    assert {name for name, _ in found} == {"bf16", "int8_wo", "int4_awq"}
    assert found["int4_awq", "b1-i64-o64"]["speedup"] == pytest.approx(4.6, abs=0.2)
    assert found["bf16", "b1-i64-o64"]["speedup"] > 1.5  # over its live base it would be 1.02


def test_the_matrix_counts_every_verdict_of_an_engine():
    record = load_record(RACED)
    found = {cell.engine.precision: cell.counts for cell in matrix([record])}
    assert found["int4_awq"] == {"PASS": 11, "INCONCLUSIVE": 7}
    assert sum(sum(counts.values()) for counts in found.values()) == len(record.verdicts)
