"""NVML of a machine with two cards, as much of it as the suite asks: ENGINEGATE_FAKE_GPUS cards, no driver where 0.

The process that asks is on the cards, and so is ENGINEGATE_FAKE_INTRUDER. ENGINEGATE_FAKE_LIST=none lists nobody, and
=refused is a driver that gives no list.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0


class NVMLError(Exception):
    pass


def _count() -> int:
    return int(os.environ.get("ENGINEGATE_FAKE_GPUS", "2"))


def nvmlInit() -> None:
    if not _count():
        raise NVMLError("no driver")


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return _count()


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-{handle}"


def nvmlSystemGetDriverVersion() -> str:
    return "580.1"


def nvmlSystemGetCudaDriverVersion() -> int:
    return 13000


def nvmlDeviceGetName(handle: int) -> str:
    return "Imaginary GPU"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(total=80 << 30, used=1 << 30)


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    return 9, 0


def nvmlDeviceGetMigMode(handle: int) -> tuple[int, int]:
    raise NVMLError("not supported")


def nvmlDeviceGetEnforcedPowerLimit(handle: int) -> int:
    return 700_000


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    return 300_000


def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:
    """Millijoules: 300 W since the clock began; none of an old card."""
    if os.environ.get("ENGINEGATE_FAKE_ENERGY") == "none":
        raise NVMLError("not supported")
    return int(300_000 * time.monotonic())


def nvmlDeviceGetPciInfo(handle: int) -> SimpleNamespace:
    return SimpleNamespace(busId=f"0000:0{handle}:00.0")


def nvmlDeviceGetClockInfo(handle: int, clock: int) -> int:
    return 1980


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return 40 + handle


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: int) -> int:
    return int(os.environ.get("ENGINEGATE_FAKE_THROTTLE", "0"), 0)


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[SimpleNamespace]:
    how = os.environ.get("ENGINEGATE_FAKE_LIST", "")
    if how == "refused":
        raise NVMLError("not supported")
    intruder = os.environ.get("ENGINEGATE_FAKE_INTRUDER")
    running = [intruder] if intruder else []
    return [SimpleNamespace(pid=int(pid)) for pid in (*running, *([] if how == "none" else [os.getpid()]))]
