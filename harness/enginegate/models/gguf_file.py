"""Reading a GGUF file: its metadata, each value asked for by its kind, and its tensors, dequantized one by one."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from enginegate.core.errors import ModelError
from enginegate.models.loading import shown

#: What to do with a file that cannot be converted.
USE_ANOTHER = "use a Hugging Face checkpoint of this model (path: or hub:)"
#: What to do with a file whose metadata have gaps.
_WHOLE_METADATA = "use a GGUF file that carries the model's whole metadata"
#: Names of element types that hold plain numbers.
_PLAIN = frozenset(("F64", "F32", "F16", "BF16"))
#: Bits of a weight, in the name of a quantization: Q4_K_M, IQ2_XXS, TQ1_0, MXFP4.
_BITS = re.compile(r"(?:Q|FP)(\d+)")


class GgufFile:
    """One GGUF file, open for reading.

    A key that begins with a dot is the architecture's own: ``.block_count`` of a Llama is ``llama.block_count``. Which
    of those were asked for is kept, so that one that nobody knows can be refused instead of left out.

    Attributes:
        path: where it lies.
        architecture: as the file names it.
        tensors: by name, the reader's entries.
        tables: names of tensors that were read as part of the configuration; they are no weights.
    """

    def __init__(self, path: Path, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        self.path = path
        self.tensors = tensors
        self.tables: set[str] = set()
        self._values = values
        self._asked: set[str] = set()
        self.architecture = self.text("general.architecture")

    @classmethod
    def read(cls, path: Path) -> GgufFile:
        """Read the metadata and where the tensors lie.

        Raises:
            ModelError: the file is damaged, of a type that the installed gguf does not know, no model, or one part of
                several.
        """
        from gguf import GGUFReader

        class Bounded(GGUFReader):  # type: ignore[misc]
            """The reader, which by itself goes on behind the end of a cut file, for ever where a length is large."""

            def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
                found = super()._get(offset, dtype, count, override_order)
                if len(found) < int(count):
                    raise ValueError(f"it ends where {int(count)} values of {np.dtype(dtype)} should be, at {offset}")
                return found

        try:
            reader = Bounded(path)
            values = {name: field.contents() for name, field in reader.fields.items()}
            end = reader.data_offset
            for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
                if tensor.data_offset < end:
                    raise ValueError(f"tensor {tensor.name!r} overlaps the one before it")
                end = tensor.data_offset + tensor.n_bytes
        except Exception as error:  # of every kind that a damaged file can provoke in the reader
            unknown_type = "GGMLQuantizationType" in str(error)
            raise ModelError(
                f"{path} holds a tensor type that the installed gguf does not know: {error}"
                if unknown_type
                else f"{path} is not a readable GGUF file: {type(error).__name__}: {error}",
                f"install a newer gguf, or {USE_ANOTHER}" if unknown_type else "fetch it again",
            ) from error
        file = cls(path, values, {tensor.name: tensor for tensor in reader.tensors})
        file._check_one_model()
        return file

    def _check_one_model(self) -> None:
        kind = self.get("general.type", "model")
        if kind != "model":
            raise ModelError(f"{self.path} holds no model, but {kind!r} (general.type)", "name the file of the model")
        parts = self.integer("split.count", 0, least=0)
        if parts > 1:
            raise ModelError(
                f"{self.path} is one of {parts} parts of a model",
                "join them (`llama-gguf-split --merge FIRST_PART.gguf WHOLE.gguf`) and name the whole file",
            )

    def get(self, key: str, default: Any = None) -> Any:
        """A value of any kind, or ``default``."""
        return self._values.get(self._full(key), default)

    def text(self, key: str) -> str:
        """A text. Raises ModelError where it is missing or none; so do the others."""
        value = self._required(key)
        return value if isinstance(value, str) else self._refuse(key, value, "text")

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self._required(key) if default is None else self.get(key, default)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return int(value) if whole else self._refuse(key, value, f"a whole number of at least {least}")

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number, as somebody wrote it before it was stored as float32: 9.999999747e-06 was 1e-05."""
        value = self._required(key) if default is None else self.get(key, default)
        positive = isinstance(value, float) and 0 < value < math.inf
        return shortest(value) if positive else self._refuse(key, value, "a positive number")

    def items(self, key: str, kind: type) -> list[Any]:
        """A list whose items are all of one kind."""
        value = self._required(key)
        fitting = isinstance(value, list) and all(type(item) is kind for item in value)
        return list(value) if fitting else self._refuse(key, value, f"a list of {kind.__name__}")

    def expect(self, key: str, *known: object) -> None:
        """Refuse a value that would change the model in a way that is not known here. One that is missing is fine."""
        value = self.get(key)
        if value is not None and value not in known:
            raise ModelError(
                f"{self.path}: {self._full(key)} is {reprlib.repr(value)}, and only "
                f"{', '.join(map(repr, known))} is known here",
                USE_ANOTHER,
            )

    def check_all_read(self) -> None:
        """Refuse keys of the architecture that nobody asked for: they may change what the model computes."""
        own = f"{self.architecture}."
        unread = sorted(key for key in self._values.keys() - self._asked if key.startswith(own))
        if unread:
            raise ModelError(
                f"{self.path} has {len(unread)} settings of its model that are not known here ({shown(unread)}), and "
                "each may change what it computes",
                USE_ANOTHER,
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """Elements along each axis of a tensor, rows first."""
        return tuple(int(size) for size in reversed(self.tensors[name].shape.tolist()))

    def weight(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor in float32, dequantized. Raises ModelError for a type that cannot be."""
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(self.shape(name))
        except Exception as error:  # of every kind that the library has for types that it does not know
            raise ModelError(
                f"{self.path}: tensor type {tensor.tensor_type.name} of {name} cannot be dequantized by the installed "
                "gguf",
                f"install a newer gguf, or {USE_ANOTHER}",
            ) from error

    def table(self, name: str) -> np.ndarray[Any, Any] | None:
        """A tensor that belongs to the configuration, as float32; None where there is none of that name."""
        if name not in self.tensors:
            return None
        self.tables.add(name)
        return self.weight(name)

    def bits(self, name: str) -> float:
        """Bits that a value of a tensor takes on average, its share of the scales included."""
        tensor = self.tensors[name]
        return 8 * float(tensor.n_bytes) / max(int(tensor.n_elements), 1)

    def is_packed(self, name: str) -> bool:
        """Whether a tensor is quantized."""
        return self.tensors[name].tensor_type.name not in _PLAIN

    def quantization(self) -> str:
        """What most weights were quantized to, as ``4 bits (Q4_K_M)``; empty where none are.

        The file's own word for it is taken where it has one, else the type that most values of matrices have.
        """
        packed = Counter[str]()
        for name, tensor in self.tensors.items():
            if self.is_packed(name):
                packed[tensor.tensor_type.name] += int(tensor.n_elements)
        if not packed:
            return ""
        names = (self._file_type(), packed.most_common(1)[0][0])
        found = ((name, _BITS.search(name)) for name in names)
        return next((f"{bits.group(1)} bits ({name})" for name, bits in found if bits), names[1])

    def _file_type(self) -> str:
        """The name of ``general.file_type``, as Q4_K_M; empty where there is none, or gguf does not know it."""
        from gguf import LlamaFileType

        try:
            return str(LlamaFileType(self.get("general.file_type")).name).removeprefix("MOSTLY_")
        except (ValueError, TypeError):
            return ""

    def _full(self, key: str) -> str:
        full = f"{self.architecture}{key}" if key.startswith(".") else key
        self._asked.add(full)
        return full

    def _required(self, key: str) -> Any:
        full = self._full(key)
        if full not in self._values:
            raise ModelError(f"{self.path} has no {full}", _WHOLE_METADATA)
        return self._values[full]

    def _refuse(self, key: str, value: Any, wanted: str) -> NoReturn:
        raise ModelError(
            f"{self.path}: {self._full(key)} is {reprlib.repr(value)}, which is not {wanted}", _WHOLE_METADATA
        )


def shortest(value: float) -> float:
    """The number with the fewest digits that float32 stores as this one."""
    return float(str(np.float32(value)))
