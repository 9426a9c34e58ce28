"""Leases of GPUs: one process at a time measures on a card, however many sessions the machine has.

A lease is a file lock named after the card's UUID, in a folder that all sessions of this user share; the system frees a
dead process's lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import MeasurementError
from harness.measure import gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds between two looks at cards that are all taken.
_PATIENCE = 0.5


@dataclass
class Lease:
    """One card, held until ``release`` or the end of the process."""

    uuid: str
    _lock: FileLock

    def release(self) -> None:
        """Let another process have the card."""
        self._lock.release()


def lease_device(folder: Path, *, uuids: Sequence[str] | None = None, timeout: float = 0.0) -> Lease:
    """Take one free card, and make it the only one that CUDA shows to this process and its children.

    Must run before CUDA is initialised in this process.

    Args:
        folder: where the locks lie.
        uuids: the cards to choose from; None for all that are visible.
        timeout: seconds to wait for one to become free.

    Raises:
        MeasurementError: there is no card, or none became free.
    """
    cards = gpu.uuids() if uuids is None else list(uuids)
    if not cards:
        raise MeasurementError("there is no visible NVIDIA GPU to lease", "look at nvidia-smi and CUDA_VISIBLE_DEVICES")
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    while True:
        for uuid in cards:
            lock = FileLock(folder / f"{uuid}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            os.environ[VISIBLE] = uuid
            return Lease(uuid, lock)
        if time.monotonic() >= deadline:
            raise MeasurementError(
                f"all of {', '.join(cards)} are leased to other processes",
                "start no more workers (-n) than there are GPUs, or wait for the other session",
            )
        time.sleep(_PATIENCE)
