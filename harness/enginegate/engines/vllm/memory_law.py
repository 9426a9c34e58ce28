"""What vLLM takes on a GPU. Its memory fraction is a share of the card's *total*."""

from __future__ import annotations

from dataclasses import replace

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import MemoryLaw, OwnLaw, WeightLaw
from enginegate.engines.vllm import settings
from enginegate.engines.vllm.precisions import COMPRESSED, HALVES
from enginegate.machine import cpu

#: Peak less weights, KV pool and activations in the records of an H200 (docs/results/records), between 290 and 460 MB.
OWN = OwnLaw(370_000_000, 0, "docs/results/records, vLLM 0.24 on an H200", context=645_500_000, spread=130_000_000)
_VERSION = "0.24."


def memory_law(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
    """See ``engines.memory_law.memory_law``. Activations are in the half precision asked for, bf16 where none is."""
    settings.check_runtime(spec, runtime)
    asked = spec.precision if spec.precision in HALVES else runtime.activation_precision
    activation = "bf16" if asked == "auto" else asked
    element = kv_format or settings.kv_precision(runtime, activation)
    return MemoryLaw(
        kv=settings.kv_law_of(spec, runtime, geometry, element),
        weights=_weights(spec),
        weight_copies=1,
        activation_bytes=2,
        step_tokens=settings.step_tokens(spec, runtime, geometry),
        own=replace(OWN, unsure=_unsure()) if spec.tensor_parallel == 1 else None,  # measured on one card alone
        fraction_of="total",
        kernel_counts_pool=True,
    )


def _unsure() -> str:
    version = cpu.versions(("vllm",)).rpartition(" ")[2]
    if version.startswith(_VERSION):
        return ""
    return f"the runtime's own part was measured with vLLM {_VERSION}x, here is {version}"


def _weights(spec: EngineSpec) -> WeightLaw:
    if spec.precision in HALVES:
        return WeightLaw(16, 16, 16)
    if spec.precision == "fp8":
        return WeightLaw(8, 16, 16)
    if spec.precision not in COMPRESSED:
        raise CapabilityError(f"backend vllm has no precision {spec.precision!r}", "see enginegate doctor")
    bits = COMPRESSED[spec.precision][0]
    group = spec.quantization.group_size if bits == 4 else None
    return WeightLaw(bits + (16 / group if group else 0), 16, 16, 0 if group else 16)
