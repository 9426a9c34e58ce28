"""GGUF files become checkpoints with the same weights and the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from enginegate.core.errors import ModelError
from enginegate.models.gguf import _read_tensors, _Shape, convert_gguf
from enginegate.models.integrity import check_checkpoint
from enginegate.models.tokenizer import Tokenizer
from models_fakes import TEMPLATE, random_weights, write_gguf
from safetensors.numpy import load_file


def convert(tmp_path: Path, **options: str) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_gguf(tmp_path / "model.gguf", random_weights(), **options)
    convert_gguf(tmp_path / "model.gguf", folder, print)
    check_checkpoint(folder)
    return folder


def test_float_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    expected = random_weights()
    found = load_file(convert(tmp_path) / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


def test_quantized_weights_are_their_blocks_scale_times_integer_plus_offset(tmp_path: Path) -> None:
    found = load_file(convert(tmp_path, quantization="Q4_1") / "model.safetensors")
    for name, weight in random_weights().items():
        if weight.ndim == 1:
            np.testing.assert_array_equal(found[name], weight)
            continue
        assert found[name].dtype == np.float32
        blocks, original = found[name].reshape(-1, 32), weight.reshape(-1, 32)
        assert max(len(np.unique(block)) for block in blocks) <= 16
        step = (original.max(axis=1) - original.min(axis=1)) / 15
        # half a step from the rounding, and the float16 of scale and offset
        assert np.all(np.abs(blocks - original) <= 0.5 * step[:, None] + 1e-3)


def test_the_config_is_the_metadata(tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = convert(tmp_path)
    written = json.loads((folder / "config.json").read_text())
    assert written["rms_norm_eps"] == 1e-5
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 64, 96)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 16)
    assert config.tie_word_embeddings is True
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert "rope_theta" in written
    rope = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", None)}
    assert rope["rope_theta"] == 100000.0
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def test_the_tokenizer_is_the_files(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(convert(tmp_path))
    assert tokenizer.has_chat_template
    assert json.loads((tmp_path / "checkpoint" / "tokenizer_config.json").read_text())["chat_template"] == TEMPLATE
    assert [tokenizer.decode([i]) for i in tokenizer.encode("the 12the")] == ["the", " ", "1", "2", "the"]


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        convert(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one" / "checkpoint").iterdir())
    assert len(files) == 5
    for name in files:
        one, two = (tmp_path / folder / "checkpoint" / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_an_output_matrix_of_its_own_unties_the_embeddings(tmp_path: Path) -> None:
    weights = random_weights()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    (tmp_path / "checkpoint").mkdir()
    write_gguf(tmp_path / "model.gguf", weights)
    convert_gguf(tmp_path / "model.gguf", tmp_path / "checkpoint", print)
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["tie_word_embeddings"] is False
    found = load_file(tmp_path / "checkpoint" / "model.safetensors")
    np.testing.assert_array_equal(found["lm_head.weight"], weights["lm_head.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"architecture": "qwen2"}, "only the Llama architecture"), ({"pre_tokenizer": "llama-bpe"}, "a guess would")],
)
def test_what_is_not_known_is_refused(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        convert(tmp_path, **options)


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    weights = random_weights()
    del weights["model.norm.weight"]
    write_gguf(tmp_path / "model.gguf", weights)
    with pytest.raises(ModelError, match=r"missing \['output_norm"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, print)


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_cut_or_foreign_file_is_refused(keep: int, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    content = (tmp_path / "model.gguf").read_bytes()[:keep]
    (tmp_path / "cut.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path, print)


def test_a_file_cut_in_its_tensors_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "model.gguf").read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path, print)


@pytest.mark.parametrize(
    ("layers", "head", "message"),
    [(9, 16, "says 9 layers, but holds 0 tensors"), (0, 15, "says heads of 15 values, but rotary")],
)
def test_sizes_that_no_llama_has_are_each_named(layers: int, head: int, message: str) -> None:
    shape = _Shape(layers=layers, hidden=64, mlp=96, heads=4, kv_heads=2, head=head, vocabulary=263)
    with pytest.raises(ModelError, match=message):
        _read_tensors(SimpleNamespace(tensors=[]), Path("model.gguf"), shape)
