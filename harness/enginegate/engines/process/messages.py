"""The messages between the session and the process of an engine.

A frame is a mark, the protocol's number, the lengths of what follows, JSON, and the arrays that it speaks of. Every
reply carries the number of the request that it belongs to, so that one that nobody reads any more is not taken for the
answer to the next.

``execnet``, which pytest-xdist brings, would carry such values, too. It is not used: what is needed besides (a limit
for each wait, the end of a process that hangs, arrays without copies, one loop in the main thread) is here anyway, and
the other side would need it installed or sent along.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from selectors import EVENT_WRITE, DefaultSelector
from typing import Any, TypeVar

from enginegate.engines.process.values import decode, encode

#: Raised with every change of what is said; both sides must speak the same.
PROTOCOL = 4
#: A mark and the protocol, then the lengths of the JSON and of the arrays, in bytes. The first two stay as they are.
_MARK = b"eng:"
_HEAD = struct.Struct("!4sHQQ")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Request:
    """What the session asks.

    Attributes:
        number: counts up with each request.
        method: the engine's method, or one of the worker's own.
        arguments: those of the method.
        beat: seconds after which the process is to say that the work goes on, and again after as many.
    """

    number: int
    method: str
    arguments: Sequence[Any]
    beat: float


@dataclass(frozen=True)
class Reply:
    """What the process answers.

    Attributes:
        number: the request's; 0 for the greeting.
        kind: "value", "error" or "absent", which end the answer; "event", one of several parts; "progress", a sign of
            life; "greeting", the first of all.
        value: what the method gave, or the error's class, problem and hint, or the paths that are not there; of
            "progress" the share of the work that is done, where the engine says it.
    """

    number: int
    kind: str
    value: Any = None


class UnreadableError(Exception):
    """What came is no message."""


Message = TypeVar("Message", Request, Reply)


class Channel:
    """One end of a connection: a descriptor to read from and one to write to, which may be one and the same.

    Where limits are given for sending, the writing descriptor must not block. ``named``: see ``encode``.
    """

    def __init__(self, reading: int, writing: int, named: Callable[[str], str] = str) -> None:
        self.reading, self.writing = reading, writing
        self._named = named
        self._bytes = bytearray()
        self._open = True

    def send(self, message: Request | Reply, limit: float | None = None) -> None:
        """Send one message whole.

        Raises TimeoutError where the other side does not take it within ``limit`` seconds, another OSError where that
        is gone, and TypeError or ValueError for what cannot be sent, before a byte is.
        """
        text, arrays = encode(list(vars(message).values()), self._named)
        self.write(_HEAD.pack(_MARK, PROTOCOL, len(text), len(arrays)) + text + arrays, limit)

    def write(self, content: bytes, limit: float | None = None) -> None:
        """Send bytes as they are, all of them. Raises as ``send`` does."""
        left = memoryview(content)
        deadline = None if limit is None else time.monotonic() + limit
        while left:
            try:
                left = left[os.write(self.writing, left) :]
            except BlockingIOError:
                self._await_room(deadline)

    def receive(self, kind: type[Message], limit: float | None = None, process: int | None = None) -> Message:
        """The next message, in a blocking read that takes no time on any core.

        Args:
            kind: what is expected.
            limit: seconds without a byte after which it is given up; None waits for ever.
            process: descriptor that becomes readable when the other side's process ends. Its end of the connection
                closes then only where no process that it forked holds that, too.

        Raises:
            TimeoutError: nothing came.
            EOFError: the other side, or its process, is gone. What it sent before is read first.
            UnreadableError: what came is no message of that kind; nothing that follows can be read either.
        """
        while (content := self._content()) is None:
            self._read(limit, process)
        try:
            return kind(*decode(*content))
        except Exception as error:  # a class that a backend named may raise anything
            raise UnreadableError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close this end; the other side's next read ends."""
        if self._open:
            self._open = False
            for descriptor in {self.reading, self.writing}:
                os.close(descriptor)

    def _await_room(self, deadline: float | None) -> None:
        with DefaultSelector() as selector:
            selector.register(self.writing, EVENT_WRITE)
            if not selector.select(None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise TimeoutError

    def _content(self) -> tuple[bytes, bytes] | None:
        """Take the JSON and the arrays of the first frame, if it is whole, from what was read."""
        if self._bytes and not _MARK.startswith(self._bytes[: len(_MARK)]):
            raise UnreadableError(f"it begins with {bytes(self._bytes[:16])!r}")
        if len(self._bytes) < _HEAD.size:
            return None
        _, protocol, text, arrays = _HEAD.unpack_from(self._bytes)
        if protocol != PROTOCOL:
            raise UnreadableError(f"the other side speaks protocol {protocol}, this one {PROTOCOL}")
        middle, end = _HEAD.size + text, _HEAD.size + text + arrays
        if len(self._bytes) < end:
            return None
        content = bytes(self._bytes[_HEAD.size : middle]), bytes(self._bytes[middle:end])
        del self._bytes[:end]
        return content

    def _read(self, limit: float | None, process: int | None) -> None:
        if limit is not None or process is not None:
            ready = connection.wait([self.reading, *([process] if process is not None else [])], limit)
            if not ready:
                raise TimeoutError
            if self.reading not in ready and not connection.wait([self.reading], 0):  # it may have written, then ended
                raise EOFError
        chunk = os.read(self.reading, _CHUNK)
        if not chunk:
            raise EOFError
        self._bytes += chunk
