"""Chunked prefill: answers that are under way go on while long prompts arrive."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.techniques]


def test_interference(technique, gate):
    assert gate.technique(technique("chunked_prefill"))
