"""Whether a model can have what a configuration asks of it, as far as its ``config.json`` says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginegate.config.schema import ConfigFile
from enginegate.core.errors import ConfigError
from enginegate.models.randomized import geometry
from enginegate.models.source_syntax import RandomSource


def config_of(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint, its part for text; empty where it cannot be had."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):  # whoever resolves the model says what is wrong with it
        return {}
    text = found.get("text_config", found) if isinstance(found, dict) else {}
    return text if isinstance(text, dict) else {}


def config_of_random(source: RandomSource) -> dict[str, Any]:
    """Likewise, of random weights. Raises ModelError for an unknown geometry."""
    return geometry(source.geometry).config


def positions_of(model: Mapping[str, Any]) -> int | None:
    """Tokens that a model has positions for; None where its configuration does not say."""
    found = (model.get(name) for name in ("max_position_embeddings", "n_positions"))
    return next((each for each in found if type(each) is int and each > 0), None)


def too_long(file: ConfigFile, model: Mapping[str, Any]) -> list[str]:
    """A line for each length that the model cannot have."""
    positions = positions_of(model)
    asked = {
        "workload.input_len + workload.output_len": file.workload.input_len + file.workload.output_len,
        "limits.max_input_len + limits.max_output_len": file.limits.max_input_len + file.limits.max_output_len,
    }
    return [
        f"  {keys}: {length} tokens are over the {positions} positions that model {file.model.name} has: shorten them"
        for keys, length in asked.items()
        if positions is not None and length > positions
    ]


def check_positions(file: ConfigFile, folder: Path) -> None:
    """Raise ConfigError where the checkpoint in ``folder`` has too few positions for what is asked of it."""
    problems = too_long(file, config_of(folder))
    if problems:
        raise ConfigError("\n".join(["the configuration does not fit its model:", *problems]), "fix the named keys")
