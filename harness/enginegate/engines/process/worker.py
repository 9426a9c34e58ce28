"""The process of one engine: ``python -m enginegate.engines.process.worker DESCRIPTOR``.

Between requests it waits in a blocking read, so that it takes no time on any core and launches nothing on the device.
Seconds and token times are taken here, so that the connection is in neither.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineError, EngineGateError, explained_by, is_no_failure
from enginegate.engines.base import Effective, Engine
from enginegate.engines.process.heartbeat import beating
from enginegate.engines.process.messages import Channel, Reply, Request
from enginegate.engines.timing import timed_answer
from enginegate.machine.cores import allowed_cores, take_quietest_core
from enginegate.machine.processes import die_with_parent


def serve(channel: Channel) -> None:
    """Do what the session asks until it closes its end."""
    worker = _Worker(channel)
    try:
        while True:
            worker.answer(channel.receive(Request))
    except (EOFError, OSError, _SessionGoneError):
        pass
    finally:
        worker.close()


class _SessionGoneError(Exception):
    """Told apart from what an engine raises."""


class _Worker:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._cores = allowed_cores()
        self._engine: Engine | None = None

    def answer(self, request: Request) -> None:
        """Answer one request, also where it fails. Raises _SessionGoneError where nobody takes the answer."""

        def tell(kind: str, value: object = None) -> None:
            try:
                self._channel.send(Reply(request.number, kind, value))
            except OSError as error:
                raise _SessionGoneError from error

        try:
            with beating(lambda: tell("progress"), request.beat):
                if request.method == "stream":
                    for event in self._loaded().stream(*request.arguments):
                        tell("event", event)
                    value = None
                else:
                    value = self._do(request.method, *request.arguments)
            tell("value", value)  # fails before a byte is sent where the value cannot be
        except _SessionGoneError:
            raise
        except EngineGateError as error:
            tell("error", (type(error).__name__, error.problem, error.hint))
        except BaseException as error:  # as in ``edge``
            if is_no_failure(error):
                raise
            failed = explained_by(error, EngineError, "an engine's process failed", "see the lines above")
            last = "".join(traceback.format_exception(error)[-3:])
            tell("error", ("EngineError", f"{failed.problem}:\n{last}", failed.hint))

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _do(self, method: str, *arguments: Any) -> object:
        if method == "load":
            from enginegate.engines.registry import load_backend

            name, engine_dir, spec, runtime = arguments
            self._engine = load_backend(name).load(Path(engine_dir), spec, runtime)
            return None
        if method == "take_quietest_core":
            take_quietest_core(self._cores)
            return None
        engine = self._loaded()
        if method == "score":
            sequences, prefill = arguments
            return engine.score(sequences, prefill=prefill)
        if method == "effective":
            found = engine.effective()
            # Details are JSON-able by contract; a library's own type must not need that library in the session.
            return Effective(**{**asdict(found), "details": json.loads(json.dumps(dict(found.details), default=str))})
        if method == "generate":
            return timed_answer(engine, *arguments)
        return getattr(engine, method)(*arguments)

    def _loaded(self) -> Engine:
        assert self._engine is not None
        return self._engine


if __name__ == "__main__":
    die_with_parent()
    os.set_inheritable(int(sys.argv[1]), False)  # a program that the engine starts would keep the connection open
    serve(Channel(socket.socket(fileno=int(sys.argv[1]))))
