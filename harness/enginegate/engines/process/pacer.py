"""The process that says when requests arrive: sleeps to each one's time, and stamps it.

A process, not a thread: an engine's step may hold Python's lock for as long as it takes (OpenVINO's does), and a
request would arrive only when the step is over. The clock is the system's monotonic one, which all processes share.

It is run as a file by a bare Python, so that it is there within a few hundredths of a second, and imports nothing else
of the package. Standard input: how many times follow, then the times, absolute. Standard output: a word when it is
ready, then for each request its index and the time at which it was sent. It ends when its input is closed.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import time
from contextlib import suppress

READY = b"paced"
COUNT = struct.Struct("<Q")
SENT = struct.Struct("<Qd")


def main() -> None:
    """Pace one run."""
    with suppress(OSError, AttributeError):  # where this user may: to be on time beside an engine that has all cores
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.write(1, READY)
    (count,) = COUNT.unpack(sys.stdin.buffer.read(COUNT.size))
    times = struct.unpack(f"<{count}d", sys.stdin.buffer.read(8 * count))
    for index, due in enumerate(times):
        while (left := due - time.monotonic()) > 0:
            if select.select([0], [], [], left)[0]:  # nothing more is said on it: it was closed
                return
        os.write(1, SENT.pack(index, time.monotonic()))


if __name__ == "__main__":
    main()
