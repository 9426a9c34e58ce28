"""Keeps a thread's alternate signal stack through what OpenVINO does to it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Have the calling thread's signal stack be the same afterwards. Compile every model in this.

    OpenVINO's CPU plugin gives the thread a stack of its own, and puts the former one back when it is unloaded. Where
    two plugins are unloaded in the order in which they were loaded, the second puts back what the first has freed, and
    the next signal that Python handles, as Ctrl-C, ends the process with SIGSEGV (seen with OpenVINO 2026.4.1). A
    plugin that finds another stack than its own leaves it alone.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None, use_errno=True), Stack()
    if libc.sigaltstack(None, ctypes.byref(before)):
        raise OSError(ctypes.get_errno(), "sigaltstack")
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
