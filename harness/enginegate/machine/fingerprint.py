"""The machine: what identifies it (two runs may be compared) and what only describes it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from typing import Any

import psutil

from enginegate.core.records import Fingerprint
from enginegate.machine import energy, gpu
from enginegate.machine.cgroup import Limits, read_limits
from enginegate.machine.cpu import allowed_cpus, cpu_flags, cpu_model, cpuinfo, usable_cores

#: CPU features that decide which kernels an engine runs.
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimd", "bf16")
#: Libraries whose versions are worth knowing when two runs differ.
LIBRARIES = (
    "torch", "transformers", "openvino", "openvino-genai", "optimum-intel", "nncf", "vllm", "tensorrt-llm", "numpy",
)  # fmt: skip


def fingerprint() -> Fingerprint:
    """Fingerprint of this machine, its key made of the identity alone."""
    memory = psutil.virtual_memory().total
    identity: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpu_features": sorted(cpu_flags().intersection(CPU_FEATURES)),
        "cores": usable_cores(),
        "memory_gib": round(memory / 2**30),
        "architecture": platform.machine(),
        "system": platform.system(),
        "gpus": gpu.identities(),
    } | limited(read_limits(), len(allowed_cpus()), memory)
    mhz = cpuinfo("cpu MHz")
    context = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
        "cpu_mhz": float(mhz) if mhz else None,
        "libraries": library_versions(),
        "gpus": gpu.descriptions(),
        "energy": energy.described(bool(identity["gpus"])),
    }
    return Fingerprint(key=key_of(identity), identity=identity, context=context)


def key_of(identity: Mapping[str, Any]) -> str:
    """The name of a machine's baselines: its device, how many cores it has, and a digest of its whole identity."""
    canonical = json.dumps(identity, sort_keys=True).encode()
    device = identity["gpus"][0]["name"] if identity["gpus"] else identity["cpu"]
    slug = re.sub(r"[^a-z0-9]+", "-", str(device).lower()).strip("-")[:40]
    return f"{slug}-{identity['cores']}c-{hashlib.sha256(canonical).hexdigest()[:8]}"


def limited(limits: Limits, cores: int, memory: int) -> dict[str, float]:
    """What an identity says besides, where control groups allow less than the machine has, and nothing where not.

    So a machine without limits keeps the key that it had before limits were looked at.

    Args:
        limits: of the control groups.
        cores: how many the process may run on.
        memory: the machine's, in bytes.
    """
    found: dict[str, float] = {}
    if limits.cpu_quota is not None and limits.cpu_quota < cores:
        found["cpu_quota"] = round(limits.cpu_quota, 2)
    if limits.memory_bytes is not None and limits.memory_bytes < memory:
        found["memory_limit_gib"] = round(limits.memory_bytes / 2**30, 2)
    return found


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide speed and quality."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
