"""What a configuration file is made of: frozen sections that refuse unknown keys, and the types of several keys."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveOrNone = Annotated[float | None, Field(gt=0)]

_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*", re.ASCII)
_BYTE_SIZE = TypeAdapter(ByteSize)


class Section(BaseModel):
    """Base of every section of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_size(text: str) -> int:
    """Bytes of ``20GB``, ``1.5GiB`` or ``4096``. Raises ValueError.

    The units are those of pydantic's ByteSize, which itself ignores what follows one (``1GB or so``), and knows no
    ``Gi``.
    """
    found = _SIZE.fullmatch(text)
    unit = found["unit"] if found else ""
    try:
        if found is None:
            raise ValueError(text)
        return int(_BYTE_SIZE.validate_python(found["number"] + (f"{unit}B" if unit.lower().endswith("i") else unit)))
    except ValueError:  # pydantic's ValidationError is one
        raise ValueError(f"{text!r} is not a size such as 512MiB, 20GB or a number of bytes") from None


#: A number of bytes: an integer, or text with a unit of 1000 (20GB) or of 1024 (512MiB).
Bytes = Annotated[
    int, Field(ge=0), BeforeValidator(lambda value: read_size(value) if isinstance(value, str) else value)
]
