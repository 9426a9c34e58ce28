"""A Llama of random weights that is small enough to build and run in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

#: 2 layers, 4 heads of 16 and 2 KV heads; weights wide enough that greedy choices are not near-ties.
SHAPE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def save_tiny_llama(folder: Path, element_type: str = "float32", **changes: Any) -> None:
    """Write the weights of seed 0 and their configuration, SHAPE with ``changes``, into ``folder``."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes}))
    model.to(getattr(torch, element_type)).save_pretrained(folder)
