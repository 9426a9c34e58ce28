"""Scheduling: batches in flight against static ones, the order of waiting requests, and nobody starves."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.techniques]


def test_inflight(technique, gate):
    assert gate.technique(technique("inflight"))


def test_first_come_first_served(technique, gate):
    assert gate.in_order(technique("inflight"))


@pytest.mark.parametrize("order", ["sjf", "priority"])
def test_order(technique, gate, order):
    assert gate.technique(technique(order))
