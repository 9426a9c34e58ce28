"""Memory of one engine, in a fresh process of its own, apart from any timing.

The parent calls ``measure_memory``; the child is this module run as a program. On a CPU the figures are growth of the
child's resident set over what it was with the backend's libraries imported: resident, not proportional, because
another process that maps the same weights would halve a proportional figure. What is held after loading counts the
engine's mapped files whole, as the kernel fills them as it likes. The peak is the kernel's own high-water mark, reset
after loading, so no spike between samples is missed. On an NVIDIA GPU they are growth of the device's used
memory as NVML reports it.
"""

from __future__ import annotations

import importlib
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import MeasurementError
from harness.measure import gpu
from harness.records import MemoryEntry
from harness.specs import EngineSpec, RuntimeSpec, SamplingParams, Workload

STATUS = Path("/proc/self/status")
SMAPS = Path("/proc/self/smaps")
CLEAR_REFS = Path("/proc/self/clear_refs")


def measure_memory(
    engine_dir: Path,
    disk_bytes: int,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    prompts: Sequence[Sequence[int]],
    workload: Workload,
    timeout: float = 600,
) -> MemoryEntry:
    """Load the engine in a child, answer ``prompts`` once, and report what it took. Raises MeasurementError."""
    job = engine_dir, spec, runtime, [list(prompt) for prompt in prompts], workload.output_len
    child = subprocess.run(
        [sys.executable, "-m", __name__], input=pickle.dumps(job), capture_output=True, timeout=timeout
    )
    # Libraries print to standard output as well, some of them at the very end.
    lines = [line for line in child.stdout.decode(errors="replace").splitlines() if line.startswith('{"loaded"')]
    if child.returncode != 0 or not lines:
        said = child.stderr.decode(errors="replace").strip()[-2000:]
        raise MeasurementError(
            f"the memory pass of {spec.id} ended with code {child.returncode}: {said}",
            "mend what its last lines name; a code of -9 is the kernel's out-of-memory killer",
        )
    found = json.loads(lines[-1])
    return MemoryEntry(engine=spec.id, workload=workload.id, disk=disk_bytes, **found)


def _resident(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise MeasurementError(f"{STATUS} has no {field}")


def mapped_bytes(smaps: str, folder: Path) -> int:
    """Bytes of the folder's files that are mapped, by the text of ``/proc/PID/smaps``."""
    total, inside = 0, False
    for line in smaps.splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first and ":" not in first:  # the head of a mapping: range, rights, offset, device, inode, path
            inside = rest.split(maxsplit=4)[-1].startswith(f"{folder}/")
        elif inside and first == "Size:":
            total += int(rest.split()[0]) * 1024
    return total


class _CpuMeter:
    """Resident set of this process."""

    device = "cpu"
    contexts = 0

    def __init__(self, engine_dir: Path) -> None:
        self._folder = engine_dir.resolve()

    def held(self) -> int:
        """Memory of its own, and the engine's mapped files as a whole.

        How much of a mapped file is resident depends on how the kernel came to cache it: the same engine was seen at
        110 and at 190 MiB of resident set after loading, by that alone.
        """
        own = _resident("RssAnon") + _resident("RssShmem")
        return own + mapped_bytes(SMAPS.read_text(encoding="utf-8", errors="replace"), self._folder)

    def used(self) -> int:
        return _resident("VmRSS")

    def reset_peak(self) -> None:
        CLEAR_REFS.write_text("5", encoding="ascii")

    def peak(self) -> int:
        return _resident("VmHWM")


class _GpuMeter:
    """Used memory of the visible NVIDIA GPUs, as NVML counts it.

    Whoever else used the device would be counted too, so they are refused. The peak is what is used after the work: the
    frameworks' allocators keep what they once took. A context is opened first, as it is the driver's own and would
    cover a small model's weights; an engine over several devices opens one more on each, in processes of its own, and
    as much is taken off for them.
    """

    def __init__(self, devices: int) -> None:
        import torch

        self.contexts = 0
        without = gpu.used_bytes()
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
        if devices > 1:
            self.contexts = devices * (gpu.used_bytes() - without)
        self.device = str(gpu.identities()[0]["name"])

    def used(self) -> int:
        gpu.refuse_busy()
        return gpu.used_bytes()

    def held(self) -> int:
        return self.used()

    def reset_peak(self) -> None:
        return

    def peak(self) -> int:
        return self.used()


def copy_bandwidth(size: int = 1 << 31, rounds: int = 5) -> float:
    """Bytes per second that copying ``size`` bytes within the GPU's memory moves, read plus written; the best round."""
    import torch

    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(rounds + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1000)
    del source, target
    torch.cuda.empty_cache()
    return 2 * size / best


def _run(
    engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec, prompts: Sequence[Sequence[int]], max_tokens: int
) -> dict[str, Any]:
    from harness.engines.registry import load_backend

    backend = load_backend(spec.backend)
    for library in backend.libraries:
        importlib.import_module(library)
    on_gpu = backend.capabilities().device.startswith("cuda")
    meter = _GpuMeter(spec.tensor_parallel) if on_gpu else _CpuMeter(engine_dir)  # first: it sees the context open
    bandwidth = copy_bandwidth() if on_gpu else None
    before, held = meter.used() + meter.contexts, meter.held() + meter.contexts
    engine = backend.load(engine_dir, spec, runtime)
    try:
        loaded = meter.held()
        meter.reset_peak()
        engine.generate(prompts, SamplingParams(max_tokens=max_tokens))
        peak = meter.peak()
        own = engine.memory()
    finally:
        engine.close()
    return {
        "loaded": max(0, loaded - held),
        "peak": max(0, peak - before),
        "kv_predicted": own.kv_cache_predicted,
        "kv_used": own.kv_cache,
        "kv_budget": own.kv_budget,
        "device": meter.device,
        "weights": own.weights,
        "copy_bytes_per_second": bandwidth,
    }


if __name__ == "__main__":
    print(json.dumps(_run(*pickle.load(sys.stdin.buffer))))
