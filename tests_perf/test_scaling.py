"""The shape of scaling: what twice the batch gains, and what twice the length costs. ``-m scaling``."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.scaling]


def test_throughput_scaling(batch_series, gate):
    assert gate.scaling(batch_series)


def test_itl_scaling(length_series, gate):
    assert gate.scaling(length_series)
