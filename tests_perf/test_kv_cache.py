"""KV caches of 8 and 4 bits beside 16 of the same engine: bytes, speed, and what decode steps lose. ``-m kv_cache``."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.kv_cache]


@pytest.mark.eg_gates(0)
def test_kv_bytes(kv_pair, gate):
    assert gate.kv_bytes(kv_pair)


def test_kv_speed(kv_race, gate):
    assert gate.kv_speed(kv_race)


def test_kv_divergence(kv_pair, kv_quality, gate):
    assert gate.kv_divergence(kv_pair, kv_quality("divergence"))


def test_kv_perplexity(kv_pair, kv_quality, gate):
    kv_quality("perplexity")
    assert gate.kv_perplexity(kv_pair)
