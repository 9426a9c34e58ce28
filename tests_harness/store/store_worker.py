"""A backend that writes files and nothing else, and a process that asks the store for an engine and may die at it.

Run as a script: ``store_worker.py ROOT MOMENT``. It prints the key of the entry that it got.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import enginegate.core.cache
import enginegate.engines.store
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Engine, Progress
from enginegate.engines.store import EngineStore
from enginegate.models.checkpoint import Checkpoint

SPEC = EngineSpec("model", "fake", "int8_wo")
CHECKPOINT = Checkpoint(Path("/nowhere"), "c" * 64, "path:/nowhere")
CONTENT = bytes(range(256)) * 64
FILES = {"weights.bin": CONTENT, "tokenizer/vocabulary.txt": b"one\ntwo\n"}


class FakeBackend:
    """Writes ``FILES``; notes every build in ``log``; calls ``interrupt`` between the two halves of the weights."""

    name = "fake"

    def __init__(
        self, log: Path | None = None, interrupt: Callable[[Path], None] = lambda _: None, version: str = "1"
    ) -> None:
        self.log = log
        self.interrupt = interrupt
        self._version = version

    def version(self) -> str:
        return self._version

    def capabilities(self) -> Capabilities:
        return Capabilities({}, {}, "none")

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        del spec, checkpoint, progress
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(f"{os.getpid()}\n")
        (out_dir / "tokenizer").mkdir()
        (out_dir / "tokenizer" / "vocabulary.txt").write_bytes(FILES["tokenizer/vocabulary.txt"])
        with (out_dir / "weights.bin").open("wb") as file:
            file.write(CONTENT[:5000])
            file.flush()
            self.interrupt(out_dir)
            file.write(CONTENT[5000:])

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> Engine:
        raise NotImplementedError


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after(module: object, name: str) -> None:
    """Let the named function of a module (or method of a class) do its work, then kill this process."""
    original = getattr(module, name)

    def wrapped(*args: object, **keywords: object) -> None:
        original(*args, **keywords)
        _die()

    setattr(module, name, wrapped)


#: What to change in this process so that it dies at that moment of a build.
MOMENTS: dict[str, Callable[[], None]] = {
    "lock taken": lambda: setattr(enginegate.core.cache, "sweep", _die),
    "files hashed": lambda: _die_after(enginegate.engines.store, "describe_files"),
    "engine described": lambda: _die_after(enginegate.engines.store, "_build"),
    "synced": lambda: _die_after(enginegate.core.cache, "_sync_tree"),
    "damaged entry moved away": lambda: setattr(enginegate.core.cache.shutil, "rmtree", _die),
    "damaged entry removed": lambda: _die_after(enginegate.core.cache, "discard"),
    "renamed": lambda: setattr(enginegate.core.cache, "_sync", _dies_on_store_folder(enginegate.core.cache._sync)),
}


def _dies_on_store_folder(original: Callable[[Path], None]) -> Callable[[Path], None]:
    def sync(path: Path) -> None:
        if path.name == "engines":
            _die()
        original(path)

    return sync


def main(root: Path, moment: str) -> None:
    interrupt: Callable[[Path], None] = lambda _: None  # noqa: E731
    if moment == "half written":
        interrupt = _die
    elif moment == "slow":
        interrupt = lambda _: time.sleep(0.5)  # noqa: E731
    elif moment == "asleep":
        interrupt = lambda _: (print("building", flush=True), time.sleep(60))  # type: ignore[assignment] # noqa: E731
    elif moment == "file size limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
    elif moment == "read-only" and os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    elif moment in MOMENTS:
        MOMENTS[moment]()
    store = EngineStore(root)
    log = None if moment == "read-only" else root / "builds.log"
    print(
        store.get(SPEC, CHECKPOINT, FakeBackend(log, interrupt), progress=lambda line: print(line, file=sys.stderr)).key
    )
    if moment == "held":
        print("holding", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
