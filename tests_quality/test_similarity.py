"""Greedy answers against the reference's own: BLEU, ROUGE and length."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_bleu(quality, gate):
    assert gate.bleu(quality("similarity"))


def test_rouge(quality, gate):
    assert gate.rouge(quality("similarity"), "rougeL")


def test_output_length(quality, gate):
    assert gate.output_length(quality("similarity"))
