"""What an NVIDIA GPU is before an engine is on it: how much a CUDA context takes, how fast its memory copies.

Found in a process of its own, this module run as a program, so that whoever asks opens no context: an engine over
several cards works in processes that are forked from its own, and a process with a context cannot be forked.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

from enginegate.core.errors import MeasurementError
from enginegate.core.specs import Limit
from enginegate.machine import gpu
from enginegate.machine.processes import die_with_parent, hand_over, run_module

#: Of a look at the card, which takes seconds whatever is configured.
_LIMIT = Limit(120.0)


@dataclass(frozen=True)
class Card:
    """The first visible GPU.

    Attributes:
        name: as NVML gives it.
        context_bytes: memory that one process's CUDA context takes, with nothing in it.
        copy_bytes_per_second: what a large copy within the GPU's memory moves, read plus written.
    """

    name: str
    context_bytes: int
    copy_bytes_per_second: float


@lru_cache(maxsize=1)
def measure_card() -> Card:
    """Measure the card, once in this process. Raises MeasurementError, also where another process is on it."""
    found = run_module(
        __name__,
        b"",
        subject="measuring the GPU",
        hint="see docs/gpu.md",
        limit=_LIMIT,
        error=MeasurementError,
        answers=True,
    )
    return Card(**found)


def _measure() -> Card:
    import torch

    gpu.refuse_busy()
    without = gpu.used_bytes()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    context = gpu.used_bytes() - without
    gpu.refuse_busy(ours=True)
    return Card(str(gpu.identities()[0]["name"]), context, _copy_bandwidth())


def _copy_bandwidth(size: int = 1 << 31, rounds: int = 5) -> float:
    """Bytes per second that copying ``size`` bytes within the GPU's memory moves, read plus written; the best round."""
    import torch

    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(rounds + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1000)
    return 2 * size / best


if __name__ == "__main__":
    die_with_parent()
    hand_over(asdict(_measure()))
