"""Multiple choice two ways: by the answer's letter (MMLU's format) and by the answer's text (cloze)."""

import pytest

pytestmark = pytest.mark.eg_quality


def test_letters(quality, gate):
    assert gate.accuracy(quality("letters"), "acc")


def test_cloze(quality, gate):
    assert gate.accuracy(quality("cloze"), "acc_norm")


def test_cloze_flips(quality, gate):
    assert gate.flips(quality("cloze"), "chosen_norm")
