"""What the machine and its installed libraries can do, found without importing anything heavy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Feature flags of the first CPU in ``/proc/cpuinfo``; empty where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def cpu_computes_bf16() -> bool:
    """Whether the CPU has bfloat16 dot products."""
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def cpu_computes_fp16() -> bool:
    """Whether the CPU has float16 arithmetic."""
    return not cpu_flags().isdisjoint({"avx512_fp16", "amx_fp16"})


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_cuda() -> bool:
    """Whether an NVIDIA driver is loaded. Says nothing about whether the installed libraries can use it."""
    return Path("/proc/driver/nvidia/version").exists()


def missing_modules(modules: Iterable[str]) -> list[str]:
    """Those of ``modules`` (top-level import names) that are not installed."""
    return [name for name in modules if util.find_spec(name) is None]


def versions(distributions: tuple[str, ...]) -> str:
    """``name version`` of each distribution, comma-separated; ``absent`` for one that is not installed."""
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)
