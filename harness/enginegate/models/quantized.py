"""Whether a checkpoint is quantized already. The suite's reference and its own quantization need plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json
from enginegate.models.loading import shown
from enginegate.models.tensors import stored_tensors

#: Files that a quantizer leaves beside the weights, and who does.
_FILES = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ", "hf_quant_config.json": "ModelOpt"}
#: Last parts of the names of tensors that only quantized weights have.
_PARTS = frozenset(
    (
        *("qweight", "qzeros", "g_idx"),  # GPTQ, AWQ
        *("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "input_scale"),  # compressed-tensors
        *("weight_scale_inv", "weight_scale_2"),  # FP8 of DeepSeek, NVFP4 of ModelOpt
        *("absmax", "quant_map", "nested_absmax", "nested_quant_map", "SCB", "weight_format"),  # bitsandbytes
    )
)
#: Element types of plain weights.
_PLAIN = frozenset(("F64", "F32", "F16", "BF16"))
_READ_AGAIN = "fetch the checkpoint again"


def quantization_of(folder: Path) -> str:
    """How a checkpoint is quantized, and by which file or tensors that shows; empty where its weights are plain.

    Raises:
        ModelError: a file of the folder cannot be read.
    """
    config = read_json(folder / "config.json", ModelError, _READ_AGAIN)
    for where in (config, config.get("text_config"), config.get("llm_config")):
        for key in ("quantization_config", "compression_config"):
            stated = where.get(key) if isinstance(where, dict) else None
            if stated:
                return f"{_method(stated)} ({key} in config.json)"
    for name, method in _FILES.items():
        if (folder / name).is_file():
            stated = read_json(folder / name, ModelError, _READ_AGAIN)
            if name == "hf_quant_config.json":
                inner = stated.get("quantization", stated)
                if isinstance(inner, dict) and not inner.get("quant_algo") and not inner.get("kv_cache_quant_algo"):
                    continue
            return f"{method} ({name} lies beside the weights)"
    tensors = stored_tensors(folder)
    names = sorted(name for name in tensors if name.rpartition(".")[2] in _PARTS)
    if names:
        return f"{len(names)} tensors that only quantized weights have ({shown(names)})"
    return _packed({n: tensor.dtype for n, tensor in sorted(tensors.items()) if n.rpartition(".")[2] == "weight"})


def _packed(types: Mapping[str, str]) -> str:
    """Weights whose element type is no plain one; empty where all are plain."""
    packed = {name: kind for name, kind in types.items() if kind not in _PLAIN}
    kinds = ", ".join(sorted(set(packed.values())))
    return f"{len(packed)} weights of element type {kinds} ({shown(packed)})" if packed else ""


def _method(stated: object) -> str:
    if not isinstance(stated, Mapping):
        return repr(stated)
    method: Any = stated.get("quant_method") or stated.get("quant_type") or stated.get("format") or "unnamed"
    bits = stated.get("bits") or stated.get("w_bit")
    return f"{method}, {bits} bits" if bits else str(method)


def check_plain(folder: Path) -> None:
    """Raise ModelError where a checkpoint's weights are quantized already."""
    _refuse(folder, quantization_of(folder))


def check_landed(folder: Path, types: Mapping[str, str]) -> None:
    """Raise ModelError where a stored tensor becomes a floating-point parameter, and holds no plain numbers.

    A loader takes the bytes of packed weights for values without a word, whatever their names.

    Args:
        folder: the checkpoint.
        types: by name, the element types of the tensors that become floating-point parameters.
    """
    _refuse(folder, _packed(types))


def _refuse(folder: Path, found: str) -> None:
    if found:
        raise ModelError(
            f"{folder} is quantized already: {found}",
            "name the plain checkpoint (bf16, fp16 or fp32) that it was made from: the suite measures against it and "
            "quantizes by itself (engines.BACKEND.precisions). If its weights are plain, take the setting or the file "
            "out of a copy",
        )
