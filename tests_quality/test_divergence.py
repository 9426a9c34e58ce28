"""KL divergence from the reference over held-out passages: how far the engine's distributions moved."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_divergence(quality, gate):
    assert gate.divergence(quality("divergence"))
