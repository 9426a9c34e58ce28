"""Checkpoints of a known geometry with random weights: real shapes to measure speed and memory on, and no download."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.cache import Progress
from enginegate.core.errors import ModelError
from enginegate.core.progress import Step
from enginegate.models.bpe import write_tokenizer
from enginegate.models.weights import empty_model

_MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
#: At most this much in one file; twice as much is in memory while it is written.
_SHARD_BYTES = 1 << 30
_CHUNK_VALUES = 1 << 22


def _llama(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, vocab: int, context: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }


def _qwen2(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return _llama(hidden, mlp, layers, heads, kv_heads, 151936, 32768) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    }


def _gpt2(layers: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": layers,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    }


_PHI_2: dict[str, Any] = {
    "architectures": ["PhiForCausalLM"],
    "model_type": "phi",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 51200,
    "max_position_embeddings": 2048,
    "partial_rotary_factor": 0.4,
    "rope_theta": 10000.0,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}

_LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class ModelShape:
    """A model's shape: its ``config.json`` without token ids, and the half precision it is served in."""

    config: dict[str, Any]
    dtype: str

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.config.get("hidden_size") or self.config["n_embd"])

    @property
    def context_length(self) -> int:
        """Longest sequence in tokens."""
        return int(self.config.get("max_position_embeddings") or self.config["n_positions"])

    def with_layers(self, count: int) -> ModelShape:
        """The same shapes in ``count`` layers: what one layer costs, on a device too small for all of them."""
        name = "num_hidden_layers" if "num_hidden_layers" in self.config else "n_layer"
        return ModelShape({**self.config, name: count}, self.dtype)


GEOMETRIES = {
    "tiny": ModelShape(_llama(64, 176, 2, 4, 2, 512, 2048), "bfloat16"),
    "smollm2-135m": ModelShape(
        _llama(576, 1536, 30, 9, 3, 49152, 8192) | {"tie_word_embeddings": True, "rope_theta": 100000.0}, "bfloat16"
    ),
    "tinyllama-1.1b": ModelShape(_llama(2048, 5632, 22, 32, 4, 32000, 2048), "bfloat16"),
    "phi-2": ModelShape(_PHI_2, "float16"),
    "llama-2-7b": ModelShape(_llama(4096, 11008, 32, 32, 32, 32000, 4096), "float16"),
    "gpt2": ModelShape(_gpt2(12), "float16"),
    "distilgpt2": ModelShape(_gpt2(6), "float16"),
    "llama-3.1-8b": ModelShape(
        _llama(4096, 14336, 32, 32, 8, 128256, 131072) | {"rope_theta": 500000.0, "rope_scaling": _LLAMA_3_ROPE},
        "bfloat16",
    ),
    "qwen2.5-0.5b": ModelShape(_qwen2(896, 4864, 24, 14, 2), "bfloat16"),
    "qwen2.5-1.5b": ModelShape(_qwen2(1536, 8960, 28, 12, 2), "bfloat16"),
}


def geometry(name: str) -> ModelShape:
    """Look up a geometry. Raises ModelError with the known names."""
    if name not in GEOMETRIES:
        raise ModelError(f"unknown geometry {name!r}", f"use one of {', '.join(GEOMETRIES)}")
    return GEOMETRIES[name]


def write_random_checkpoint(shape: ModelShape, seed: int, folder: Path, progress: Progress) -> None:
    """Write a checkpoint with random weights into the existing empty ``folder``; the seed decides every byte.

    Matrices are normal with standard deviation 1/sqrt(hidden size), so that activations and logits keep the order of
    one through the layers; norms are one, biases zero. The tokenizer has a token for each byte and three markers,
    so its vocabulary is smaller than the model's. Memory stays below about 3 GB for any geometry.
    """
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    _write_json(folder / "config.json", {**shape.config, **special, "torch_dtype": shape.dtype})
    _write_json(folder / "generation_config.json", special)
    from tokenizers.pre_tokenizers import ByteLevel

    write_tokenizer(
        folder,
        tokens=[*_MARKERS, *sorted(ByteLevel.alphabet())],
        merges=[],
        control_ids=range(len(_MARKERS)),
        special_ids={"bos": 1, "eos": 2, "pad": 0, "unk": 0},
        split_digits=False,
        chat_template=_CHAT_TEMPLATE,
        max_length=shape.context_length,
    )
    _write_weights(shape, seed, folder, progress)


def _write_weights(shape: ModelShape, seed: int, folder: Path, progress: Progress) -> None:
    from safetensors.torch import save_file

    shards = list(_shards(_parameter_shapes(folder)))
    placed: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        at = f"file {number} of {len(shards)}"
        progress(Step("writing random weights", at, share=(number - 1) / len(shards)))
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # numpy draws its numbers without Python's lock
            made = threads.map(lambda name: _random_tensor(name, names[name], shape, seed), names)  # noqa: B023
            tensors = dict(zip(names, made, strict=True))
        save_file(tensors, folder / name, metadata={"format": "pt"})
        placed |= dict.fromkeys(names, name)
    if len(shards) > 1:
        total = sum(2 * math.prod(size) for names in shards for size in names.values())
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        _write_json(folder / "model.safetensors.index.json", index)


def _parameter_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of the model in ``folder``, a tied one once. Allocates no weights."""
    model = empty_model(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for name, parameter in model.state_dict(keep_vars=True).items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            shapes[name] = tuple(parameter.shape)
    return shapes


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Split tensors, in their order, into files of at most ``_SHARD_BYTES`` at two bytes a value."""
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        tensor_bytes = 2 * math.prod(shape)
        if shard and size + tensor_bytes > _SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += tensor_bytes
    yield shard


def _random_tensor(name: str, size: tuple[int, ...], shape: ModelShape, seed: int) -> Any:
    """One tensor in the geometry's dtype, from a generator of its own: it depends on the seed and its name alone."""
    import torch

    dtype = getattr(torch, shape.dtype)
    if len(size) == 1:
        return torch.zeros(size, dtype=dtype) if name.endswith(".bias") else torch.ones(size, dtype=dtype)
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    scale = np.float32(shape.hidden_size**-0.5)
    tensor = torch.empty(math.prod(size), dtype=dtype)
    for start in range(0, tensor.numel(), _CHUNK_VALUES):
        part = tensor[start : start + _CHUNK_VALUES]
        part.copy_(torch.from_numpy(generator.standard_normal(part.numel(), dtype=np.float32) * scale))
    return tensor.reshape(size)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
