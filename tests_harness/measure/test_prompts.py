"""Timed prompts: exact lengths, decided by their seed."""

from __future__ import annotations

import pytest
from enginegate.core.errors import ConfigError
from enginegate.measure.prompts import PromptPool
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 100), st.integers(-5, 50))
def test_prompts_have_exact_lengths_and_are_decided_by_their_seed(batch_size, input_len, seed, index):
    pool = PromptPool.from_texts([[1, 2, 3], [4, 5]], input_len)
    prompts = pool.batch(batch_size, input_len, seed=seed, round_index=index)
    assert [len(prompt) for prompt in prompts] == [input_len] * batch_size
    assert prompts == pool.batch(batch_size, input_len, seed=seed, round_index=index)


def test_an_empty_prompt_file_is_refused():
    with pytest.raises(ConfigError, match="no text"):
        PromptPool.from_texts([], 8)
