"""Leases of GPUs: one process at a time measures on a card, however many sessions the machine has.

A lease is a file lock named after the card's UUID, in a folder that all sessions of this user share; the system frees a
dead process's lock.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from enginegate.core.errors import MeasurementError, edge
from enginegate.machine import gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds between two looks at cards that are all taken.
_PATIENCE = 0.5


def lease_folder() -> Path:
    """Where all sessions of this user find the locks, whatever cache they use. Raises MeasurementError for none."""
    with edge(MeasurementError, "there is no folder for the leases of GPUs", "point $TMPDIR at a folder of your own"):
        return Path(tempfile.gettempdir()) / f"enginegate-leases-{os.getuid()}"


@dataclass
class Lease:
    """One or more cards, held until ``release`` or the end of the process."""

    uuids: tuple[str, ...]
    _locks: list[FileLock]

    def release(self) -> None:
        """Let another process have the cards."""
        for lock in self._locks:
            lock.release()


def lease_devices(folder: Path, count: int = 1, *, uuids: Sequence[str] | None = None, timeout: float = 0.0) -> Lease:
    """Take free cards, and make them the only ones that CUDA shows to this process and its children.

    Must run before CUDA is initialised in this process. All are taken or none, so that two who need several never wait
    for one another.

    Args:
        folder: where the locks lie.
        count: how many cards.
        uuids: the cards to choose from; None for all that are visible.
        timeout: seconds to wait for as many to become free.

    Raises:
        MeasurementError: there are not as many cards, they did not become free, or no lock can be had.
    """
    cards = gpu.uuids() if uuids is None else list(uuids)
    if len(cards) < count:
        raise MeasurementError(
            f"{count} NVIDIA GPU(s) to lease are needed, visible are {len(cards)}",
            "look at nvidia-smi, CUDA_VISIBLE_DEVICES and limits.tensor_parallel",
        )
    deadline = time.monotonic() + timeout
    while True:
        taken: dict[str, FileLock] = {}
        with edge(MeasurementError, f"no GPU can be leased in {folder}", "point $TMPDIR at a folder of your own"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for uuid in cards:
                lock = FileLock(folder / f"{uuid}.lock")
                with suppress(Timeout):
                    lock.acquire(timeout=0)
                    taken[uuid] = lock
                if len(taken) == count:
                    os.environ[VISIBLE] = ",".join(taken)
                    return Lease(tuple(taken), list(taken.values()))
        for lock in taken.values():
            lock.release()
        if time.monotonic() >= deadline:
            raise MeasurementError(
                f"too many of {', '.join(cards)} are leased to other processes: free are {len(taken)}, needed {count}",
                "start no more workers (-n) than there are GPUs for, or wait for the other session",
            )
        time.sleep(_PATIENCE)
