"""The backend: what it can do here, building in a child process, loading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.core.errors import CapabilityError
from enginegate.core.progress import Step
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Capability, Progress
from enginegate.engines.checkpoint import Geometry, read_config
from enginegate.engines.memory_law import MemoryLaw
from enginegate.engines.openvino.memory_law import memory_law
from enginegate.engines.openvino.precisions import ELEMENT_TYPES, PRECISIONS, QUANTIZED
from enginegate.engines.process.building import run_build
from enginegate.machine import cpu
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.quantized import check_plain

if TYPE_CHECKING:
    from enginegate.engines.openvino.engine import OpenVinoEngine

_INSTALL = "pip install 'enginegate[openvino]'"


class OpenVinoBackend:
    """OpenVINO GenAI: paged KV cache and continuous batching on any CPU; weights exported by optimum-intel and NNCF."""

    name = "openvino"
    libraries: Sequence[str] = ("openvino", "openvino_genai")
    #: ``auto`` takes fewer beside quantized weights.
    kv_of_16_bits = "fp16"

    def version(self) -> str:
        """Versions of everything that has a hand in the exported model."""
        return cpu.versions(("openvino", "openvino-genai", "optimum-intel", "nncf", "transformers", "torch"))

    def capabilities(self) -> Capabilities:
        """All precisions wherever the libraries are installed; bf16 where the CPU computes in it."""
        missing = cpu.missing_modules((*self.libraries, "optimum", "nncf", "torch", "transformers"))
        if missing:
            absent = Capability(False, f"{', '.join(missing)} not installed: {_INSTALL}")
            return Capabilities(dict.fromkeys(PRECISIONS, absent), dict.fromkeys(ELEMENT_TYPES, absent), "cpu")
        precisions = {name: Capability(True) for name in PRECISIONS}
        kv_precisions = {name: Capability(True) for name in ELEMENT_TYPES}
        if not cpu.cpu_computes_bf16():
            reason = "this CPU does not compute in bf16 (neither avx512_bf16 nor amx_bf16)"
            precisions["bf16"] = kv_precisions["bf16"] = Capability(False, reason)
        if not cpu.cpu_computes_fp16():
            computes = "bf16" if cpu.cpu_computes_bf16() else "fp32"
            precisions["fp16"] = Capability(True, f"weights are stored in fp16; this CPU computes in {computes}")
        return Capabilities(precisions, kv_precisions, "cpu")

    def check_model(self, spec: EngineSpec, config: Mapping[str, Any]) -> None:
        """Raise CapabilityError where the groups of ``spec`` do not divide the layers of a model."""
        check_groups(spec, config)

    def memory_law(self, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
        """What an engine takes, before it is loaded."""
        return memory_law(spec, runtime, geometry, kv_format)

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Export, and where asked quantize, the checkpoint into ``out_dir``.

        Runs in a child process: the export patches torch, and its memory should be gone before anything is measured.
        Raises EngineError with the end of the child's output where that fails.
        """
        check_plain(checkpoint.path)
        check_groups(spec, read_config(checkpoint.path))
        progress(Step(f"exporting {spec.id}"))
        job = {"spec": asdict(spec), "checkpoint": str(checkpoint.path), "out_dir": str(out_dir)}
        run_build(
            "enginegate.engines.openvino.build",
            json.dumps(job).encode(),
            subject=f"{spec.id}: the export",
            hint="a full disk, too little memory or an unsupported architecture are usual",
        )

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> OpenVinoEngine:
        """Load what ``build`` wrote into a continuous-batching pipeline."""
        missing = cpu.missing_modules(self.libraries)
        if missing:
            raise CapabilityError(f"backend openvino needs {', '.join(missing)}", _INSTALL)
        from enginegate.engines.openvino.engine import OpenVinoEngine

        return OpenVinoEngine(engine_dir, spec, runtime)


def check_groups(spec: EngineSpec, config: Mapping[str, Any]) -> None:
    """Raise CapabilityError where 4-bit groups do not divide the inputs of every linear layer of a model.

    ``config``: its ``config.json``.
    """
    group = spec.quantization.group_size
    if spec.precision not in QUANTIZED or spec.precision == "int8_wo" or group is None:
        return
    names = ("hidden_size", "n_embd", "intermediate_size", "n_inner", "head_dim", "num_attention_heads")
    found = {name: config[name] for name in names if isinstance(config.get(name), int) and config[name]}
    heads, size = found.pop("num_attention_heads", None), found.pop("head_dim", None)
    sizes = {**found, "num_attention_heads x head_dim": heads * size} if heads and size else found
    uneven = {name: size for name, size in sizes.items() if size % group}
    if uneven:
        raise CapabilityError(
            f"{spec.id}: groups of {group} weights do not divide "
            + ", ".join(f"{name} {size}" for name, size in uneven.items()),
            "set quantization.group_size to a divisor of them all, or to null for one group per channel",
        )
