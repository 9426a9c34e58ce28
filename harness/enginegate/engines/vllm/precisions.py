"""Names: the suite's precisions in vLLM's and llm-compressor's words, and what a loaded engine's own words mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Precisions whose weights are stored as they are computed with, and vLLM's name of the element type.
HALVES = {"fp16": "float16", "bf16": "bfloat16"}

#: Precisions that llm-compressor writes as a compressed-tensors checkpoint: bits of a weight, modifiers of the recipe.
COMPRESSED: dict[str, tuple[int, tuple[str, ...]]] = {
    "int8_wo": (8, ("QuantizationModifier",)),
    "int4_wo": (4, ("QuantizationModifier",)),
    "int4_awq": (4, ("AWQModifier", "QuantizationModifier")),
    "int4_gptq": (4, ("GPTQModifier",)),
    "w8a8_sq": (8, ("SmoothQuantModifier", "QuantizationModifier")),
}

#: Everything that the backend builds.
PRECISIONS = (*HALVES, "fp8", *COMPRESSED)

#: KV-cache element types, and vLLM's ``kv_cache_dtype``; a half precision is the activations' own, so "auto".
KV_PRECISIONS = {"fp16": "auto", "bf16": "auto", "fp8": "fp8_e4m3"}

#: Compute capability (major x 10 + minor) that a precision's kernels need.
NEEDED_CAPABILITY = {
    "bf16": 80,
    "fp8": 89,
    "int4_wo": 75,
    "int4_awq": 75,
    "int4_gptq": 75,
    "int8_wo": 75,
    "w8a8_sq": 75,
}

_ELEMENT_TYPES = {
    "torch.float16": "fp16",
    "torch.bfloat16": "bf16",
    "torch.float32": "fp32",
    "torch.float8_e4m3fn": "fp8",
    "torch.float8_e4m3fnuz": "fp8",
}

#: A floating-point model has at least this share of its bytes in one type; norms may be wider.
_FLOAT_SHARE = 0.95


def suite_name(element_type: str) -> str:
    """The suite's name of a torch element type, or the type's own name where the suite has none."""
    return _ELEMENT_TYPES.get(element_type, element_type)


def weight_scheme(quantization_config: Mapping[str, Any]) -> tuple[int, str, int | None] | None:
    """Bits, type and activation bits (None: not quantized) of a compressed-tensors ``quantization_config``.

    None where the checkpoint is not quantized by compressed-tensors, or holds several schemes.
    """
    groups = quantization_config.get("config_groups") or {}
    if quantization_config.get("quant_method") != "compressed-tensors" or len(groups) != 1:
        return None
    (group,) = groups.values()
    weights, activations = group.get("weights") or {}, group.get("input_activations")
    return weights.get("num_bits", 0), weights.get("type", ""), activations["num_bits"] if activations else None


def precision_found(bytes_by_type: Mapping[str, int], method: str | None, scheme: object, recipe: str) -> str:
    """The precision that a running engine has, in the suite's names.

    Args:
        bytes_by_type: bytes of the loaded model's parameters by torch element type.
        method: the quantization method of the loaded configuration, None for none.
        scheme: what ``weight_scheme`` found in the loaded configuration.
        recipe: text of llm-compressor's recipe beside the weights: 4-bit variants leave the same kind of weights
            behind, so this record tells AWQ and GPTQ from plain rounding. "" for none.

    Returns:
        A precision, or words that name what was found where it is none of the suite's.
    """
    total = sum(bytes_by_type.values())
    if method is None:
        largest = max(bytes_by_type, key=bytes_by_type.__getitem__)
        if bytes_by_type[largest] >= _FLOAT_SHARE * total:
            return suite_name(largest)
        return "mixed: " + ", ".join(f"{suite_name(kind)} {size / total:.0%}" for kind, size in bytes_by_type.items())
    narrow = sum(size for kind, size in bytes_by_type.items() if suite_name(kind) not in ("fp16", "bf16", "fp32"))
    if not narrow:
        return f"{method} without a quantized weight"
    if method == "fp8":
        return "fp8"
    if method != "compressed-tensors" or not isinstance(scheme, tuple) or scheme[1] != "int":
        return f"{method} {scheme}"
    bits, _, activation_bits = scheme
    modifiers = {name for names in COMPRESSED.values() for name in names[1] if name in recipe}
    if activation_bits is not None:
        smooth = "SmoothQuantModifier" in modifiers
        return "w8a8_sq" if (bits, activation_bits, smooth) == (8, 8, True) else f"w{bits}a{activation_bits}"
    if bits == 8:
        return "int8_wo"
    if bits == 4:
        method_name = {"AWQModifier": "int4_awq", "GPTQModifier": "int4_gptq"}
        found = [name for modifier, name in method_name.items() if modifier in modifiers]
        return "+".join(found) or "int4_wo"
    return f"int{bits} weight-only"
