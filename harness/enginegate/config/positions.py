"""Whether a model has positions for the sequences that a configuration asks of it."""

from __future__ import annotations

import json
from pathlib import Path

from enginegate.config.schema import ConfigFile
from enginegate.core.errors import ConfigError
from enginegate.models.randomized import geometry


def positions_of(folder: Path) -> int | None:
    """Tokens that the checkpoint in ``folder`` has positions for; None where its ``config.json`` does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):  # whoever resolves the model says what is wrong with it
        return None
    text = config.get("text_config", config) if isinstance(config, dict) else {}
    found = [text.get(name) for name in ("max_position_embeddings", "n_positions")] if isinstance(text, dict) else []
    return next((each for each in found if type(each) is int and each > 0), None)


def positions_of_random(source: str) -> int:
    """Likewise, of a source ``random:GEOMETRY…``. Raises ModelError for an unknown geometry."""
    return geometry(source.removeprefix("random:").partition("?")[0]).context_length


def too_long(file: ConfigFile, positions: int) -> list[str]:
    """A line for each length that a model of so many positions cannot have."""
    asked = {
        "workload.input_len + workload.output_len": file.workload.input_len + file.workload.output_len,
        "limits.max_input_len + limits.max_output_len": file.limits.max_input_len + file.limits.max_output_len,
    }
    return [
        f"  {keys}: {length} tokens are over the {positions} positions that model {file.model.name} has: shorten them"
        for keys, length in asked.items()
        if length > positions
    ]


def check_positions(file: ConfigFile, folder: Path) -> None:
    """Raise ConfigError where the checkpoint in ``folder`` has too few positions for what is asked of it."""
    positions = positions_of(folder)
    problems = [] if positions is None else too_long(file, positions)
    if problems:
        raise ConfigError("\n".join(["the configuration does not fit its model:", *problems]), "fix the named keys")
