"""How far equal prompts give equal tokens: asked twice, and alone against in a batch. Reported, not gated."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_determinism(quality, request):
    scores = quality("determinism").scores
    request.node.user_properties.extend(scores.items())
    assert all(0.0 <= value <= 1.0 for value in scores.values())
