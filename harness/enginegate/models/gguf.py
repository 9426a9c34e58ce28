"""Converting a GGUF file of the Llama family into a Hugging Face checkpoint.

Written against the formats themselves, because the loader in Transformers changes the tokenizer on the way: it adds
fill-in-the-middle tokens and a beginning-of-sequence rule, and forgets that digits are split.

The weights are stored as float32. Quantized GGUF values are a float16 scale times a small integer plus a float16
offset; float32 holds what the dequantization yields, while float16 and bfloat16 would round it, and the reference that
all quality is measured against would then be a rounded copy. Engines cast down from it themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.cache import Progress
from enginegate.core.errors import ModelError
from enginegate.models.bpe import write_tokenizer

#: Tensor names of one layer: in the GGUF file, and in Transformers' LlamaForCausalLM.
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # the GGUF format's token type of markers such as <|im_end|>
#: Names of pre-tokenizers that split digits one by one and then work on GPT-2's words.
_DIGIT_SPLITTING = {"smollm"}


def convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    """Write a Hugging Face checkpoint with float32 weights into the existing empty ``folder``.

    Raises:
        ModelError: the file is damaged, or uses an architecture, tokenizer or tensor type not known here.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
        values = _Metadata(source, {name: field.contents() for name, field in reader.fields.items()})
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{source} is not a readable GGUF file: {error}", "fetch it again") from error
    architecture = values["general.architecture"]
    if architecture != "llama" or values.get("llama.rope.scaling.type") is not None:
        raise ModelError(
            f"{source}: only the Llama architecture with plain rotary positions can be converted, "
            f"this is {architecture!r}",
            "use a Hugging Face checkpoint of this model (path: or hub:)",
        )
    progress("writing the tokenizer")
    _write_tokenizer(values, folder)
    progress("dequantizing the weights to float32")
    tensors = _read_tensors(reader, values)
    _write_config(values, folder, tied="lm_head.weight" not in tensors)
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class _Metadata:
    """The file's key-value pairs; asking for one that is missing is a ModelError."""

    def __init__(self, source: Path, values: dict[str, Any]) -> None:
        self.source = source
        self._values = values

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise ModelError(f"{self.source} has no {key}", "use a GGUF file that carries the model's whole metadata")
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)


def _read_tensors(reader: Any, values: _Metadata) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor by its Transformers name, float32, dequantized."""
    from gguf.quants import dequantize

    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for layer in range(values["llama.block_count"]):
        for ours, theirs in _LAYER_TENSORS.items():
            names[f"blk.{layer}.{ours}.weight"] = f"model.layers.{layer}.{theirs}.weight"
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if "output.weight" in stored:
        names["output.weight"] = "lm_head.weight"
    if stored.keys() != names.keys():
        raise ModelError(
            f"{values.source} does not hold a Llama's tensors: missing {sorted(names.keys() - stored.keys())[:3]}, "
            f"unknown {sorted(stored.keys() - names.keys())[:3]}",
            "use a Hugging Face checkpoint of this model (path: or hub:)",
        )
    heads = {"attn_q": values["llama.attention.head_count"], "attn_k": _key_value_heads(values)}
    tensors = {}
    for name, tensor in stored.items():
        try:
            weight = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            raise ModelError(f"{values.source}: tensor type {tensor.tensor_type.name} is not supported") from error
        part = name.split(".")[-2]
        if part in heads:
            weight = _unpermute(weight, heads[part])
        tensors[names[name]] = np.ascontiguousarray(weight)
    return tensors


def _unpermute(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undo GGUF's row order of query and key projections.

    Rotary positions turn pairs of rows. GGUF puts the two rows of a pair next to each other; Transformers puts all
    first rows of a head before all second ones.
    """
    rows, columns = weight.shape
    pairs: np.ndarray[Any, Any] = weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2)
    return pairs.reshape(rows, columns)


def _key_value_heads(values: _Metadata) -> int:
    return int(values.get("llama.attention.head_count_kv", values["llama.attention.head_count"]))


def _write_config(values: _Metadata, folder: Path, *, tied: bool) -> None:
    """Write ``config.json`` and ``generation_config.json`` in the keys that every version of Transformers reads."""
    hidden, heads = values["llama.embedding_length"], values["llama.attention.head_count"]
    special = {f"{role}_token_id": i for role, i in _special_ids(values).items() if role != "unk"}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "intermediate_size": values["llama.feed_forward_length"],
        "num_hidden_layers": values["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": _key_value_heads(values),
        "head_dim": values.get("llama.attention.key_length", hidden // heads),
        "hidden_act": "silu",
        "max_position_embeddings": values["llama.context_length"],
        "rms_norm_eps": _shortest(values["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _shortest(values.get("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        **special,
    }
    for name, content in (("config.json", config), ("generation_config.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _shortest(value: float) -> float:
    """The number somebody wrote before it was stored as float32: 9.999999747378752e-06 was 1e-05."""
    return float(str(np.float32(value)))


def _special_ids(values: _Metadata) -> dict[str, int]:
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    found = {role: values.get(f"tokenizer.ggml.{name}_token_id") for role, name in roles.items()}
    return {role: int(i) for role, i in found.items() if i is not None}


def _write_tokenizer(values: _Metadata, folder: Path) -> None:
    kind, splitting = values["tokenizer.ggml.model"], values["tokenizer.ggml.pre"]
    if kind != "gpt2" or splitting not in _DIGIT_SPLITTING:
        raise ModelError(
            f"{values.source}: the tokenizer {kind!r} with pre-tokenizer {splitting!r} is not known here, "
            "and a guess would change the tokens",
            "use a Hugging Face checkpoint of this model (path: or hub:)",
        )
    kinds = values["tokenizer.ggml.token_type"]
    write_tokenizer(
        folder,
        tokens=values["tokenizer.ggml.tokens"],
        merges=[(first, second) for first, second in (m.split(" ") for m in values["tokenizer.ggml.merges"])],
        control_ids=[i for i, token_kind in enumerate(kinds) if token_kind == _CONTROL_TOKEN],
        special_ids=_special_ids(values),
        split_digits=True,
        chat_template=values.get("tokenizer.chat_template", ""),
        max_length=values["llama.context_length"],
    )
