"""Whether a folder is a checkpoint that can be read: looked at before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json

_WEIGHTS_INDEX = "model.safetensors.index.json"
_HEADER_LENGTH_BYTES = 8


def check_checkpoint(folder: Path) -> None:
    """Check that a folder holds a config and whole weights. Reads headers only.

    Raises:
        ModelError: ``config.json`` is missing or no model's, there are no weights, a shard is missing, or a
            safetensors file is shorter or longer than its header says.
    """
    if not folder.is_dir():
        raise ModelError(f"no checkpoint at {folder}: not a folder", "give the folder that holds config.json")
    config = read_checkpoint_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{folder / 'config.json'} has no model_type, so it is not a Hugging Face model config",
            "save the model with save_pretrained",
        )
    shards = sorted(folder.glob("*.safetensors"))
    if (folder / _WEIGHTS_INDEX).exists():
        named = {folder / name for name in read_checkpoint_json(folder / _WEIGHTS_INDEX).get("weight_map", {}).values()}
        for missing in sorted(named - set(shards)):
            raise ModelError(f"{missing} is missing, though {_WEIGHTS_INDEX} names it", "fetch the checkpoint again")
    for shard in shards:
        _check_safetensors(shard)
    if not shards and not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{folder} has no weights: neither *.safetensors nor pytorch_model*.bin",
            "fetch the checkpoint again, or save the model with save_pretrained",
        )


def read_checkpoint_json(path: Path) -> dict[str, Any]:
    """The JSON object in a checkpoint's file. Raises ModelError when it is missing or not one."""
    return read_json(path, ModelError, "give the folder of a complete Hugging Face checkpoint, or fetch it again")


def _check_safetensors(path: Path) -> None:
    """Compare a file's length with what its header promises.

    The format: eight bytes with the header's length, little endian; the header, a JSON object that gives each
    tensor's start and end in the data; the data.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
            if length > size - _HEADER_LENGTH_BYTES:
                raise ValueError(f"its header should be {length} bytes long, the whole file is {size}")
            header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        expected = _HEADER_LENGTH_BYTES + length + max(ends, default=0)
        if size != expected:
            raise ValueError(f"it is {size} bytes long, its header says {expected}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path} is damaged: {error}", "fetch the checkpoint again") from error
