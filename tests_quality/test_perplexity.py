"""Perplexity of held-out passages, scored by decode steps so that the KV cache's precision takes part."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_perplexity(quality, gate):
    assert gate.perplexity(quality("perplexity"))
