"""The machine: what identifies it (two runs may be compared) and what only describes it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from enginegate.core.records import Fingerprint
from enginegate.machine import gpu

#: CPU features that decide which kernels an engine runs.
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimd", "bf16")
#: Libraries whose versions are worth knowing when two runs differ.
LIBRARIES = (
    "torch", "transformers", "openvino", "openvino-genai", "optimum-intel", "nncf", "vllm", "tensorrt-llm", "numpy",
)  # fmt: skip


def fingerprint() -> Fingerprint:
    """Fingerprint of this machine, its key made of the identity alone."""
    identity: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpu_features": sorted(set(CPU_FEATURES) & cpu_flags()),
        "cores": usable_cores(),
        "memory_gib": round(_memory_bytes() / 2**30),
        "architecture": platform.machine(),
        "system": platform.system(),
        "gpus": gpu.identities(),
    }
    canonical = json.dumps(identity, sort_keys=True).encode()
    device = identity["gpus"][0]["name"] if identity["gpus"] else identity["cpu"]
    slug = re.sub(r"[^a-z0-9]+", "-", str(device).lower()).strip("-")[:40]
    context = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
        "cpu_mhz": _cpu_mhz(),
        "libraries": library_versions(),
        "gpus": gpu.descriptions(),
    }
    return Fingerprint(
        key=f"{slug}-{identity['cores']}c-{hashlib.sha256(canonical).hexdigest()[:8]}",
        identity=identity,
        context=context,
    )


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide speed and quality."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """CPU feature flags as Linux names them; empty where the system does not tell."""
    return set(_cpuinfo_field(cpuinfo, "flags", "Features").split())


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name with family and model numbers, since a hypervisor may hide the exact name."""
    name = _cpuinfo_field(cpuinfo, "model name") or platform.processor() or "unknown"
    family, model = _cpuinfo_field(cpuinfo, "cpu family"), _cpuinfo_field(cpuinfo, "model")
    return f"{name} (family {family}, model {model})" if family else name


def _cpuinfo_field(cpuinfo: Path, *names: str) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return ""
    for name in names:
        found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return ""


def _cpu_mhz() -> float | None:
    value = _cpuinfo_field(Path("/proc/cpuinfo"), "cpu MHz")
    return float(value) if value else None


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
