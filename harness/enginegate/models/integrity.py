"""Whether a folder is a checkpoint that can be read: looked at before anything heavy is imported or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json
from enginegate.models.settings import check_settings
from enginegate.models.tensors import WEIGHTS, WEIGHTS_INDEX, stored_tensors

#: Files that are pickles or hold one, which run whatever code they name when they are read.
_PICKLED = frozenset((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"))
#: Pickled files that an error names.
_NAMED = 5
#: Says that the folder is an adapter to another model.
ADAPTER = "adapter_config.json"


class UntrustedError(ModelError):
    """A checkpoint that could only be loaded by running code that it brings."""


def runs_code(file: Path) -> bool:
    """Whether a checkpoint's file is code, or a pickle, which runs code when it is read."""
    return file.suffix.lower() in _PICKLED or file.suffix == ".py"


def check_checkpoint(folder: Path) -> None:
    """Check that a folder holds a config and whole weights, and needs no code of its own. Reads headers only.

    Pickled weights beside safetensors are ignored here and by all who load.

    Raises:
        ModelError: ``config.json`` is missing or no model's, the folder is an adapter, there are no weights, a file of
            them is missing or not as long as its header says, or the index and the files contradict each other.
        UntrustedError: ``config.json`` names code to run, or all weights are pickled.
    """
    if not folder.is_dir():
        raise ModelError(f"no checkpoint at {folder}: not a folder", "give the folder that holds config.json")
    _check_no_adapter(folder)
    config = read_checkpoint_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{folder / 'config.json'} has no model_type, so it is not a Hugging Face model config",
            "save the model with save_pretrained",
        )
    _check_trust(folder, config)
    check_settings(folder / "config.json", config)
    stored_tensors(folder)


def _check_no_adapter(folder: Path) -> None:
    """Where peft is installed, Transformers loads the model that this file names instead of the one that is there."""
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"{folder} holds an adapter to another model ({ADAPTER}), and which of the two is loaded depends on what "
            "is installed",
            "merge the adapter first (merge_and_unload of peft, then save_pretrained) and name the new folder; where "
            f"the weights are whole already, take {ADAPTER} out of a copy",
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
    if pickled and not (folder / WEIGHTS).exists() and not (folder / WEIGHTS_INDEX).exists():
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
