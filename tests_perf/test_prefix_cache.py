"""Prefix caching: what it saves where prompts begin the same, and that no timed engine has it."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.techniques]


def test_gain(technique, gate):
    assert gate.technique(technique("prefix_cache"))


def test_off_while_timed(technique, gate):
    assert gate.technique(technique("prefix_off"))
