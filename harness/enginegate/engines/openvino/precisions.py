"""The suite's precision names and OpenVINO's, and which of them go together."""

from __future__ import annotations

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.machine import cpu

#: The suite's names to OpenVINO's element types, for KV caches and for activations.
ELEMENT_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "u8", "int4": "u4"}

QUANTIZED = ("int8_wo", "int4_wo", "int4_awq", "int4_gptq")
PRECISIONS = ("fp32", "bf16", "fp16", *QUANTIZED)


def activation_precision(spec: EngineSpec, runtime: RuntimeSpec) -> str:
    """What to compute in, in the suite's names.

    ``auto``: fp32 weights in fp32; fp16 weights in fp16 where the CPU has it; everything else in bf16 where the CPU
    has it, and in fp32 where not. Raises CapabilityError for a type that the CPU does not compute in, since OpenVINO
    would quietly take another.
    """
    asked = runtime.activation_precision
    computes = {"fp32": True, "bf16": cpu.cpu_computes_bf16(), "fp16": cpu.cpu_computes_fp16()}
    if spec.precision == "fp32" and asked not in ("auto", "fp32"):
        raise CapabilityError(f"{spec.id} computes in fp32, asked was {asked}", "set activation_precision to auto")
    if asked != "auto":
        if not computes.get(asked, False):
            raise CapabilityError(
                f"{spec.id}: this CPU does not compute in {asked}", "set activation_precision to auto or fp32"
            )
        return asked
    if spec.precision == "fp32":
        return "fp32"
    if spec.precision == "fp16" and computes["fp16"]:
        return "fp16"
    return "bf16" if computes["bf16"] else "fp32"


def kv_precision(spec: EngineSpec, runtime: RuntimeSpec, activation: str) -> str:
    """The KV cache's element type, in the suite's names.

    ``auto``: int8 for quantized weights, fp16 for half precisions, fp32 for fp32. Raises CapabilityError for a pair
    that the CPU's paged attention lacks: an fp32 cache needs fp32 activations, a bf16 cache bf16 activations.
    """
    asked = runtime.kv_precision
    if asked == "auto":
        return "int8" if spec.precision in QUANTIZED else "fp32" if spec.precision == "fp32" else "fp16"
    if asked not in ELEMENT_TYPES:
        raise CapabilityError(f"{spec.id}: OpenVINO has no {asked} KV cache", f"take {', '.join(ELEMENT_TYPES)}")
    if asked in ("fp32", "bf16") and asked != activation:
        raise CapabilityError(
            f"{spec.id}: an {asked} KV cache needs {asked} activations, this engine computes in {activation}",
            f"set activation_precision to {asked}, or kv_precision to fp16, int8 or int4",
        )
    return asked


def suite_name(element_type: str) -> str:
    """The suite's name of an OpenVINO element type such as ``u8``; the type itself where it has none."""
    return {value: name for name, value in ELEMENT_TYPES.items()}.get(element_type, element_type)
