"""From the tensors of a GGUF file to those of the model in Transformers: names, order of rows, tied matrices.

Which tensors a model has, and their shapes, Transformers itself is asked, by a model without values; what each is
called in a GGUF file, the gguf package's own table says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from enginegate.core.errors import ModelError
from enginegate.models.gguf_families import Family
from enginegate.models.gguf_file import USE_ANOTHER, GgufFile
from enginegate.models.loading import SHOWN, shown

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
_HEAD = "lm_head.weight"
#: Two copies of one matrix that were quantized apart point the same way: at 2 bits by 0.95 and at 5 by 0.999 of their
#: length. An embedding and an output matrix of their own are far from it.
_SAME = 0.95


def embedding_of(file: GgufFile) -> tuple[str, bool]:
    """The tensor that holds the embedding, and whether the output matrix is the same.

    A file may hold both though the model ties them: quantizers keep the output matrix in more bits. Kept as they are,
    they would become a larger model that nobody trained, so the copy of more bits is taken for both.

    Raises:
        ModelError: a tensor type that cannot be dequantized.
    """
    if _OUTPUT not in file.tensors or _EMBEDDING not in file.tensors:
        return _EMBEDDING, True
    if file.shape(_OUTPUT) != file.shape(_EMBEDDING):
        return _EMBEDDING, False
    one, other = file.weight(_EMBEDDING), file.weight(_OUTPUT)
    packed = file.is_packed(_EMBEDDING) or file.is_packed(_OUTPUT)
    if not (_alike(one, other) if packed else np.array_equal(one, other)):
        return _EMBEDDING, False
    return max((_EMBEDDING, _OUTPUT), key=file.bits), True


def _alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether the cosine between two matrices is that of two copies of one."""
    product, lengths = float(np.vdot(one, other)), float(np.vdot(one, one)) * float(np.vdot(other, other))
    return math.isfinite(product) and 0 < lengths < math.inf and product / math.sqrt(lengths) >= _SAME


def check_layers(file: GgufFile) -> None:
    """Raise ModelError where a file says more layers than it can hold, before a model of that many is made."""
    layers = file.integer(".block_count")
    if layers > len(file.tensors):
        raise ModelError(f"{file.path} says {layers} layers, but holds {len(file.tensors)} tensors in all", USE_ANOTHER)


def read_tensors(
    file: GgufFile, family: Family, model: Any, embedding: str, *, tied: bool
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Every tensor with its name in Transformers, float32, dequantized one after the other.

    Args:
        file: the GGUF file, whose configuration was read, so that its tables are known.
        family: of its architecture.
        model: the model of that configuration, without values.
        embedding: the tensor that holds the embedding, and, where ``tied``, the output matrix.
        tied: whether these are one.

    Raises:
        ModelError: tensors are missing, unknown, of another shape, or of a type that is not known; after the last,
            some were NaN or infinite.
    """
    wanted = _wanted(file, model, tied)
    stored = file.tensors.keys() - file.tables - ({_OUTPUT} if tied else set())
    if stored != wanted.keys():
        missing, unknown = sorted(wanted.keys() - stored), sorted(stored - wanted.keys())
        raise ModelError(
            f"{file.path} does not hold the tensors of its model ({family.model_class}): {len(missing)} missing "
            f"{missing[:SHOWN]}, {len(unknown)} unknown {unknown[:SHOWN]}",
            USE_ANOTHER,
        )
    other = [
        f"{name}: {file.shape(name)}, not {shape}" for name, (_, shape) in wanted.items() if file.shape(name) != shape
    ]
    if other:
        raise ModelError(
            f"{file.path}: {len(other)} tensors are not as its metadata say ({shown(sorted(other))})", USE_ANOTHER
        )
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    broken = []
    for name, (theirs, _) in wanted.items():
        weight = file.weight(embedding if name == _EMBEDDING else name)
        if not np.isfinite(weight).all():
            broken.append(name)
        part = name.split(".")[-2]
        if family.pairs and part in heads:
            weight = _unpaired(weight, heads[part])
        if family.norm_offset and part.endswith("norm"):
            weight = weight - np.float32(family.norm_offset)
        yield theirs, np.ascontiguousarray(weight)
    if broken:
        raise ModelError(
            f"{file.path}: weights are NaN or infinite in {len(broken)} tensors ({shown(broken)})",
            "fetch it again, or use another file",
        )


def _wanted(file: GgufFile, model: Any, tied: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """By name in the GGUF file: the name in Transformers, and the shape."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    known = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    if file.architecture not in known:
        raise ModelError(
            f"{file.path}: the installed gguf does not know the architecture {file.architecture!r}",
            f"install a newer gguf, or {USE_ANOTHER}",
        )
    names = get_tensor_name_map(known[file.architecture], model.config.num_hidden_layers)
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, tensor in model.state_dict().items():
        if tied and name == _HEAD:
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored is None or stored in wanted:
            raise ModelError(
                f"{file.path}: the installed gguf has no name of its own for {name} of {file.architecture!r}",
                f"install another gguf, or {USE_ANOTHER}",
            )
        wanted[stored] = (name, tuple(tensor.shape))
    return wanted


def _unpaired(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undo GGUF's row order of query and key projections.

    Rotary positions turn pairs of rows. GGUF puts the two rows of a pair next to each other; Transformers puts all
    first rows of a head before all second ones.
    """
    half = weight.shape[0] // heads // 2
    pairs = weight.reshape(heads, half, 2, *weight.shape[1:])
    restored: np.ndarray[Any, Any] = pairs.swapaxes(1, 2).reshape(weight.shape)
    return restored
