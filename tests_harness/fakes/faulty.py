"""A backend whose engines fail in the ways that processes fail; which one, the spec's ``model`` says.

It is found as any third party's would be: put a folder with this file and the distribution that ``install`` writes on
``PYTHONPATH``. Processes that an engine starts leave their ids in the file ``pids`` of the engine's folder.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Capabilities, Effective, Generation, MemoryUse, Progress, TokenEvent
from enginegate.engines.process import messages
from enginegate.engines.process.building import run_build
from enginegate.engines.process.heartbeat import beat
from enginegate.models.checkpoint import Checkpoint

#: Seconds between two signs of life of what works slowly.
STEP = 0.2


class PanicException(BaseException):
    """No Exception, and yet nothing but a failure of a library."""


def write_raw(content: bytes) -> None:
    """Put bytes on the connection to the session, beside its messages."""
    connection = next(each for each in gc.get_objects() if isinstance(each, messages.Channel))
    os.write(connection.writing, content)


def strange_reply() -> bytes:
    """A message that is whole, and names a class that the session has not."""
    text = b'[1,"value",{"$":"enginegate_nowhere:Generation","fields":{}}]'
    return messages._HEAD.pack(messages._MARK, messages.PROTOCOL, len(text), 0) + text


def in_memory_pass() -> bool:
    """Whether it is the memory pass that loads."""
    return any(frame.name == "memory_pass" for frame in traceback.extract_stack())


def install(site: Path) -> None:
    """Write a distribution that offers this file, under the name ``faulty``, into the folder ``site``."""
    (site / "enginegate_faulty.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    metadata = site / "enginegate_faulty-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: enginegate-faulty\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[enginegate.backends]\nfaulty = enginegate_faulty:Backend\n")


def hang() -> None:
    time.sleep(600)


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


def start_stubborn(folder: Path, *, session: bool) -> None:
    """Start a program that ignores SIGTERM, without this process's environment, perhaps in a session of its own."""
    program = [sys.executable, "-I", "-S", "-c", STUBBORN, str(folder / "pids")]
    subprocess.Popen(program, env={}, start_new_session=session)


def fork_daemon(folder: Path) -> None:
    """Leave a process behind that ignores SIGTERM, in a session of its own, with all that this one has open."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        if os.fork():
            os._exit(0)
        with (folder / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        hang()
        os._exit(0)


class Backend:
    name = "faulty"
    libraries: Sequence[str] = ()
    own_process = True

    def version(self) -> str:
        return "1"

    def capabilities(self) -> Capabilities:
        return Capabilities({}, {}, "cpu")

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        if "hangs-in-build" in spec.model:
            run_build("enginegate_faulty", b"", subject=f"{spec.id}: the export", hint="wait")
        if "builds-in-child" in spec.model:
            run_build("enginegate.engines.process.building", b"", subject=f"{spec.id}: the export", hint="wait")
        (out_dir / "engine").write_text(spec.model)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> Engine:
        print(f"loading {spec.model}", flush=True)
        if "forks" in spec.model:
            start_stubborn(engine_dir, session=False)
            if "daemon" in spec.model:
                fork_daemon(engine_dir)
            if "session" in spec.model:
                start_stubborn(engine_dir, session=True)
            wanted = 1 + ("daemon" in spec.model) + ("session" in spec.model)
            while len((engine_dir / "pids").read_text().split() if (engine_dir / "pids").exists() else ()) < wanted:
                time.sleep(0.01)
        if "hangs-in-load" in spec.model or ("hangs-in-memory" in spec.model and in_memory_pass()):
            hang()
        if "fails-in-load" in spec.model:
            raise FileNotFoundError("no such weights")
        return Engine(spec, runtime)


class Engine:
    def __init__(self, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        self.spec = spec
        self.runtime = runtime

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        fault = self.spec.model
        if "hangs-in-round" in fault:
            hang()
        if "panics-in-round" in fault:
            raise PanicException("called `Option::unwrap()` on a `None` value")
        if "no-memory-in-round" in fault:
            raise MemoryError
        if "dies-in-round" in fault:
            os.kill(os.getpid(), signal.SIGKILL)
        if "half-a-reply" in fault:
            write_raw(messages._HEAD.pack(messages._MARK, messages.PROTOCOL, 1 << 20, 0) + b"half of it")
            hang() if "hangs" in fault else os.kill(os.getpid(), signal.SIGKILL)
        if "no-reply" in fault:
            write_raw(b"INFO: a library prints into whatever is open\n")
            hang()
        if "strange-reply" in fault:
            write_raw(strange_reply())
            hang()
        if "other-protocol" in fault:
            write_raw(messages._HEAD.pack(messages._MARK, messages.PROTOCOL + 1, 2, 0) + b"[]")
            hang()
        if "unsayable" in fault:
            return object()  # type: ignore[return-value]
        if "prints" in fault:
            print("INFO: a library prints", flush=True)
            os.write(1, b"and so does its C++ code\n")
        for _ in range(params.max_tokens):
            if "slow" in fault:
                time.sleep(STEP)
                beat()
        times = tuple(float(number) for number in range(params.max_tokens))
        return [Generation(tuple(prompt[:1]) * params.max_tokens, times, "length") for prompt in prompts]

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        return (TokenEvent(prompt[0], float(number)) for number in range(params.max_tokens))

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        if "hangs-in-score" in self.spec.model:
            hang()
        scores = []
        for number, sequence in enumerate(sequences, start=1):
            if "slow" in self.spec.model:
                time.sleep(STEP)
                beat(number / len(sequences))
            scores.append((-1.0,) * (len(sequence) - 1))
        return scores

    def memory(self) -> MemoryUse:
        return MemoryUse()

    def effective(self) -> Effective:
        return Effective("fp32", "fp32", "fp32", self.spec.max_input_len + self.spec.max_output_len, 1)

    def close(self) -> None:
        if "hangs-in-close" in self.spec.model:
            hang()


if __name__ == "__main__":
    hang()
