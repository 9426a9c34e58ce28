"""Speculative decoding: the tokens are the same, and it is as fast as the configuration asks for."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.techniques, pytest.mark.parametrize("by", ["ngram", "draft"])]


def test_tokens(technique, gate, by):
    assert gate.same_tokens(technique(by))


def test_speed(technique, gate, by):
    assert gate.technique(technique(by))
