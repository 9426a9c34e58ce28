"""Numbers in a checkpoint's config.json that no model can have: with them it would be made, and answer nonsense."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.models.loading import shown

#: Added to a variance, so that nothing is divided by zero.
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_eps", "norm_epsilon")
#: Tokens that there are positions for. Other counts show in the shapes of the weights.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "original_max_position_embeddings")
#: Bases and factors of rotary positions, and what scores are divided by.
_DIVISORS = (
    *("rope_theta", "rope_local_base_freq", "rotary_emb_base", "factor", "partial_rotary_factor"),
    *("query_pre_attn_scalar", "logits_scaling"),
)
_RULES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(_EPSILONS, (lambda value: 0 <= value < 1, "a number from 0 to below 1")),
    **dict.fromkeys(_POSITIONS, (lambda value: value >= 1, "a number from 1 on")),
    **dict.fromkeys(_DIVISORS, (lambda value: value > 0, "a number above 0")),
}
#: Parts of a configuration that hold such numbers, one for each kind of layer at times.
_PARTS = ("text_config", "rope_scaling", "rope_parameters", "full_attention", "sliding_attention")


def check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """Look at the numbers whose bounds are the same in every architecture; ``null`` stands for the model's own.

    Args:
        path: of the file, for the error.
        config: what it holds.

    Raises:
        ModelError: one of them is out of its bounds, infinite or no number, or anything in the file is NaN.
    """
    wrong = [
        *(f"{name} is {value!r}, not {bounds}" for name, value, bounds in _out_of_bounds(config, "")),
        *(f"{name} is NaN" for name in _not_numbers(config, "") if name.rpartition(".")[2] not in _RULES),
    ]
    if wrong:
        raise ModelError(
            f"{path} describes no model that works: {shown(wrong)}",
            "fetch config.json again, from the revision that the weights are of",
        )


def _out_of_bounds(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object, str]]:
    for name, value in part.items():
        if name in _RULES and value is not None:
            allowed, bounds = _RULES[name]
            if not (_is_finite(value) and allowed(value)):
                yield prefix + name, value, bounds
        elif name in _PARTS and isinstance(value, dict):
            yield from _out_of_bounds(value, f"{prefix}{name}.")


def _not_numbers(value: object, name: str) -> Iterator[str]:
    if isinstance(value, float) and math.isnan(value):
        yield name
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from _not_numbers(inner, f"{name}.{key}".lstrip("."))


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
