"""A config.json's attention: each kind, layers that differ, and what is refused by name."""

from __future__ import annotations

import json

import pytest
from enginegate.core.errors import ModelError
from enginegate.models.attention import AttentionKind, attention_of, read_attention

LLAMA = {"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 64}


@pytest.mark.parametrize(
    ("keys", "kv_heads", "name"),
    [
        ({}, 8, "multi-head"),
        ({"num_key_value_heads": 2}, 2, "grouped-query"),
        ({"num_key_value_heads": 1}, 1, "multi-query"),
        ({"multi_query": True}, 1, "multi-query"),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4}, 4, "grouped-query"),
    ],
)
def test_heads_whose_keys_are_kept(keys, kv_heads, name):
    (kind,) = attention_of({**LLAMA, **keys}).kinds
    assert (kind, kind.name) == (AttentionKind(4, 8, kv_heads, 8, 8), name)


def test_mla_keeps_a_latent_vector_and_one_rotary_key():
    sizes = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    (kind,) = attention_of({**LLAMA, **sizes}).kinds
    assert (kind.latent, kind.key_size, kind.value_size, kind.kv_heads) == (576, 192, 128, 8)
    assert kind.name == "multi-head latent (MLA)"


@pytest.mark.parametrize(
    ("keys", "windows"),
    [
        ({"sliding_window": None}, [None] * 4),
        ({"model_type": "mistral", "sliding_window": 16}, [16] * 4),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}, [None] * 4),
        (
            {"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": True, "max_window_layers": 3},
            [None, None, None, 16],
        ),
        ({"sliding_window": 16, "sliding_window_pattern": 2}, [16, None, 16, None]),
        ({"model_type": "gemma2", "sliding_window": 16}, [16, None, 16, None]),
        (
            {"sliding_window": 16, "layer_types": ["full_attention", *["sliding_attention"] * 3]},
            [None, 16, 16, 16],
        ),
    ],
)
def test_windows_of_the_layers(keys, windows):
    kinds = attention_of({**LLAMA, **keys}).kinds
    assert {kind.window: kind.layers for kind in kinds} == {window: windows.count(window) for window in windows}


def test_layers_with_heads_of_their_own():
    kinds = attention_of({**LLAMA, "num_key_value_heads": [8, 2, 2, 1]}).kinds
    assert [(kind.layers, kind.kv_heads) for kind in kinds] == [(1, 8), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"num_attention_heads": None}, "num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ({"num_key_value_heads": 3}, "no multiple of 3 KV heads"),
        ({"num_key_value_heads": "2"}, "num_key_value_heads is '2'"),
        ({"num_key_value_heads": [8, 2]}, "KV heads of 2 layers"),
        ({"hidden_size": 63}, "hidden_size 63"),
        ({"head_dim": -1}, "head_dim is -1"),
        ({"sliding_window": 16}, "nothing says which layers of a llama"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types names 3 layers"),
        ({"layer_types": ["full_attention"] * 3 + ["linear_attention"]}, "linear_attention"),
        ({"layer_types": ["sliding_attention"] * 4}, "sliding_window says no length"),
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"linear_num_key_heads": 16}, "linear_num_key_heads"),
        ({"num_kv_shared_layers": 2}, "num_kv_shared_layers"),
        ({"index_topk": 2048}, "index_topk"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM does not generate"),
    ],
)
def test_what_has_no_law_is_refused_by_its_name(keys, named):
    with pytest.raises(ModelError, match=named):
        attention_of({**LLAMA, **keys}, "some/config.json")


def test_what_a_configuration_leaves_out_is_filled_in_by_transformers(tmp_path):
    """Gemma 3's published config.json names neither its heads nor which layers have the window."""
    pytest.importorskip("transformers")
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 12, "sliding_window": 1024}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "gemma3", "text_config": text}), encoding="utf-8")
    kinds = read_attention(tmp_path).kinds
    assert [(kind.layers, kind.kv_heads, kind.key_size, kind.window) for kind in kinds] == [
        (10, 4, 256, 1024),
        (2, 4, 256, None),
    ]
    assert read_attention(file).kinds == kinds


@pytest.mark.parametrize("content", ["", "[]", "{", '{"num_hidden_layers": 2}'])
def test_a_file_that_is_no_configuration(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_attention(tmp_path)
