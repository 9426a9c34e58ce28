"""NVIDIA GPUs as NVML sees them: what identifies them, what they are doing now, and who else uses them.

NVML counts all GPUs of the machine, CUDA only those that ``CUDA_VISIBLE_DEVICES`` names; everything here is about the
latter, in its order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from enginegate.core.errors import MeasurementError
from enginegate.core.records import DeviceReading
from enginegate.machine.own_processes import foreign

#: Reasons for lowered clocks that make a round unlike its neighbours: heat and power faults. A card that runs at its
#: own power limit does what it was made for; that is recorded, and disturbs nothing.
THROTTLES = {
    "HwSlowdown": 0x08,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
_DESCRIBED = {"SwPowerCap": 0x04, "SyncBoost": 0x10, "ApplicationsClocksSetting": 0x02} | THROTTLES


@contextmanager
def nvml() -> Iterator[Any]:
    """The initialised ``pynvml`` module, or None where it is not installed or there is no driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def visible_handles(library: Any) -> list[Any]:
    """NVML handles of the GPUs that CUDA shows to this process, in CUDA's order.

    As CUDA does, the list ends at the first name that is none.
    """
    handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return handles
    by_name = {str(index): handle for index, handle in enumerate(handles)}
    by_name |= {text(library.nvmlDeviceGetUUID(handle)): handle for handle in handles}
    found = []
    for name in filter(None, (part.strip() for part in named.split(","))):
        if name not in by_name:
            break
        found.append(by_name[name])
    return found


def identities() -> list[dict[str, Any]]:
    """Name, memory, compute capability, driver and CUDA major, MIG and power limit of each visible GPU."""
    with nvml() as library:
        if library is None:
            return []
        driver = text(library.nvmlSystemGetDriverVersion()).split(".")[0]
        cuda = _optional(library, lambda: int(library.nvmlSystemGetCudaDriverVersion()) // 1000)
        return [
            {
                "name": text(library.nvmlDeviceGetName(handle)),
                "memory_gib": round(library.nvmlDeviceGetMemoryInfo(handle).total / 2**30),
                "compute_capability": _optional(library, lambda h=handle: _capability(library, h)),
                "driver_major": driver,
                "cuda_major": cuda,
                "mig": bool(_optional(library, lambda h=handle: library.nvmlDeviceGetMigMode(h)[0])),
                "power_limit_watts": _optional(
                    library, lambda h=handle: round(library.nvmlDeviceGetEnforcedPowerLimit(h) / 1000)
                ),
            }
            for handle in visible_handles(library)
        ]


def descriptions() -> list[dict[str, Any]]:
    """What describes each visible GPU without identifying its kind: UUID, PCI id, driver, clocks, temperature."""
    with nvml() as library:
        if library is None:
            return []
        driver = text(library.nvmlSystemGetDriverVersion())
        return [
            {
                "uuid": text(library.nvmlDeviceGetUUID(handle)),
                "pci": _optional(library, lambda h=handle: text(library.nvmlDeviceGetPciInfo(h).busId)),
                "driver": driver,
                **_read(library, handle).model_dump(),
            }
            for handle in visible_handles(library)
        ]


def uuids() -> list[str]:
    """UUIDs of the visible GPUs; empty where there is none."""
    with nvml() as library:
        return [] if library is None else [text(library.nvmlDeviceGetUUID(h)) for h in visible_handles(library)]


def compute_capability() -> int | None:
    """Compute capability of the first visible GPU, major x 10 + minor, or None."""
    found = [identity["compute_capability"] for identity in identities()]
    return int(found[0]) if found and found[0] is not None else None


def used_bytes() -> int:
    """Memory in use on the visible GPUs, by all processes. Raises MeasurementError where there is no GPU."""
    with nvml() as library:
        handles = visible_handles(library) if library is not None else []
        if not handles:
            raise MeasurementError("there is no visible NVIDIA GPU whose memory could be measured", "see docs/gpu.md")
        return sum(int(library.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)


@dataclass(frozen=True)
class Occupancy:
    """Who is on a GPU.

    Attributes:
        card: its name.
        ours: how many processes of this session have a context on it.
        others: processes with a context on it that are not ours: PID to name.
        unknown: why it cannot be told whether there are more; empty where it can.
    """

    card: str
    ours: int
    others: Mapping[int, str]
    unknown: str = ""

    @property
    def state(self) -> Literal["free", "busy", "unknown"]:
        """``busy`` where there are others, ``unknown`` where there may be."""
        if self.others:
            return "busy"
        return "unknown" if self.unknown else "free"


class DeviceMonitor:
    """Looks at the visible GPUs around each timed round, with this session's engines on them.

    Keeps NVML open, as opening it takes milliseconds.

    Attributes:
        warnings: what could not be looked at, for the record.
    """

    def __init__(self) -> None:
        self._context = nvml()
        self._library = self._context.__enter__()
        self._handles = visible_handles(self._library) if self._library is not None else []
        self.warnings: list[str] = []

    def read(self) -> DeviceReading | None:
        """Clocks, temperature and power of the first GPU, and reasons for lowered clocks of any; None without one."""
        readings = [_read(self._library, handle) for handle in self._handles]
        if not readings:
            return None
        reasons = dict.fromkeys(reason for reading in readings for reason in reading.reasons)
        return readings[0].model_copy(update={"reasons": list(reasons)})

    def foreign(self) -> dict[int, str]:
        """Processes with a context on one of the GPUs that are not ours: PID to name. See ``warnings``, too."""
        return {pid: name for each in self._look() for pid, name in each.others.items()}

    def refuse_busy(self) -> None:
        """Raise MeasurementError where another process is on one of the GPUs; where that is not known, warn of it."""
        _refuse(self._look())

    def close(self) -> None:
        """Let NVML go."""
        self._handles = []
        self._context.__exit__(None, None, None)

    def _look(self) -> list[Occupancy]:
        found = [_occupancy(self._library, handle) for handle in self._handles]
        for reason in _unknown(found, ours=True):
            warning = f"it is not known whether others use the GPU meanwhile: {reason}"
            if warning not in self.warnings:
                self.warnings.append(warning)
        return found


def refuse_busy(*, ours: bool = False) -> None:
    """Raise MeasurementError where another process has a context on a visible GPU, naming its PID.

    Also where that cannot be told: this is asked when memory is measured, which the device counts for all together.

    Args:
        ours: whether this session has a context there, so that a list without any process is not the whole list.
    """
    found = occupancy()
    _refuse(found)
    reasons = _unknown(found, ours)
    if reasons:
        raise MeasurementError(
            f"it is not known whether the GPU is free: {'; '.join(reasons)}",
            "measure where NVML shows the card and the processes on it (nvidia-smi lists them)",
        )


def occupancy() -> list[Occupancy]:
    """Who is on each visible GPU; empty where NVML shows none."""
    with nvml() as library:
        return [] if library is None else [_occupancy(library, handle) for handle in visible_handles(library)]


def _refuse(found: list[Occupancy]) -> None:
    for each in found:
        if each.state == "busy":
            named = ", ".join(f"{pid} ({name})" for pid, name in each.others.items())
            raise MeasurementError(
                f"the GPU {each.card} is in use by process {named}",
                "end it, or take another GPU (CUDA_VISIBLE_DEVICES)",
            )


def _unknown(found: list[Occupancy], ours: bool) -> list[str]:
    """Why it is not known who is on the cards; empty where it is. ``ours``: see refuse_busy."""
    if not found:
        return ["NVML shows no visible card (is nvidia-ml-py installed, and a driver loaded?)"]
    reasons = [f"{each.card}: {each.unknown}" for each in found if each.unknown]
    if ours and not reasons and not any(each.ours or each.others for each in found):
        # As in a container that NVML does not look into.
        return ["NVML lists no process on it, not even this session's own, which has engines there"]
    return reasons


def _occupancy(library: Any, handle: Any) -> Occupancy:
    card = text(library.nvmlDeviceGetName(handle))
    running = _optional(library, lambda: library.nvmlDeviceGetComputeRunningProcesses(handle))
    if running is None:
        return Occupancy(card, 0, {}, "its driver does not list the processes on it")
    listed = {int(process.pid) for process in running}
    others = {pid: _process_name(pid) for pid in foreign(listed)}
    return Occupancy(card, len(listed) - len(others), others)


def throttled(reading: DeviceReading | None) -> bool:
    """Whether heat or a power fault held the clocks down."""
    return reading is not None and not THROTTLES.keys().isdisjoint(reading.reasons)


def _read(library: Any, handle: Any) -> DeviceReading:
    mask = _optional(library, lambda: int(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))) or 0
    power = _optional(library, lambda: round(library.nvmlDeviceGetPowerUsage(handle) / 1000))
    return DeviceReading(
        sm_mhz=_optional(library, lambda: int(library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM))),
        memory_mhz=_optional(library, lambda: int(library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_MEM))),
        celsius=_optional(library, lambda: int(library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU))),
        watts=power,
        reasons=[name for name, bit in _DESCRIBED.items() if mask & bit],
    )


def _capability(library: Any, handle: Any) -> int:
    major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
    return 10 * int(major) + int(minor)


def _optional(library: Any, ask: Any) -> Any:
    """The answer, or None where this driver, card or virtual machine does not tell."""
    try:
        return ask()
    except library.NVMLError:
        return None


def text(value: str | bytes) -> str:
    """What NVML says in words: bytes in older versions of its library."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _process_name(pid: int) -> str:
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "of another user or container"
