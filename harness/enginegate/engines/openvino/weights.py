"""What the weights of an OpenVINO model really are, read from the IR that the engine loads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from enginegate.core.errors import EngineError

_BITS = {"f32": 32, "f16": 16, "bf16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4, "nf4": 4}
#: What is kept of NNCF's record: what decides the numbers that are stored.
_COMPRESSION = ("mode", "backup_mode", "group_size", "ratio", "awq", "gptq", "scale_estimation")
_FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}

#: Share of the stored elements that must be quantized for the model to be called so; scales, norms and zero points
#: are the rest, and with groups of 16 they come to some 6 %.
_QUANTIZED_SHARE = 0.85
#: Share of the bytes that must be of one floating-point type; norms and rotary tables stay fp32 in half precisions.
_FLOAT_SHARE = 0.95


@dataclass(frozen=True)
class Weights:
    """The constants of an IR.

    Attributes:
        bytes_by_type: bytes of the constants of each element type that weights are stored in.
        compression: what NNCF wrote into the IR: ``mode``, ``group_size``, ``awq``, ``gptq`` … as text; may be empty.
    """

    bytes_by_type: dict[str, int]
    compression: dict[str, str]

    @property
    def total_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(self.bytes_by_type.values())

    @property
    def precision(self) -> str:
        """The suite's name of what is stored, or ``mixed`` with the share of each type.

        4-bit variants leave the same constants behind, so NNCF's own record tells AWQ and GPTQ from plain rounding.
        """
        elements = Counter({kind: size * 8 / _BITS[kind] for kind, size in self.bytes_by_type.items()})
        quantized = sum(count for kind, count in elements.items() if kind not in _FLOATS)
        if quantized >= _QUANTIZED_SHARE * sum(elements.values()):
            if any(_BITS[kind] == 4 for kind in elements):
                awq, gptq = (self.compression.get(method) == "True" for method in ("awq", "gptq"))
                return "int4_awq+gptq" if awq and gptq else "int4_awq" if awq else "int4_gptq" if gptq else "int4_wo"
            return "int8_wo"
        for kind, name in _FLOATS.items():
            if self.bytes_by_type.get(kind, 0) >= _FLOAT_SHARE * self.total_bytes:
                return name
        return "mixed: " + ", ".join(
            f"{kind} {size / self.total_bytes:.0%}" for kind, size in sorted(self.bytes_by_type.items())
        )


def read_weights(model_xml: Path) -> Weights:
    """Read the constants' types and NNCF's record from an IR. Raises EngineError where it is no IR with weights."""
    stored: dict[tuple[str, str], int] = {}
    compression: dict[str, str] = {}
    try:
        root = ElementTree.parse(model_xml).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise EngineError(f"{model_xml} cannot be read: {error}", "rebuild the engine") from error
    for data in root.iterfind("./layers/layer[@type='Const']/data"):
        kind = data.get("element_type", "")
        if kind in _BITS:
            # Constants of equal content share one place in the file.
            stored[kind, data.get("offset", "")] = int(data.get("size", "0"))
    section = root.find("./rt_info/nncf/weight_compression")
    for entry in section if section is not None else ():
        if entry.tag in _COMPRESSION:
            compression[entry.tag] = entry.get("value", "")
    bytes_by_type: Counter[str] = Counter()
    for (kind, _), size in stored.items():
        bytes_by_type[kind] += size
    if not bytes_by_type:
        raise EngineError(f"{model_xml} holds no weights", "rebuild the engine")
    return Weights(dict(bytes_by_type), compression)
