"""What Transformers says about a checkpoint that it loaded, in one line. Needs no third-party package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

#: Names that a message shows of a list.
SHOWN = 3


def loading_problem(folder: Path, report: Mapping[str, Iterable[object]]) -> str:
    """What is wrong with a checkpoint, by ``output_loading_info`` of Transformers; empty where all tensors fit.

    What Transformers itself ignores (rotary tables, masks, tied copies) is not in the report.

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
            ("unexpected", sorted(map(str, report.get("unexpected_keys", ())))),
            ("of another shape", sorted(map(_mismatch, report.get("mismatched_keys", ())))),
            ("not loaded", [str(message) for message in report.get("error_msgs", ())]),
        )
        if names
    ]
    return f"the weights of {folder} are not those of the model in its config.json: {'; '.join(parts)}" if parts else ""


def shown(names: Iterable[str]) -> str:
    """The first names of a list, and that there are more."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")


def _mismatch(entry: object) -> str:
    if not isinstance(entry, tuple):
        return str(entry)
    name, stored, wanted = entry
    return f"{name}: stored {tuple(stored)}, in the model {tuple(wanted)}"
