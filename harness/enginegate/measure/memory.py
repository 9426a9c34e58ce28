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
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginegate.core.errors import MeasurementError, edge
from enginegate.core.records import MemoryEntry
from enginegate.core.specs import DEFAULT_TIMEOUTS, EngineSpec, RuntimeSpec, SamplingParams, Timeouts, Workload
from enginegate.engines.registry import capabilities, load_backend
from enginegate.machine import gpu
from enginegate.machine.card import Card, measure_card
from enginegate.machine.processes import die_with_parent, hand_over, run_module

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


def measure_memory(
    engine_dir: Path,
    disk_bytes: int,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    prompts: Sequence[Sequence[int]],
    workload: Workload,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> MemoryEntry:
    """Load the engine in a child, answer ``prompts`` once, and report what it took.

    Raises MeasurementError, also where the child printed nothing for as long as ``timeouts`` says.
    """
    on_gpu = capabilities(load_backend(spec.backend)).device == "cuda"
    card = measure_card() if on_gpu else None
    job = engine_dir, spec, runtime, [list(prompt) for prompt in prompts], workload.output_len, card
    subject = f"the memory pass of {spec.id}"
    with edge(MeasurementError, f"{subject} failed", "run its tests alone, and look into the engine's own log"):
        found = run_module(
            __name__,
            pickle.dumps(job),
            subject=subject,
            hint="a status of -9 is the kernel's out-of-memory killer",
            limit=timeouts.limit("memory"),
            error=MeasurementError,
            answers=True,
        )
        return MemoryEntry(engine=spec.id, workload=workload.id, disk=disk_bytes, **found)


def _resident(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise MeasurementError(f"{STATUS} has no {field}")


def mapped_bytes(folder: Path) -> int:
    """Bytes of the folder's files that this process has mapped, whether or not they are resident."""
    import psutil

    maps = psutil.Process().memory_maps(grouped=False)
    return sum(int(each.size) for each in maps if each.path.startswith(f"{folder}/"))


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


class _GpuMeter:
    """Used memory of the visible NVIDIA GPUs, as NVML counts it.

    Whoever else used the device would be counted too, so they are refused. The peak is what is used after the work: the
    frameworks' allocators keep what they once took.
    """

    def used(self) -> int:
        gpu.refuse_busy()
        return gpu.used_bytes()

    def held(self) -> int:
        return self.used()

    def reset_peak(self) -> None:
        return

    def peak(self) -> int:
        return self.used()


def _run(
    engine_dir: Path,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    card: Card | None,
) -> dict[str, Any]:
    """The figures of a MemoryEntry. ``card``: what the engine runs on, None for the CPU.

    A CUDA context on each card is the driver's own and would cover a small model's weights, so it does not count.
    """
    backend = load_backend(spec.backend)
    if card is None:  # they take memory of the process's own, and none on a card but the context
        for library in backend.libraries:
            importlib.import_module(library)
    meter = _GpuMeter() if card else _CpuMeter(engine_dir)
    contexts = spec.tensor_parallel * card.context_bytes if card else 0
    before, held = meter.used() + contexts, meter.held() + contexts
    print(f"loading {spec.id}", flush=True)  # what a child prints renews the limit, and says how far it came
    engine = backend.load(engine_dir, spec, runtime)
    print("answering", flush=True)
    try:
        loaded = meter.held()
        meter.reset_peak()
        engine.generate(prompts, SamplingParams(max_tokens=max_tokens))
        peak = meter.peak()
        own = engine.memory()
    finally:
        engine.close()
    if card and loaded - held < (own.weights or 0):
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
        "contexts": contexts if card else None,
        "device": card.name if card else "cpu",
        "weights": own.weights,
        "copy_bytes_per_second": card.copy_bytes_per_second if card else None,
    }


if __name__ == "__main__":
    die_with_parent()
    hand_over(_run(*pickle.load(sys.stdin.buffer)))
