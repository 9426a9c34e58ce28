"""NVIDIA GPUs as the driver's management library (NVML) describes them; no CUDA context is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU. ``capability`` is CUDA's compute capability, e.g. (8, 9) for Ada."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def architecture(self) -> str:
        """What an engine is bound to, e.g. ``sm_90``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


def devices() -> list[Gpu]:
    """The GPUs that CUDA shows to this process, in its order; none where there is no driver."""
    from enginegate.machine.gpu import nvml, text, visible_handles

    with nvml() as library:
        if library is None:
            return []
        found = []
        for handle in visible_handles(library):
            major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
            memory = int(library.nvmlDeviceGetMemoryInfo(handle).total)
            found.append(Gpu(text(library.nvmlDeviceGetName(handle)), (int(major), int(minor)), memory))
        return found


def driver_problem(gpus: list[Gpu]) -> str:
    """Why no GPU can be used, with the hint; empty where there is one."""
    if gpus:
        return ""
    return "no NVIDIA driver or GPU is visible: check nvidia-smi, and start containers with --gpus all"
