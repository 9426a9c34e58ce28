"""Summaries of articles against reference summaries: ROUGE."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_summary_rouge(quality, gate):
    assert gate.rouge(quality("summaries"), "rougeL")
