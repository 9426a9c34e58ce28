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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.cache import Progress
from enginegate.core.errors import ModelError
from enginegate.core.progress import Step
from enginegate.models.gguf_families import configuration, family_of
from enginegate.models.gguf_file import GgufFile
from enginegate.models.gguf_tensors import check_layers, embedding_of, read_tensors
from enginegate.models.gguf_tokenizer import Specials, write_tokenizer_of
from enginegate.models.tensors import WEIGHTS, WEIGHTS_INDEX
from enginegate.models.weights import empty_model

#: At most this much in one file, and in memory.
_FILE_BYTES = 4 << 30


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
    model = empty_model(folder, len(file.tensors))
    _write_weights(read_tensors(file, family, model, embedding, tied=tied), folder)
    return file.quantization()


def _write_weights(tensors: Iterator[tuple[str, np.ndarray[Any, Any]]], folder: Path) -> None:
    """Write the tensors into one file, or several of at most ``_FILE_BYTES``, one of which is in memory at a time."""
    from safetensors.numpy import save_file

    parts: list[list[str]] = []
    part: dict[str, np.ndarray[Any, Any]] = {}
    total = 0

    def save() -> None:
        save_file(part, folder / f"{len(parts)}.part", metadata={"format": "pt"})
        parts.append(list(part))
        part.clear()

    for name, weight in tensors:
        if part and sum(each.nbytes for each in part.values()) + weight.nbytes > _FILE_BYTES:
            save()
        part[name] = weight
        total += weight.nbytes
    save()
    names = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    for number, name in enumerate(names if len(names) > 1 else [WEIGHTS]):
        (folder / f"{number}.part").rename(folder / name)
    if len(names) > 1:
        places = {tensor: name for name, held in zip(names, parts, strict=True) for tensor in held}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


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
