"""The messages between the session and the process of an engine.

A frame is a mark, the length of what follows, and a pickled ``Request`` or ``Reply``. Every reply carries the number of
the request that it belongs to, so that one that nobody reads any more is not taken for the answer to the next.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, TypeVar

_HEAD = struct.Struct("!4sQ")
_MARK = b"eng1"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Request:
    """What the session asks.

    Attributes:
        number: counts up with each request.
        method: the engine's method, or ``load``.
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
        number: the request's.
        kind: "value" or "error", which end the answer; "event", one of several parts; "progress", a sign of life.
        value: what the method gave, or the error's class, problem and hint.
    """

    number: int
    kind: str
    value: Any = None


class UnreadableError(Exception):
    """What came is no message."""


Message = TypeVar("Message", Request, Reply)


class Channel:
    """One end of a connection."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._bytes = bytearray()

    def send(self, message: Request | Reply, limit: float | None = None) -> None:
        """Send one message whole.

        Raises TimeoutError where the other side does not take it within ``limit`` seconds, another OSError where that
        is gone, and whatever pickling raises, before a byte is sent.
        """
        content = pickle.dumps(message)
        self._socket.settimeout(limit)
        try:
            self._socket.sendall(_HEAD.pack(_MARK, len(content)) + content)
        finally:
            self._socket.settimeout(None)

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
            message = pickle.loads(content)
        except Exception as error:  # unpickling raises whatever the classes that are named in there raise
            raise UnreadableError(f"{type(error).__name__}: {error}") from error
        if not isinstance(message, kind):
            raise UnreadableError(f"a {type(message).__name__} came for a {kind.__name__}")
        return message

    def close(self) -> None:
        """Close this end; the other side's next read ends."""
        self._socket.close()

    def _content(self) -> bytes | None:
        """Take the first frame, if it is whole, from what was read."""
        if len(self._bytes) < _HEAD.size:
            return None
        mark, length = _HEAD.unpack_from(self._bytes)
        if mark != _MARK:
            raise UnreadableError(f"it begins with {bytes(self._bytes[:16])!r}")
        end = _HEAD.size + length
        if len(self._bytes) < end:
            return None
        content = bytes(self._bytes[_HEAD.size : end])
        del self._bytes[:end]
        return content

    def _read(self, limit: float | None, process: int | None) -> None:
        if limit is not None or process is not None:
            ready = connection.wait([self._socket, *([process] if process is not None else [])], limit)
            if not ready:
                raise TimeoutError
            if self._socket not in ready and not connection.wait([self._socket], 0):  # it may have written, then ended
                raise EOFError
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            raise EOFError
        self._bytes += chunk
