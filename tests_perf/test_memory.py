"""Memory, in a process of its own: after loading, the peak while generating, the KV cache's budget, and its law."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]


@pytest.mark.parametrize("field", ["loaded", "peak", "kv_budget"])
def test_memory(memory, workload, gate, field):
    assert gate.memory(memory, workload, field)


def test_memory_law(predicted_memory, workload, gate):
    assert gate.memory_law(predicted_memory, workload)
