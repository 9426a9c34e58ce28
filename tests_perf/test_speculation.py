"""Speculative decoding: the tokens are the same, and it is as fast as the configuration asks for."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.techniques]


def test_tokens(technique, gate):
    assert gate.same_tokens(technique("ngram"))


def test_speed(technique, gate):
    assert gate.technique(technique("ngram"))
