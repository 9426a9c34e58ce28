"""Which files are a model's weights, and how many weights it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enginegate.core.errors import ModelError
from enginegate.models.weights import count_weights, other_weights, weight_files
from enginegate.testing import SHAPE, save_tiny_llama
from safetensors.numpy import save_file

HEAD = SHAPE["vocab_size"] * SHAPE["hidden_size"]


def save_again(folder: Path, **more: Any) -> None:
    """Write the weights once more, with others beside them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({**load_file(file), **more}, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, int]:
    """Weights of the tiny Llama by whether input and output share theirs, counted from what Transformers stored."""
    from safetensors import safe_open

    found = {}
    for tied in (False, True):
        folder = tmp_path_factory.mktemp("tiny") / "model"
        save_tiny_llama(folder, tie_word_embeddings=tied)
        with safe_open(folder / "model.safetensors", framework="pt") as stored:  # type: ignore[no-untyped-call]
            found[tied] = sum(stored.get_tensor(name).numel() for name in stored.keys())  # noqa: SIM118 - no mapping
    return found


def test_the_output_layer_is_what_tied_models_lack(sizes: dict[bool, int]) -> None:
    assert sizes[False] - sizes[True] == HEAD


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_those_that_the_model_has(tied: bool, tmp_path: Path, sizes: dict[bool, int]) -> None:
    save_tiny_llama(tmp_path, tie_word_embeddings=tied)
    assert count_weights(tmp_path) == sizes[tied]
    (tmp_path / "another.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    assert count_weights(tmp_path) == sizes[tied], "another file beside the model"


def test_tied_weights_that_are_stored_twice_count_once(tmp_path: Path, sizes: dict[bool, int]) -> None:
    from safetensors.torch import load_file

    save_tiny_llama(tmp_path, tie_word_embeddings=True)
    embedding = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    save_again(tmp_path, **{"lm_head.weight": embedding.clone()})
    assert count_weights(tmp_path) == sizes[True]


def test_masks_that_are_stored_beside_weights_do_not_count(tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path)
    save_again(tmp_path, **{"transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32)})
    assert count_weights(tmp_path) == model.num_parameters()


def test_packed_weights_count_as_the_weights_that_they_stand_for(tmp_path: Path, sizes: dict[bool, int]) -> None:
    save_tiny_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert count_weights(tmp_path) == sizes[False]


@pytest.mark.parametrize("content", [{"model_type": "nobody-knows"}, {"model_type": "llama", "hidden_size": "wide"}])
def test_a_model_that_cannot_be_made_is_a_clear_error(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"config\.json: Transformers cannot make this model"):
        count_weights(tmp_path)


def test_the_index_decides_where_the_model_is_in_parts(tmp_path: Path) -> None:
    for name, tensors in {"b.safetensors": "xz", "a.safetensors": "y", "c.safetensors": "x"}.items():
        save_file({tensor: np.zeros(1, np.float32) for tensor in tensors}, tmp_path / name)
    for name in ("consolidated.safetensors.index.json", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})
    )
    assert [file.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
    others = {file.name for file in other_weights(tmp_path)}
    assert others == {"c.safetensors", "consolidated.safetensors.index.json"}
