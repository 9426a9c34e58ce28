"""Which tensors a checkpoint's files hold: read from the headers of its safetensors files and from their index.

The format: eight bytes with the header's length, little endian; the header, a JSON object that gives each tensor's
element type, shape, and start and end in the data; the data, without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json
from enginegate.models.loading import shown

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_LENGTH_BYTES = 8
#: The format's own limit.
_LONGEST_HEADER = 100_000_000
_AGAIN = "fetch the checkpoint again"
#: Bits of one element.
_BITS = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file.

    Attributes:
        file: where it lies.
        dtype: element type in the format's names: ``BF16``, ``F32``, ``I8`` ….
        shape: elements along each axis.
        begin, end: bytes from the file's start.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """By name, every tensor that loaders read of a checkpoint: of ``model.safetensors``, else of the index's files.

    Raises:
        ModelError: there are no weights, a file is missing or damaged, or the index and the files contradict each
            other.
    """
    index = folder / WEIGHTS_INDEX
    placed = _placed(index) if index.is_file() else {}
    if (folder / WEIGHTS).is_file():  # which Transformers takes; an index beside it may be that of other files
        names = [WEIGHTS]
    elif placed:
        names = sorted(set(placed.values()))
    else:
        raise ModelError(
            f"{folder} has no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX} is there",
            f"{_AGAIN}, or save the model with save_pretrained; pickled weights of a hub are not read "
            "(docs/adding_a_model.md)",
        )
    for name in names:
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing, though {WEIGHTS_INDEX} names it", _AGAIN)
    found: dict[str, StoredTensor] = {}
    for name in names:
        stored = read_tensors(folder / name)
        if name in placed.values():
            _compare(folder / name, stored, {tensor for tensor, file in placed.items() if file == name})
        found |= stored
    return found


def _compare(file: Path, stored: Mapping[str, StoredTensor], promised: Set[str]) -> None:
    """Raise ModelError unless a file holds what the index places in it."""
    for problem, unmatched in (
        (f"lacks tensors that {WEIGHTS_INDEX} places in it", promised - stored.keys()),
        (f"holds tensors that {WEIGHTS_INDEX} does not place in it", stored.keys() - promised),
    ):
        if unmatched:
            raise ModelError(f"{file} {problem}: {len(unmatched)} ({shown(sorted(unmatched))})", _AGAIN)


def _placed(index: Path) -> dict[str, str]:
    """The file of each tensor, as the index says."""
    placed = read_json(index, ModelError, _AGAIN).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelError(f"{index} has no weight_map of tensors and their files", _AGAIN)
    for tensor, name in placed.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{index}: its weight_map places {tensor} in {name!r}, which is no safetensors file of the folder",
                _AGAIN,
            )
    return placed


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of one file, by name. Raises ModelError where the file is not as long or laid out as it says."""
    try:
        return _read_header(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"its header lacks {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{path} is damaged: {reason}", _AGAIN) from error


def _read_header(path: Path) -> dict[str, StoredTensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(size - _LENGTH_BYTES, _LONGEST_HEADER):
            raise ValueError(f"its header should be {length} bytes long, the whole file is {size}")
        header = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    start = _LENGTH_BYTES + length
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    end = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise ValueError(f"tensor {name!r} does not begin where the one before it ends")
        end = tensor.end
    if size != end:
        raise ValueError(f"it is {size} bytes long, its header says {end}")
    return tensors


def _tensor(path: Path, name: str, entry: Mapping[str, Any], start: int) -> StoredTensor:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r} has the unknown element type {dtype!r}")
    for values in (shape, offsets):
        if not isinstance(values, list) or any(type(value) is not int or value < 0 for value in values):
            raise ValueError(f"tensor {name!r} has a shape or offsets that are no whole numbers")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"tensor {name!r} has {end - begin} bytes, which is not what {dtype} {shape} takes")
    return StoredTensor(path, dtype, tuple(shape), start + begin, start + end)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"its header has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found
