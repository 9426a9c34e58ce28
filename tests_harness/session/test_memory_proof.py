"""A proof loads until one batch fits and the next does not, whatever the law said first."""

from __future__ import annotations

import pytest
from enginegate.session.memory_proof import Load, _search

MEMORY = 1000


def _engine(took):
    loads = []

    def load(batch: int) -> Load:
        loads.append(batch)
        found = took(batch)
        return Load(batch, None, found, "" if found is not None else "out of memory")

    return load, loads


@pytest.mark.parametrize("first", [1, 3, 9, 17, 18, 19, 30, 400])
@pytest.mark.parametrize(
    ("took", "largest"),
    [
        (lambda batch: 100 + 50 * batch, 18),
        (lambda batch: 100 + 50 * batch if batch <= 30 else None, 18),
        (lambda batch: 300 + 37 * batch + (batch % 3), 18),
        (lambda batch: 100 + 50 * batch if batch <= 18 else None, 18),
    ],
)
def test_the_largest_batch_is_found_from_any_guess(took, largest, first):
    load, loads = _engine(took)
    proof = _search(load, 512, MEMORY, first)
    if proof.largest is None:  # far off, and nothing but failures to learn from
        assert len(loads) == 8
        assert first == 400
    else:
        assert proof.largest == largest
        assert {largest, largest + 1} <= set(loads)
    assert len(loads) == len(set(loads)) <= 8


def test_not_even_one_fits():
    load, loads = _engine(lambda batch: 2000 + batch)
    assert _search(load, 512, MEMORY, 5).largest == 0
    assert 1 in loads


def test_an_engine_that_takes_the_same_for_any_batch_proves_nothing():
    load, loads = _engine(lambda batch: 500)
    assert _search(load, 512, MEMORY, 4).largest is None
    assert len(loads) == 8
