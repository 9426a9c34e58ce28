"""The process of one engine: ``python -m enginegate.engines.process.worker``, on its standard input and output.

Between requests it waits in a blocking read, so that it takes no time on any core and launches nothing on the device.
Seconds and token times are taken here, so that the connection is in neither. Everything is done in the main thread,
as CUDA minds another one. This module and all that it imports need nothing but the standard library and numpy, so that
any Python in which the engine's library is installed can serve.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineError, EngineGateError, edge, explained_by, is_no_failure
from enginegate.core.specs import EngineSpec, Timeouts
from enginegate.engines.answers import distributions
from enginegate.engines.base import Effective, Engine
from enginegate.engines.process.heartbeat import beating
from enginegate.engines.process.messages import Channel, Reply, Request
from enginegate.engines.serving import serving
from enginegate.engines.timing import timed_answer
from enginegate.machine.cores import allowed_cores, take_quietest_core
from enginegate.machine.processes import die_with_parent
from enginegate.models.checkpoint import Checkpoint

#: Seconds that a request may go on after the session is gone, and that closing the engine may take then.
_LAST_SECONDS, _CLOSE_SECONDS = 5.0, 60.0


def serve(channel: Channel) -> None:
    """Do what the session asks until it closes its end."""
    worker = _Worker(channel)
    try:
        while True:
            worker.answer(channel.receive(Request))
    except (EOFError, OSError, _SessionGoneError):
        pass
    finally:
        _closing.set()
        worker.close()


def greeting() -> dict[str, object]:
    """What the session is told first: which Python this is, where it is installed, and where its processes are."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    home = os.stat(sys.prefix)  # noqa: PTH116 - the folder itself, by whatever path it is reached
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "home": f"{home.st_dev}:{home.st_ino}",
        "processes": namespace,
    }


_closing = threading.Event()


def take_streams() -> Channel:
    """Standard input and output as the connection; what is printed from now on goes to standard error."""
    channel = Channel(os.dup(0), os.dup(1))  # inherited by no program that the engine starts
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return channel


def end_with_session(channel: Channel) -> None:
    """End this process soon after the session has gone, also while the engine is at work.

    On this machine the session ends its children itself; into a container it does not reach.
    """

    def watch() -> None:
        hung_up = select.poll()
        hung_up.register(channel.reading, getattr(select, "POLLRDHUP", 0))  # a hang-up is told unasked
        hung_up.poll()
        if not _closing.wait(_LAST_SECONDS):
            os._exit(1)
        threading.Event().wait(_CLOSE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="enginegate-watch", daemon=True).start()


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
            with beating(lambda share: tell("progress", share), request.beat):
                if request.method == "stream":
                    for event in self._loaded().stream(*request.arguments):
                        tell("event", event)
                    value = None
                elif request.method == "submit":
                    # Nothing is sent while requests are served: the sending would take its time from the steps.
                    for happened in list(serving(self._loaded()).submit(*request.arguments)):
                        tell("event", happened)
                    value = None
                elif absent := _absent(request.arguments):
                    tell("absent", absent)
                    return
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
            self._engine = load_backend(name).load(engine_dir, spec, runtime)
            return None
        if method == "take_quietest_core":
            take_quietest_core(self._cores)
            return None
        if method in _BACKEND_METHODS:
            return _BACKEND_METHODS[method](*arguments)
        engine = self._loaded()
        if method == "score":
            sequences, prefill = arguments
            return engine.score(sequences, prefill=prefill)
        if method == "distributions":
            sequences, cells, prefill = arguments
            return distributions(engine, sequences, cells=cells, prefill=prefill)
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


def _versions(name: str) -> str:
    from enginegate.engines.registry import load_backend

    return load_backend(name).version()


def _absent(arguments: Sequence[Any]) -> list[str]:
    """Paths that are to be used and are not there: the session's files may lie elsewhere for this process."""
    paths = [each.path if isinstance(each, Checkpoint) else each for each in arguments]
    return [str(path) for path in paths if isinstance(path, Path) and not path.exists()]


def _why_not_built(name: str, precision: str, kv_precision: str, *folders: Path) -> str:
    """Why this Python cannot build an engine of that precision; empty where it can. It writes to the last folder."""
    from enginegate.engines.registry import check_precision, load_backend

    if folders and not os.access(folders[-1], os.W_OK):
        return f"it may not write to {folders[-1].parent}"
    try:
        check_precision(load_backend(name), precision, kv_precision)
    except EngineGateError as error:
        return error.problem
    return ""


def _build(name: str, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, timeouts: Timeouts) -> None:
    from enginegate.engines.process.building import build_limits
    from enginegate.engines.registry import load_backend

    problem = f"the backend {name} could not build {spec.id}"
    with build_limits(timeouts), edge(EngineError, problem, "look into the library's log"):
        load_backend(name).build(spec, checkpoint, out_dir, print)


def _memory_pass(*arguments: Any) -> dict[str, Any]:
    from enginegate.engines.process.memory_pass import memory_pass

    return memory_pass(*arguments)


#: What is asked of a backend in this Python, without an engine that is loaded already.
_BACKEND_METHODS: Mapping[str, Callable[..., object]] = {
    "versions": _versions,
    "why_not_built": _why_not_built,
    "build": _build,
    "memory_pass": _memory_pass,
}


def main() -> None:
    """Serve the session on the other end of the standard streams."""
    die_with_parent()
    signal.signal(
        signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM)
    )  # the first process of a container has none
    channel = take_streams()
    end_with_session(channel)
    channel.send(Reply(0, "greeting", greeting()))
    serve(channel)


if __name__ == "__main__":
    main()
