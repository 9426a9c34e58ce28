"""Every family of GGUF files against Transformers: a small model of random weights, written as such a file.

The converted checkpoint gives the logits of the model that the file was written from, and its tensors are those that
Transformers' own loader of GGUF files finds in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from enginegate.core.errors import ModelError
from enginegate.models.gguf import convert_gguf
from enginegate.models.gguf_families import FAMILIES
from enginegate.models.whole import check_tensors
from models_fakes import MARKERS, MERGES, interleave_rows, vocabulary

torch = pytest.importorskip("torch")

#: Names of one layer's tensors in a GGUF file, by those in Transformers; ``None``: of the family's own.
ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "input_layernorm": "attn_norm",
}
TWO_NORMS = {**ATTENTION, "post_attention_layernorm": "ffn_norm"}
FOUR_NORMS = {
    **ATTENTION,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}

SMALL = {
    "vocab_size": len(vocabulary()),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LONG = {name: [1.0 + step * place / 8 for place in range(8)] for name, step in (("short", 0.5), ("long", 3.0))}
STRETCHED = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": 8.0}


@dataclass(frozen=True)
class Case:
    """A model of one family, and what its file says besides its sizes."""

    architecture: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    rope: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=lambda: TWO_NORMS)
    tied: bool = False


def llama3_factors(theta: float, head: int) -> np.ndarray:
    """What each frequency is divided by, as the converter of llama.cpp writes it: pair by pair."""
    found = []
    for place in range(0, head, 2):
        length = 2 * math.pi * theta ** (place / head)
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192 / 1:
            found.append(8.0)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            found.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(found, dtype=np.float32)


GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
CASES = {
    "llama": Case("llama", "llama", rope={"rope_theta": 100000.0}, metadata={"rope.dimension_count": 16}),
    "llama, linear": Case(
        "llama",
        "llama",
        rope={"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0},
        metadata={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama 3.1": Case(
        "llama",
        "llama",
        rope={"rope_theta": 500000.0, **STRETCHED, "original_max_position_embeddings": 8192},
        metadata={"vocab_size": len(vocabulary())},
        tables={"rope_freqs.weight": llama3_factors(500000.0, 16)},
        tied=True,
    ),
    "qwen2": Case("qwen2", "qwen2", rope={"rope_theta": 1000000.0}, tied=True),
    "qwen3": Case(
        "qwen3",
        "qwen3",
        config={"head_dim": 32},
        rope={"rope_theta": 1000000.0},
        metadata={"attention.key_length": 32, "attention.value_length": 32},
    ),
    "phi3": Case(
        "phi3",
        "phi3",
        config={"sliding_window": 32, "original_max_position_embeddings": 256},
        rope={"rope_theta": 10000.0},
        metadata={
            "attention.sliding_window": 32,
            "rope.dimension_count": 16,
            "rope.scaling.original_context_length": 256,
        },
    ),
    "phi3, long": Case(
        "phi3",
        "phi3",
        config={"sliding_window": None, "original_max_position_embeddings": 64},
        rope={
            "rope_theta": 10000.0,
            "rope_type": "longrope",
            "short_factor": LONG["short"],
            "long_factor": LONG["long"],
            "original_max_position_embeddings": 64,
        },
        metadata={
            "rope.dimension_count": 16,
            "rope.scaling.original_context_length": 64,
            "rope.scaling.attn_factor": math.sqrt(1 + math.log(4) / math.log(64)),
        },
        tables={f"rope_factors_{name}.weight": np.array(LONG[name], dtype=np.float32) for name in LONG},
    ),
    "gemma2": Case(
        "gemma2",
        "gemma2",
        config={**GEMMA, "attn_logit_softcapping": 40.0, "final_logit_softcapping": 20.0},
        rope={"rope_theta": 10000.0},
        metadata={
            "attention.key_length": 32,
            "attention.value_length": 32,
            "attention.sliding_window": 16,
            "attn_logit_softcapping": 40.0,
            "final_logit_softcapping": 20.0,
        },
        names=FOUR_NORMS,
        tied=True,
    ),
    "gemma3": Case(
        "gemma3",
        "gemma3_text",
        config={**GEMMA, "num_hidden_layers": 6},
        rope={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
        },
        metadata={
            "attention.key_length": 32,
            "attention.value_length": 32,
            "attention.sliding_window": 16,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        names=FOUR_NORMS,
        tied=True,
    ),
}


@contextmanager
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def original(case: Case) -> Any:
    """The model that the file is written from, every weight its own number."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        case.model_type,
        **{**SMALL, "tie_word_embeddings": case.tied, **case.config},
        rope_parameters={"rope_type": "default", **case.rope} if "full_attention" not in case.rope else case.rope,
    )
    with seeded():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():
            parameter.data.normal_(0.0, 0.2)
    return model


def write_family(path: Path, case: Case, model: Any) -> None:
    config, architecture = model.config, case.architecture
    theta = case.rope.get("full_attention", case.rope)["rope_theta"]
    values = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": theta,
        **case.metadata,
    }
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)]
        add(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(MARKERS) + [1] * (len(vocabulary()) - len(MARKERS)))
    writer.add_token_merges([f"{first} {second}" for first, second in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    for name, tensor in model.state_dict().items():
        if case.tied and name == "lm_head.weight":
            continue
        weight = tensor.numpy()
        stem, _, kind = name.rpartition(".")
        short = WHOLE.get(stem)
        if short is None:
            _, _, layer, *rest = stem.split(".")
            own = case.names[".".join(rest)]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(own)
            if architecture == "llama" and heads:
                weight = interleave_rows(weight, heads)
            short = f"blk.{layer}.{own}"
        if architecture.startswith("gemma") and short.endswith("norm"):
            weight = weight + np.float32(1)
        writer.add_tensor(f"{short}.{kind}", np.ascontiguousarray(weight))
    for name, table in case.tables.items():
        writer.add_tensor(name, table)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(model: Any, tokens: int = 100) -> Any:
    """Of more tokens than any window, and by plain attention: others leave Gemma's cap of its scores out."""
    with seeded(), torch.inference_mode():
        return model(torch.randint(3, SMALL["vocab_size"], (1, tokens))).logits


def test_every_family_is_here() -> None:
    assert {case.architecture for case in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", CASES)
def test_a_converted_model_computes_what_the_original_does(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    case = CASES[name]
    model = original(case)
    write_family(tmp_path / "model.gguf", case, model)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    assert convert_gguf(tmp_path / "model.gguf", folder, lambda _: None) == ""
    check_tensors(folder)
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    difference = (logits(converted) - logits(model)).abs().max().item()
    assert difference < 1e-4 * logits(model).abs().max().item()
    _compare_with_transformers(tmp_path / "model.gguf", converted)


def _compare_with_transformers(path: Path, converted: Any) -> None:
    """Its loader reads the same tensors. Of settings it leaves out some, which is why it is not what converts."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    loaded = load_gguf_checkpoint(path, return_tensors=True, model_to_load=converted)
    ours = converted.state_dict()
    assert loaded["tensors"].keys() >= ours.keys() - {"lm_head.weight"}
    for tensor, theirs in loaded["tensors"].items():
        torch.testing.assert_close(ours[tensor], theirs, rtol=0, atol=0, msg=tensor)
    assert loaded["config"]["model_type"] == converted.config.model_type
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size"):
        assert loaded["config"][key] == getattr(converted.config, key), key


def test_what_stretches_positions_in_another_way_is_refused(tmp_path: Path) -> None:
    case = CASES["llama 3.1"]
    table = {"rope_freqs.weight": case.tables["rope_freqs.weight"] * np.float32(1.01)}
    other = Case(**{**vars(case), "tables": table})
    write_family(tmp_path / "model.gguf", other, original(case))
    with pytest.raises(ModelError, match=r"rope_freqs\.weight is not Llama 3\.1's table"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, print)


@pytest.mark.parametrize("left_out", ["rope_factors_short.weight", "rope.scaling.attn_factor"])
def test_half_of_what_stretches_phi_is_refused(left_out: str, tmp_path: Path) -> None:
    case = CASES["phi3, long"]
    less = {key: {k: v for k, v in getattr(case, key).items() if k != left_out} for key in ("metadata", "tables")}
    write_family(tmp_path / "model.gguf", Case(**{**vars(case), **less}), original(case))
    with pytest.raises(ModelError, match="are not those of a Phi with 256 positions, trained with 64"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, print)


def test_the_ends_of_an_answer_are_the_familys_besides_the_files_own(tmp_path: Path) -> None:
    case = CASES["qwen2"]
    write_family(tmp_path / "model.gguf", case, original(case))
    convert_gguf(tmp_path / "model.gguf", tmp_path, print)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert "bos_token" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
