"""What a configuration file is made of: frozen sections that refuse unknown keys, and the types of several keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
)

Positive = Annotated[int, Field(gt=0, lt=2**31)]
#: Bounds beyond which a number is a slip of the finger: no machine, model or data set is so large, and what is made in
#: that number would fill the memory or never end.
Devices = Annotated[int, Field(gt=0, le=1024)]
BatchSize = Annotated[int, Field(gt=0, le=65_536)]
Tokens = Annotated[int, Field(gt=0, le=2**24)]
Threads = Annotated[int, Field(ge=0, le=4096)]
Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
#: An error rate that a gate can hold; it is shared by all gates of a session, and 1e-9 shared still is a number.
ErrorRate = Annotated[float, Field(ge=1e-9, lt=0.5)]
#: Up to a year, which every clock that waits can count.
PositiveSeconds = Annotated[float, Field(gt=0, le=365 * 24 * 3600)]
PositiveOrNone = Annotated[float | None, Field(gt=0)]


def distinct(values: list[Any]) -> list[Any]:
    """The same list. Raises ValueError where a value stands in it twice."""
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        raise ValueError(f"{twice[0]!r} is given twice: name it once")
    return values


_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*", re.ASCII)
_BYTE_SIZE = TypeAdapter(ByteSize)


def _sha256(digest: str) -> str:
    if not re.fullmatch(r"([0-9a-fA-F]{64})?", digest):
        raise ValueError(f"{digest[:100]!r} is no SHA-256, which has 64 hexadecimal digits")
    return digest


#: Empty for none.
Sha256 = Annotated[str, AfterValidator(_sha256)]


class Section(BaseModel):
    """Base of every section of the file.

    Values are read strictly: neither is true the number 1, nor is the text "5" a number, and none is infinite. A field
    of another type than YAML has (a path, a tuple) says ``Field(strict=False)``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
    except (ValueError, OverflowError):  # pydantic's ValidationError is a ValueError
        raise ValueError(f"{text!r} is not a size such as 512MiB, 20GB or a number of bytes") from None


#: A number of bytes: an integer, or text with a unit of 1000 (20GB) or of 1024 (512MiB).
Bytes = Annotated[
    int,
    Field(ge=0, lt=2**63),
    BeforeValidator(lambda value: read_size(value) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]
