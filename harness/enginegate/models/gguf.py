"""Converting a GGUF file into a Hugging Face checkpoint.

Written against the formats themselves, because the loader in Transformers changes the tokenizer on the way: it adds
fill-in-the-middle tokens and a beginning-of-sequence rule, and forgets that digits are split. It leaves out settings,
too, such as Llama 3.1's rotary positions. Its tensors are the same, which a test holds for every family.

The weights are stored as float32. Quantized GGUF values are a float16 scale times a small integer plus a float16
offset; float32 holds what the dequantization yields, while float16 and bfloat16 would round it, and the reference that
all quality is measured against would then be a rounded copy. Engines cast down from it themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from enginegate.core.cache import Progress
from enginegate.core.errors import ModelError
from enginegate.core.progress import Step
from enginegate.models.gguf_families import configuration, family_of
from enginegate.models.gguf_file import GgufFile
from enginegate.models.gguf_tensors import check_layers, embedding_of, read_tensors
from enginegate.models.gguf_tokenizer import Specials, write_tokenizer_of
from enginegate.models.weights import empty_model


def convert_gguf(source: Path, folder: Path, progress: Progress) -> str:
    """Write a Hugging Face checkpoint with float32 weights into the existing empty ``folder``.

    Returns:
        What most of the weights were quantized to, as ``4 bits (Q4_K_M)``; empty where none were.

    Raises:
        ModelError: the file is damaged, uses an architecture, setting, tokenizer or tensor type not known here, its
            tensors are not those that its metadata describe, or some are NaN or infinite.
    """
    file = GgufFile.read(source)
    family = family_of(file)
    check_layers(file)
    progress(Step("writing the tokenizer"))
    specials = write_tokenizer_of(file, family, folder)
    progress(Step("dequantizing the weights to float32"))
    embedding, tied = embedding_of(file)
    config = configuration(file, family, vocabulary=_vocabulary(file), tied=tied)
    _write_config(folder, config, specials)
    tensors = read_tensors(file, family, empty_model(folder, len(file.tensors)), embedding, tied=tied)
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return file.quantization()


def _vocabulary(file: GgufFile) -> int:
    """Rows of the embedding, as the metadata say. Raises ModelError where there are more tokens."""
    tokens = len(file.items("tokenizer.ggml.tokens", str))
    rows = file.integer(".vocab_size", tokens)
    if tokens > rows:
        raise ModelError(
            f"{file.path} says a vocabulary of {rows}, but holds {tokens} tokens", "fetch it again, or use another file"
        )
    return rows


def _write_config(folder: Path, config: dict[str, Any], specials: Specials) -> None:
    roles: dict[str, Any] = {f"{role}_token_id": index for role, index in specials.ids.items() if role != "unk"}
    ends: dict[str, Any] = {}
    if specials.ends:
        ends["eos_token_id"] = list(specials.ends) if len(specials.ends) > 1 else specials.ends[0]
    for name, content in (("config.json", {**config, **roles}), ("generation_config.json", {**roles, **ends})):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
