"""Whether the tensors that a checkpoint's files hold are those that the model of its config has.

Transformers itself is asked, as it is what makes the reference and what every export begins with: it loads the
checkpoint from tensors that have a name and a shape, and no values and no memory, and reports what does not fit.
So its rules for prefixes, renamed and merged tensors, tied weights and tables that it ignores are its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import write_atomically
from enginegate.models.loading import is_mask_or_weight, loading_problem, not_of_config, shown
from enginegate.models.quantized import check_landed, check_plain
from enginegate.models.tensors import StoredTensor, stored_tensors
from enginegate.models.weights import empty_model, making

#: Raised when the checks change, so that what passed older ones is looked at again.
_RECIPE = 2
_READ_BYTES = 1 << 22


def check_whole(folder: Path, digest: str, cache: Path) -> None:
    """Check that a checkpoint's weights are plain and fit its config. Asks Transformers once for each content.

    Args:
        folder: a checkpoint that passed ``check_checkpoint``.
        digest: of its files.
        cache: keeps that a checkpoint of this digest passed; where it cannot be written, the next call asks again.

    Raises:
        ModelError: see ``check_plain`` and ``check_tensors``.
    """
    passed = {"transformers": metadata.version("transformers"), "recipe": _RECIPE}
    note = cache / "whole" / f"{digest[:32]}.json"
    with suppress(OSError, ValueError):
        if json.loads(note.read_text(encoding="utf-8")) == passed:
            return
    check_plain(folder)
    check_tensors(folder)
    with suppress(OSError):
        write_atomically(note, json.dumps(passed))


def check_tensors(folder: Path) -> None:
    """Compare the tensors of a checkpoint's files with those of the model that its config describes.

    Raises:
        ModelError: torch is missing, Transformers cannot make this model, tensors are missing, unexpected or of
            another shape, weights are packed in another element type, or two that the config ties differ.
    """
    stored = stored_tensors(folder)
    weights: set[str] = set()
    with _quiet():
        kind = type(empty_model(folder, len(stored)))
        model, report = _ask(folder, kind, stored, weights)
    problem = loading_problem(folder, report) or _no_masks(folder, stored, report)
    if problem:
        raise ModelError(
            problem,
            "fetch the checkpoint again, or take config.json and weights of one revision; Transformers would fill the "
            "gaps with random numbers, and leave out what does not fit",
        )
    check_landed(folder, {name: stored[name].dtype for name in sorted(weights)})
    _check_ties(folder, stored, model)


def _no_masks(folder: Path, stored: Mapping[str, StoredTensor], report: Mapping[str, Any]) -> str:
    """Tensors without a place in the model that have the name of a causal mask, and not its shape: square."""
    names = sorted(
        name
        for name in map(str, report.get("unexpected_keys", ()))
        if is_mask_or_weight(name)
        for own, tensor in stored.items()  # the report may have put the model's prefix before the name
        if name.endswith(own) and (len(tensor.shape) < 2 or tensor.shape[-1] != tensor.shape[-2])
    )
    return not_of_config(folder, f"{len(names)} unexpected ({shown(names)})") if names else ""


def _ask(
    folder: Path, kind: Any, stored: Mapping[str, StoredTensor], weights: set[str]
) -> tuple[Any, Mapping[str, Any]]:
    """The model of the config, and what Transformers says of the stored tensors.

    ``weights`` is filled with the names of those that it makes floating-point parameters of.
    """
    from transformers import AutoConfig

    with making(folder):
        answer: tuple[Any, Mapping[str, Any]] = kind.from_pretrained(
            None,
            config=AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            state_dict=_without_values(stored, weights),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed with all others, instead of raised one by one
            trust_remote_code=False,
        )
    return answer


def _without_values(stored: Mapping[str, StoredTensor], weights: set[str]) -> dict[str, Any]:
    """Tensors of the stored names and shapes that take no memory; sent to a floating-point type they tell their name.

    A loader sends each tensor that the model has to the type of its parameter, and no other.
    """
    import torch

    class Shape(torch.Tensor):  # type: ignore[misc]
        """A tensor without values, which stays so wherever a loader sends it, and equals every other."""

        name_in_file = ""  # of what is made of others: none

        def __getitem__(self, index: Any) -> Any:
            return self if index is Ellipsis else super().__getitem__(index)

        def to(self, *places: object, **named: object) -> Any:
            kinds = [place for place in (*places, *named.values()) if isinstance(place, torch.dtype)]
            if self.name_in_file and any(kind.is_floating_point for kind in kinds):
                weights.add(self.name_in_file)
            return self

        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.equal:
                return True
            return super().__torch_function__(function, types, args, kwargs or {})

    made = {name: torch.empty(each.shape, device="meta").as_subclass(Shape) for name, each in stored.items()}
    for name, shape in made.items():
        shape.name_in_file = name
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Transformers' report and progress bar off the terminal: what it says becomes an error."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    shown_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown_bar:
            transformers_logging.enable_progress_bar()


def _check_ties(folder: Path, stored: Mapping[str, StoredTensor], model: Any) -> None:
    """Raise ModelError where two stored tensors that the model has as one differ: loaders disagree which to take."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(parameter), []).append(name)
    for names in groups.values():
        first, *others = [name for name in names if name in stored] or [""]
        for other in others:
            if not _same_values(stored[first], stored[other]):
                raise ModelError(
                    f"{folder}: config.json says that {shown([first, other])} are one tensor "
                    "(tie_word_embeddings), but the files hold two with different values",
                    "set tie_word_embeddings to false in a copy's config.json where the model was trained so; else "
                    "save the model again with save_pretrained",
                )


def _same_values(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as left, other.file.open("rb") as right:
        left.seek(one.begin)
        right.seek(other.begin)
        remaining = one.end - one.begin
        while remaining > 0:
            size = min(remaining, _READ_BYTES)
            part = left.read(size)
            if part != right.read(size):
                return False
            remaining -= size
    return True
