"""Which files of a checkpoint hold its weights, and how many weights the model has."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError, edge
from enginegate.models.tensors import WEIGHTS, WEIGHTS_INDEX, stored_tensors

#: Settings that say how many layers there are. Each has a tensor of its own, at least.
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers")
#: Settings that say how many experts a layer has, which one tensor may hold together, and more than any model has.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_TOO_MANY_EXPERTS = 100_000
#: Names of embeddings and output layers.
_EMBEDDING = re.compile(r"(^|[._])(embed\w*|wte|wpe|lm_head|embed_out|output_layer)[._]")
#: Weights in formats that no loader here reads. Exported copies of a model often lie beside it.
_OTHER_FORMATS = frozenset((".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".tflite", ".npz"))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a checkpoint's weights, in the order of their names: those that its loaders read.

    That is ``model.safetensors``, as Transformers takes it first, else the files that the index names. Whatever
    other safetensors lie beside them belong to something else.

    Raises:
        ModelError: see ``stored_tensors``.
    """
    return tuple(sorted({tensor.file for tensor in stored_tensors(folder).values()}))


def other_weights(folder: Path) -> frozenset[Path]:
    """Files of weights beside a checkpoint's own: copies in other formats, files that no loader reads, their index."""
    own = weight_files(folder)
    used = {*own, *([] if own == (folder / WEIGHTS,) else [folder / WEIGHTS_INDEX])}
    return frozenset(
        file
        for file in folder.iterdir()
        if file not in used
        and (file.name.endswith((".safetensors", ".safetensors.index.json")) or file.suffix.lower() in _OTHER_FORMATS)
    )


@dataclass(frozen=True)
class WeightCounts:
    """A model's weights by how they are stored; those that two layers share count once.

    Attributes:
        matrices, rows: weights of the layers' matrices, and output channels of them all.
        embeddings, embedding_rows: the same of the embeddings and the output layer.
        others: norms and biases.
    """

    matrices: int
    rows: int
    embeddings: int
    embedding_rows: int
    others: int


def weight_counts(folder: Path) -> WeightCounts:
    """The weights that the ``config.json`` in ``folder`` asks for.

    Raises:
        ModelError: Transformers knows no such model.
    """
    found = {"matrices": 0, "rows": 0, "embeddings": 0, "embedding_rows": 0, "others": 0}
    for name, weight in empty_model(folder).named_parameters():
        if weight.dim() < 2:
            found["others"] += weight.numel()
            continue
        kind = ("embeddings", "embedding_rows") if _EMBEDDING.search(name) else ("matrices", "rows")
        found[kind[0]] += weight.numel()
        found[kind[1]] += weight.numel() // weight.shape[-1]
    return WeightCounts(**found)


def count_weights(folder: Path) -> int:
    """How many weights a checkpoint's model has, as its configuration says; those that two layers share count once.

    Raises:
        ModelError: Transformers knows no such model.
    """
    return sum(weight.numel() for weight in empty_model(folder).parameters())


def empty_model(folder: Path, tensors: int | None = None) -> Any:
    """The model of ``config.json`` in Transformers, with weights that have a shape and no memory.

    Args:
        folder: the checkpoint; only its ``config.json`` is read.
        tensors: how many its files hold. A config of more layers is refused: making millions of them would not end.

    Raises:
        ModelError: torch is missing, Transformers knows no such model, or cannot make it of this configuration.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"torch is not installed, so nobody can tell which weights the config of {folder} asks for",
            "pip install 'enginegate[hf]'",
        ) from error
    from transformers import AutoConfig, AutoModelForCausalLM

    with making(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if tensors is not None:
            _check_counts(config, tensors)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def making(folder: Path) -> AbstractContextManager[None]:
    """Around what Transformers does with a checkpoint's configuration: what it raises becomes a ModelError."""
    return edge(
        ModelError,
        f"{folder / 'config.json'}: Transformers cannot make this model (version {metadata.version('transformers')})",
        "check config.json; a model_type that is newer than the installed Transformers needs a newer one",
    )


def _check_counts(config: Any, tensors: int) -> None:
    """Raise ValueError where there are fewer tensors than layers."""
    text = config.get_text_config()
    most = {**dict.fromkeys(_LAYERS, tensors), **dict.fromkeys(_EXPERTS, max(tensors, _TOO_MANY_EXPERTS))}
    for name, limit in most.items():
        count = getattr(text, name, None)
        if isinstance(count, int) and count > limit:
            raise ValueError(f"{name} is {count}, but the files hold {tensors} tensors in all")
