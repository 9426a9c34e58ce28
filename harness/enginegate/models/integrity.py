"""Whether a folder is a checkpoint that can be read: looked at before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json

_WEIGHTS, _WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
#: Files that are pickles or hold one, which run whatever code they name when they are read.
_PICKLED = frozenset((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"))
#: Pickled files that an error names.
_NAMED = 5
_HEADER_LENGTH_BYTES = 8


class UntrustedError(ModelError):
    """A checkpoint that could only be loaded by running code that it brings."""


def runs_code(file: Path) -> bool:
    """Whether a checkpoint's file is code, or a pickle, which runs code when it is read."""
    return file.suffix.lower() in _PICKLED or file.suffix == ".py"


def check_checkpoint(folder: Path) -> None:
    """Check that a folder holds a config and whole weights, and needs no code of its own. Reads headers only.

    Pickled weights beside safetensors are ignored here and by all who load.

    Raises:
        ModelError: ``config.json`` is missing or no model's, there are no weights, a shard is missing, or a
            safetensors file is shorter or longer than its header says.
        UntrustedError: ``config.json`` names code to run, or all weights are pickled.
    """
    if not folder.is_dir():
        raise ModelError(f"no checkpoint at {folder}: not a folder", "give the folder that holds config.json")
    config = read_checkpoint_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{folder / 'config.json'} has no model_type, so it is not a Hugging Face model config",
            "save the model with save_pretrained",
        )
    _check_trust(folder, config)
    shards = sorted(folder.glob("*.safetensors"))
    if (folder / _WEIGHTS_INDEX).exists():
        named = {folder / name for name in read_checkpoint_json(folder / _WEIGHTS_INDEX).get("weight_map", {}).values()}
        for missing in sorted(named - set(shards)):
            raise ModelError(f"{missing} is missing, though {_WEIGHTS_INDEX} names it", "fetch the checkpoint again")
    for shard in shards:
        _check_safetensors(shard)
    if not shards:
        raise ModelError(
            f"{folder} has no weights: no *.safetensors",
            "fetch the checkpoint again, or save the model with save_pretrained; pickled weights of a hub are not read "
            "(docs/adding_a_model.md)",
        )


def _check_trust(folder: Path, config: Mapping[str, Any]) -> None:
    code = config.get("auto_map")
    if code:
        named = ", ".join(map(str, code.values())) if isinstance(code, dict) else str(code)
        raise UntrustedError(
            f"{folder / 'config.json'} names code of the checkpoint's own to run (auto_map: {named}), and none is run",
            f"where the installed Transformers knows model_type {config['model_type']} itself, take auto_map out of a "
            "copy's config.json and name that as path:DIR",
        )
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in _PICKLED)
    if pickled and not (folder / _WEIGHTS).exists() and not (folder / _WEIGHTS_INDEX).exists():
        more = f" and {len(pickled) - _NAMED} more" if len(pickled) > _NAMED else ""
        raise UntrustedError(
            f"{folder} has its weights as pickles alone ({', '.join(pickled[:_NAMED])}{more}), and a pickle runs code "
            "when it is read",
            "convert weights that you trust: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR) and "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(NEW_DIR), and name path:NEW_DIR; or take a revision "
            "that has safetensors",
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
