"""What Transformers says about a checkpoint that it loaded, in one line. Needs no third-party package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Names that a message shows of a list.
SHOWN = 3
#: Masks and tables that older versions of Transformers stored, and that every model makes anew: they are no weights.
#: A mask may be infinite, as the -1e9 of ``masked_bias`` is in float16.
_TABLE = re.compile(r"(^|\.)(masked_bias|causal_mask|rotary_emb\.(inv_freq|cos_cached|sin_cached))$")
#: Causal masks under a name that other architectures may give to a weight.
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")


def loading_problem(folder: Path, report: Mapping[str, Iterable[object]]) -> str:
    """What is wrong with a checkpoint, by ``output_loading_info`` of Transformers; empty where all tensors fit.

    What Transformers itself ignores (rotary tables, masks, tied copies) is not in the report. Masks that it does
    report are no problem: the model has no parameter of that name.

    Args:
        folder: the checkpoint.
        report: ``missing_keys`` (which the model got random numbers for), ``unexpected_keys`` (which were left out),
            ``mismatched_keys`` (name, stored shape, shape in the model; of old versions the name alone) and
            ``error_msgs``.
    """
    parts = [
        f"{len(names)} {kind} ({shown(names)})"
        for kind, names in (
            ("missing", sorted(map(str, report.get("missing_keys", ())))),
            (
                "unexpected",
                sorted(name for name in map(str, report.get("unexpected_keys", ())) if not _is_left_out(name)),
            ),
            ("of another shape", sorted(map(_mismatch, report.get("mismatched_keys", ())))),
            ("not loaded", [str(message) for message in report.get("error_msgs", ())]),
        )
        if names
    ]
    return not_of_config(folder, "; ".join(parts)) if parts else ""


def not_of_config(folder: Path, difference: str) -> str:
    """The sentence that says in what a checkpoint's weights differ from its config."""
    return f"the weights of {folder} are not those of the model in its config.json: {difference}"


def is_table(name: str) -> bool:
    """Whether a stored tensor is a mask or a table that no model has as a weight, whatever its architecture."""
    return bool(_TABLE.search(name))


def is_mask_or_weight(name: str) -> bool:
    """Whether only the architecture and the shape tell if a stored tensor is a causal mask or a weight."""
    return bool(_MASK.search(name))


def _is_left_out(name: str) -> bool:
    return is_table(name) or is_mask_or_weight(name)


def shown(names: Iterable[str]) -> str:
    """The first names of a list, and that there are more."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")


def _mismatch(entry: object) -> str:
    if not isinstance(entry, tuple):
        return str(entry)
    name, stored, wanted = entry
    return f"{name}: stored {tuple(stored)}, in the model {tuple(wanted)}"
