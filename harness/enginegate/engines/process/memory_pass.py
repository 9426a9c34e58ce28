"""The memory pass, in the process that it measures: what loading an engine and one answer take.

On a CPU the figures are growth of the process's resident set over what it was with the backend's libraries imported:
resident, not proportional, because another process that maps the same weights would halve a proportional figure. What
is held after loading counts the engine's mapped files whole, as the kernel fills them as it likes. The peak is the
kernel's own high-water mark, reset after loading, so no spike between samples is missed. On an NVIDIA GPU they are
growth of the device's used memory as NVML reports it.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginegate.core.errors import MeasurementError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.registry import load_backend

STATUS = Path("/proc/self/status")
MAPS = Path("/proc/self/maps")
CLEAR_REFS = Path("/proc/self/clear_refs")


def mapped_bytes(folder: Path) -> int:
    """Bytes of the folder's files that this process has mapped, whether or not they are resident."""
    total = 0
    for line in MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        addresses, *_, path = line.split(None, 5) if line.count(" ") >= 5 else (line, "")
        if path.startswith(f"{folder}/"):
            start, _, end = addresses.partition("-")
            total += int(end, 16) - int(start, 16)
    return total


def _resident(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise MeasurementError(f"{STATUS} has no {field}")


#: Fields of the C library's struct mallinfo2: in use are ``uordblks``, and ``hblkhd`` in mappings of their own.
_MALLINFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _MallInfo(ctypes.Structure):
    """The C library's ``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO)


def _handed_out() -> int | None:
    """Bytes that the C library's allocator has handed out; None where it does not tell (before glibc 2.33, musl)."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return None
    ask.restype = _MallInfo
    told = ask()
    return int(told.uordblks) + int(told.hblkhd)


class _CpuMeter:
    """Resident set of this process."""

    def __init__(self, engine_dir: Path) -> None:
        self._folder = engine_dir.resolve()

    def held(self) -> int:
        """Memory of its own, and the engine's mapped files as a whole.

        How much of a mapped file is resident depends on how the kernel came to cache it: the same engine was seen at
        110 and at 190 MiB of resident set after loading, by that alone.
        """
        own = _resident("RssAnon") + _resident("RssShmem")
        return own + mapped_bytes(self._folder)

    def used(self) -> int:
        return _resident("VmRSS")

    def reset_peak(self) -> None:
        CLEAR_REFS.write_text("5", encoding="ascii")

    def peak(self) -> int:
        return _resident("VmHWM")

    def allocated(self) -> int | None:
        return _handed_out()


class _GpuMeter:
    """Used memory of the visible NVIDIA GPUs, as NVML counts it.

    Whoever else used the device would be counted too, so they are refused. The peak is what is used after the work: the
    frameworks' allocators keep what they once took.
    """

    def used(self) -> int:
        from enginegate.machine import gpu

        gpu.refuse_busy()
        return gpu.used_bytes()

    def held(self) -> int:
        return self.used()

    def reset_peak(self) -> None:
        return

    def peak(self) -> int:
        return self.used()

    def allocated(self) -> int | None:
        """Of torch's allocator in this process; None where the engine does not use it here."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return None
        return sum(torch.cuda.memory_allocated(device) for device in range(torch.cuda.device_count())) or None


def memory_pass(
    backend_name: str,
    engine_dir: Path,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    context_bytes: int | None,
) -> dict[str, Any]:
    """Load an engine, answer ``prompts`` once, and say what it took, in bytes.

    Args:
        backend_name, engine_dir, spec, runtime: the engine.
        prompts, max_tokens: what it answers.
        context_bytes: of a CUDA context on one of its GPUs, which is the driver's own and would cover a small model's
            weights, so that it does not count; None for an engine on the CPU.

    Raises:
        EngineGateError: it cannot be loaded, or the figures cannot be right.
    """
    folder, on_gpu = engine_dir, context_bytes is not None
    backend = load_backend(backend_name)
    if not on_gpu:  # they take memory of the process's own, and none on a card but the context
        for library in backend.libraries:
            importlib.import_module(library)
    meter = _GpuMeter() if on_gpu else _CpuMeter(folder)
    contexts = spec.tensor_parallel * (context_bytes or 0)
    before, held = meter.used() + contexts, meter.held() + contexts
    handed_out = None if on_gpu else meter.allocated()
    print(f"loading {spec.id}", flush=True)  # says how far it came, where it comes no further
    engine = backend.load(folder, spec, runtime)
    beat()
    print("answering", flush=True)
    try:
        loaded = meter.held()
        meter.reset_peak()
        engine.generate(prompts, SamplingParams(max_tokens=max_tokens))
        peak = meter.peak()
        own = engine.memory()
        allocated = meter.allocated()
    finally:
        engine.close()
    if on_gpu and loaded - held < (own.weights or 0):
        raise MeasurementError(
            f"{spec.id}: NVML counts {loaded - held:,} bytes for an engine whose weights alone are {own.weights:,}",
            "see that nothing else left the GPU meanwhile, and that the engine runs on the visible ones",
        )
    return {
        "loaded": max(0, loaded - held),
        "peak": max(0, peak - before),
        "kv_predicted": own.kv_cache_predicted,
        "kv_used": own.kv_cache,
        "kv_budget": own.kv_budget,
        "contexts": contexts if on_gpu else None,
        "weights": own.weights,
        "allocator": None if allocated is None else max(0, allocated - (handed_out or 0)),
    }
