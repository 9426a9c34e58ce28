"""Energy that the device took, in joules, where it tells: NVML of an NVIDIA GPU, RAPL of a CPU (Linux powercap).

RAPL counts a whole package and NVML a whole card, whoever uses it, so the figures are advice and gate nothing. RAPL's
counter moves about once a millisecond, NVML's every 20 to 100 ms: what a short round took is coarse, the sum over
rounds is not. Sources: Documentation/power/powercap of the Linux kernel; nvmlDeviceGetTotalEnergyConsumption of the
NVML API reference (millijoules since the driver was loaded, Volta and later).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.machine.gpu import nvml, visible_handles

#: Where the kernel shows RAPL's zones.
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyMeter:
    """Counts energy.

    Attributes:
        source: what counts, for people.
        zones: of each counter, its reading in joules, and the joules at which it begins anew (None: it does not).
    """

    source: str
    zones: tuple[tuple[Callable[[], float], float | None], ...]

    def read(self) -> list[float] | None:
        """What each counter says now; None where one cannot be read any more."""
        try:
            return [counter() for counter, _ in self.zones]
        except (OSError, ValueError, RuntimeError):
            return None

    def between(self, before: list[float] | None, after: list[float] | None) -> float | None:
        """Joules between two readings; None where one is missing, or a counter went back without an end."""
        if before is None or after is None:
            return None
        total = 0.0
        for one, other, (_, wraps) in zip(before, after, self.zones, strict=True):
            spent = other - one + (wraps if other < one and wraps is not None else 0.0)
            if spent < 0:
                return None
            total += spent
        return total


def energy_meter(device: str, powercap: Path = POWERCAP) -> EnergyMeter | str:
    """What counts the energy of a device, ``cpu`` or ``cuda``; else why nothing does."""
    return _of_gpu() if device == "cuda" else _of_cpu(powercap)


def described(has_gpu: bool) -> str:
    """The same in words, for the machine's description."""
    found = energy_meter("cuda" if has_gpu else "cpu")
    return f"not told: {found}" if isinstance(found, str) else found.source


def _of_cpu(powercap: Path) -> EnergyMeter | str:
    zones = []
    names = []
    try:
        folders = sorted(powercap.glob("intel-rapl:*"))
        for folder in folders:
            name = (folder / "name").read_text(encoding="ascii").strip()
            if not name.startswith("package"):  # what a package holds is part of it, and psys is the whole machine
                continue
            whole = int((folder / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
            file = folder / "energy_uj"
            int(file.read_text(encoding="ascii"))
            zones.append((lambda file=file: int(file.read_text(encoding="ascii")) / 1e6, whole))
            names.append(name)
    except PermissionError as error:
        return f"{error.filename} may be read by root alone (kernel 5.10 and later)"
    except (OSError, ValueError) as error:
        return f"RAPL below {powercap} cannot be read: {error}"
    if not zones:
        return f"no package of RAPL below {powercap}, as in most virtual machines"
    return EnergyMeter(f"RAPL, {', '.join(names)}", tuple(zones))


def _of_gpu() -> EnergyMeter | str:
    context = nvml()
    library = context.__enter__()  # stays open for the process's life: opening it takes milliseconds
    handles = [] if library is None else visible_handles(library)
    if not handles:
        return "NVML shows no card"

    def counter(handle: Any) -> Callable[[], float]:
        def read() -> float:
            try:
                return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
            except (library.NVMLError, AttributeError) as error:  # of an old card, in an old library
                raise RuntimeError(str(error)) from error

        return read

    zones = [counter(handle) for handle in handles]
    try:
        zones[0]()
    except RuntimeError as error:
        return f"this card or driver has no counter of energy ({error})"
    return EnergyMeter("NVML, total energy of the visible cards", tuple((zone, None) for zone in zones))
