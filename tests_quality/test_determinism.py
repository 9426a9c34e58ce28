"""How far equal prompts give equal tokens: asked twice, and alone against in a batch. Reported, not gated."""

import pytest

pytestmark = pytest.mark.quality


def test_determinism(quality, record_property):
    scores = quality("determinism").scores
    for name, value in scores.items():
        record_property(name, value)
    assert all(0.0 <= value <= 1.0 for value in scores.values())
