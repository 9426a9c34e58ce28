"""What the continuous-batching pipeline takes on a CPU.

The KV cache's layout is that of ``kv_cache``. A window layer keeps every token: the CPU's paged attention looks at
fewer, and frees none. The compiled model packs its weights anew, beside the files that stay mapped.
"""

from __future__ import annotations

from dataclasses import replace

from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import KvLaw, KvPool, MemoryLaw, OwnLaw, WeightLaw, refuse_format, refuse_kind
from enginegate.engines.openvino import kv_cache
from enginegate.engines.openvino.loop import guessed_tokens
from enginegate.engines.openvino.precisions import ELEMENT_TYPES, QUANTIZED, activation_precision, kv_precision
from enginegate.machine import cpu

#: Prompt tokens that one scheduling step takes where prefill is chunked; GenAI's own default.
CHUNK = 256

#: Bits of a scale and a zero point of a row of 8-bit weights, and of a scale of a group of 4-bit ones.
_ROW_BITS, _SCALE_BITS = 16 + 8, 16

#: Bytes of an element that a pass holds: what was measured fits four, also where it computes in a half precision.
_ACTIVATION_BYTES = 4

#: Fitted by scripts/memory/error_table.py --fit to its own engines; none of them lies further off than the spread.
OWN = OwnLaw(54_500_000, 1_675_000, "scripts/memory/error_table.py, OpenVINO 2026.4", spread=8_000_000)
#: What it was fitted on: the library's version, and features of the CPU. Kernels of others pack weights in other ways.
_VERSION, _HAS, _HAS_NOT = "2026.4.", "avx512_bf16", "amx_bf16"


def memory_law(spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
    """See ``engines.memory_law.memory_law``."""
    activation = activation_precision(spec, runtime)
    element = kv_format or kv_precision(spec, runtime, activation)
    if element not in ELEMENT_TYPES:
        raise refuse_format("openvino", element, tuple(ELEMENT_TYPES))
    for kind in geometry.kinds:
        if kind.latent:
            raise refuse_kind("openvino", kind.name, "how the exported model caches it was not looked at")
    block = kv_cache.block_bytes(geometry, element)
    pool = KvPool(" + ".join(dict.fromkeys(kind.name for kind in geometry.kinds)), kv_cache.TOKENS_PER_BLOCK, block)
    return MemoryLaw(
        kv=KvLaw(
            element,
            (pool,),
            spare_tokens=guessed_tokens(runtime),
            source="the CPU plugin's paged attention; engines/openvino/kv_cache.py",
        ),
        weights=_weights(spec),
        weight_copies=2,
        activation_bytes=_ACTIVATION_BYTES,
        step_tokens=CHUNK if runtime.chunked_prefill else 0,
        own=replace(OWN, unsure=_unsure()),
        fraction_of="",
        kernel_counts_pool=False,
    )


def _unsure() -> str:
    version = cpu.versions(("openvino",)).rpartition(" ")[2]
    if not version.startswith(_VERSION):
        return f"the runtime's own part was measured with OpenVINO {_VERSION}x, here is {version}"
    flags = cpu.cpu_flags()
    if _HAS not in flags or _HAS_NOT in flags:
        return "the runtime's own part was measured on a CPU with AVX-512 BF16 and without AMX, and this is another"
    return ""


def _weights(spec: EngineSpec) -> WeightLaw:
    if spec.precision not in QUANTIZED:
        bits = 32 if spec.precision == "fp32" else 16
        return WeightLaw(bits, bits, bits)
    if spec.precision == "int8_wo":
        return WeightLaw(8, 8, 32, _ROW_BITS, _ROW_BITS)
    group = spec.quantization.group_size
    matrix = 4 + (_SCALE_BITS / group if group else 0)
    return WeightLaw(matrix, 8, 32, 0 if group else _SCALE_BITS, _ROW_BITS)
