"""The backend: what it can do here, building, loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Capability, Progress
from enginegate.engines.checkpoint import Geometry, read_config
from enginegate.engines.memory_law import MemoryLaw
from enginegate.engines.openvino.backend import check_groups
from enginegate.engines.vllm.build import build_versions, write_engine
from enginegate.engines.vllm.memory_law import memory_law
from enginegate.engines.vllm.precisions import HALVES, KV_PRECISIONS, NEEDED_CAPABILITY, PRECISIONS
from enginegate.machine import cpu
from enginegate.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from enginegate.engines.vllm.engine import VllmEngine

_INSTALL = "pip install 'vllm>=0.24' (docs/gpu.md)"


class VllmBackend:
    """vLLM on an NVIDIA GPU. An engine folder is a Hugging Face checkpoint in the asked precision.

    ``own_process``: vLLM keeps its distributed state and its environment once a process, so that a second engine in
    the same process would run with the first one's settings, and closing one would tear down the other.
    """

    name = "vllm"
    libraries: Sequence[str] = ("torch", "vllm")
    own_process = True
    takes_quantized = True

    def version(self) -> str:
        """Versions of vLLM and of what builds its checkpoints."""
        return f"{cpu.versions(('vllm', 'torch', 'transformers', 'compressed-tensors'))}, {build_versions()}"

    def capabilities(self) -> Capabilities:
        """Everything that the GPU's compute capability has kernels for."""
        reason = ""
        missing = cpu.missing_modules(("vllm", "torch", "transformers"))
        if missing:
            reason = f"{', '.join(missing)} not installed: {_INSTALL}"
        elif not cpu.has_cuda():
            reason = "no NVIDIA driver is loaded (/proc/driver/nvidia is missing); this backend needs a GPU"
        if reason:
            absent = Capability(False, reason)
            return Capabilities(dict.fromkeys(PRECISIONS, absent), dict.fromkeys(KV_PRECISIONS, absent), "cuda")
        from enginegate.machine.gpu import compute_capability

        found = compute_capability()
        return Capabilities(
            {name: _capability(name, found) for name in PRECISIONS},
            {name: _capability(name, found) for name in KV_PRECISIONS},
            "cuda",
        )

    def check_model(self, spec: EngineSpec, config: Mapping[str, Any]) -> None:
        """Raise CapabilityError where the groups of ``spec`` do not divide the layers of a model."""
        if spec.precision not in (*HALVES, "fp8", "w8a8_sq"):
            check_groups(spec, config)

    def memory_law(self, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
        """What an engine takes, before it is loaded."""
        return memory_law(spec, runtime, geometry, kv_format)

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Write the checkpoint in the spec's precision into ``out_dir``; needs no GPU.

        Raises CapabilityError where the precision or the quantizer is missing, or groups do not divide the layers, and
        EngineError where quantizing fails.
        """
        if spec.precision not in PRECISIONS:
            raise CapabilityError(f"backend vllm has no precision {spec.precision!r}", f"take {', '.join(PRECISIONS)}")
        self.check_model(spec, read_config(checkpoint.path))
        write_engine(spec, checkpoint.path, out_dir, progress)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> VllmEngine:
        """Load what ``build`` wrote, in this process. One at a time in a process; see ``own_process``."""
        missing = cpu.missing_modules(("vllm", "torch"))
        if missing:
            raise CapabilityError(f"backend vllm needs {', '.join(missing)}", _INSTALL)
        if spec.tensor_parallel > 1:
            _check_cards(spec)
        from enginegate.engines.vllm.engine import VllmEngine

        return VllmEngine(engine_dir, spec, runtime)


def _check_cards(spec: EngineSpec) -> None:
    from enginegate.machine.gpu import uuids

    visible = len(uuids())
    if visible < spec.tensor_parallel:
        raise CapabilityError(
            f"{spec.id}: tensor_parallel {spec.tensor_parallel} needs as many GPUs, visible are {visible}",
            "lower limits.tensor_parallel, or let CUDA_VISIBLE_DEVICES name more",
        )


def _capability(name: str, found: int | None) -> Capability:
    needed = NEEDED_CAPABILITY.get(name, 70)
    if found is not None and found < needed:
        return Capability(False, f"needs compute capability {needed / 10}, this GPU has {found / 10}")
    return Capability(True)
