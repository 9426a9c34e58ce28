"""Which files of a checkpoint hold its weights, and how many weights the model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.models.integrity import read_checkpoint_json

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
#: Weights in formats that no loader here reads. Exported copies of a model often lie beside it.
_OTHER_FORMATS = frozenset((".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".tflite", ".npz"))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a checkpoint's weights, in the order of their names: those that its loaders read.

    That is ``model.safetensors``, as Transformers takes it first, else the files that the index names. Whatever
    other safetensors lie beside them belong to something else.

    Raises:
        ModelError: there are none, the index cannot be read, or a file that it names is missing.
    """
    if (folder / _SINGLE).is_file():
        return (folder / _SINGLE,)
    if not (folder / _INDEX).is_file():
        raise ModelError(
            f"{folder} has no weights: neither {_SINGLE} nor {_INDEX} is there",
            "fetch the checkpoint again, or save the model with save_pretrained",
        )
    placed = read_checkpoint_json(folder / _INDEX).get("weight_map")
    names = set(placed.values()) if isinstance(placed, dict) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelError(f"{folder / _INDEX} has no weight_map of tensors and files", "fetch the checkpoint again")
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise ModelError(f"{folder / missing[0]} is missing, though {_INDEX} names it", "fetch the checkpoint again")
    return tuple(folder / name for name in sorted(names))


def other_weights(folder: Path) -> frozenset[Path]:
    """Files of weights beside a checkpoint's own: copies in other formats, files that no loader reads, their index."""
    own = weight_files(folder)
    used = {*own, *([] if own == (folder / _SINGLE,) else [folder / _INDEX])}
    return frozenset(
        file
        for file in folder.iterdir()
        if file not in used
        and (file.name.endswith((".safetensors", ".safetensors.index.json")) or file.suffix.lower() in _OTHER_FORMATS)
    )


def count_weights(folder: Path) -> int:
    """How many weights a checkpoint's model has, as its configuration says; those that two layers share count once.

    Raises:
        ModelError: Transformers knows no such model.
    """
    return sum(weight.numel() for weight in empty_model(folder).parameters())


def empty_model(folder: Path) -> Any:
    """The model of ``config.json`` in Transformers, with weights that have a shape and no memory.

    Raises:
        ModelError: Transformers knows no such model, or cannot make it of this configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                AutoConfig.from_pretrained(folder, trust_remote_code=False), trust_remote_code=False
            )
    except Exception as error:  # the libraries raise many kinds
        raise ModelError(
            f"{folder / 'config.json'}: Transformers cannot make this model: {type(error).__name__}: {error}",
            "see that config.json is the model's own, and that the installed Transformers knows its model_type",
        ) from error
