"""What the files of a checkpoint or a built engine say, without TensorRT-LLM."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineError
from enginegate.core.files import read_json
from enginegate.engines.checkpoint import Geometry, read_config
from enginegate.models.tensors import stored_tensors

_ELEMENT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0}


def kv_bytes_per_token(geometry: Geometry, precision: str) -> int:
    """Keys and values of one token over all layers, of MLA the latent vector; without scales."""
    elements = sum(kind.layers * (kind.latent or kind.elements) for kind in geometry.kinds)
    return int(elements * _ELEMENT_BYTES.get(precision, 2.0))


def quantization(folder: Path) -> dict[str, Any]:
    """How a Hugging Face checkpoint says that it is quantized, or an empty dictionary.

    ModelOpt writes ``hf_quant_config.json``; others the key ``quantization_config`` of ``config.json``.
    """
    own = folder / "hf_quant_config.json"
    if own.is_file():
        return dict(read_json(own, EngineError, "rebuild the engine").get("quantization", {}))
    return dict(read_config(folder).get("quantization_config") or {})


def dtype(config: Mapping[str, Any]) -> str:
    """The checkpoint's own floating-point type, e.g. ``bfloat16``."""
    return str(config.get("dtype") or config.get("torch_dtype") or "float16").removeprefix("torch.")


def tensor_bytes(folder: Path) -> dict[str, int]:
    """Bytes of each element type (safetensors' names: F16, F8_E4M3, U8 …) in a folder's own safetensors files.

    Raises ModelError where these cannot be read.
    """
    found: Counter[str] = Counter()
    for tensor in stored_tensors(folder).values():
        found[tensor.dtype] += tensor.end - tensor.begin
    return dict(found)


def write_calibration_folder(folder: Path, passages: list[str]) -> Path:
    """Passages in the form that TensorRT-LLM reads locally: a folder of one split, train, with a column text."""
    folder.mkdir(parents=True)
    lines = [json.dumps({"text": passage}) for passage in passages]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
