"""What the machine and its installed libraries can do, found without importing anything heavy."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

from enginegate.machine.cgroup import read_limits
from enginegate.machine.cores import allowed_cores

CPUINFO = Path("/proc/cpuinfo")


def cpuinfo(*names: str, file: Path = CPUINFO) -> str:
    """The first CPU's entry of the first of ``names`` that ``/proc/cpuinfo`` has; empty where it has none."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return ""
    for name in names:
        found = re.search(rf"^{re.escape(name)}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return ""


@lru_cache(maxsize=4)
def cpu_flags(file: Path = CPUINFO) -> frozenset[str]:
    """Feature flags of the first CPU, as Linux names them; empty where the system does not tell."""
    return frozenset(cpuinfo("flags", "Features", file=file).split())


def cpu_model(file: Path = CPUINFO) -> str:
    """The CPU's name with family and model numbers, since a hypervisor may hide the exact name."""
    name = cpuinfo("model name", file=file) or platform.processor() or "unknown"
    family, model = cpuinfo("cpu family", file=file), cpuinfo("model", file=file)
    return f"{name} (family {family}, model {model})" if family else name


def cpu_computes_bf16() -> bool:
    """Whether the CPU has bfloat16 dot products."""
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def cpu_computes_fp16() -> bool:
    """Whether the CPU has float16 arithmetic."""
    return not cpu_flags().isdisjoint({"avx512_fp16", "amx_fp16"})


def allowed_cpus() -> frozenset[int]:
    """Numbers of the CPUs that this process may run on, by its affinity and its cpuset."""
    cpus = allowed_cores() or frozenset(range(os.cpu_count() or 1))
    return cpus.intersection(read_limits().cpus or cpus) or cpus


def usable_cores() -> int:
    """Cores that this process can keep busy: those it may run on, and no more than its CPU quota pays for.

    A quota is rounded down, to 1 at least. With one thread more than it pays for, all of them use the quota up before
    its period (0.1 s) ends and stand still for the rest: engines whose threads wait for one another at every layer
    then answer in bursts. With one thread less a part of a core is left over, for the thread that feeds the engine.
    """
    cores = len(allowed_cpus())
    quota = read_limits().cpu_quota
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


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
