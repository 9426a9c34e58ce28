"""Every edge of the suite gets an exception of every kind, and makes it an error of its own that keeps the cause."""

from __future__ import annotations

import asyncio
import bdb
import errno
import json
import os
import pickle
import socket
import sqlite3
import struct
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import httpx
import jinja2
import pytest
from enginegate.config import loading
from enginegate.core.cache import cache_folder
from enginegate.core.errors import (
    BaselineError,
    CapabilityError,
    ConfigError,
    EngineError,
    EngineGateError,
    MeasurementError,
    ModelError,
    RecordError,
    StoreError,
    describe,
    edge,
)
from enginegate.core.files import read_json
from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec, SamplingParams, Workload
from enginegate.engines import checkpoint as engine_checkpoint
from enginegate.engines import registry, requests
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Capabilities
from enginegate.engines.process import interpreter
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.store import EngineStore
from enginegate.machine import lease
from enginegate.measure import memory
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.models import sources
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality import measure
from enginegate.session import engines, recording
from enginegate.session.engines import RunningEngines
from enginegate.storage import audits, runs
from enginegate.storage.history import database

from tests_harness.storage.factory import run_record

SPEC = EngineSpec(model="toy", backend="theirs", precision="int8_wo")


class PanicException(BaseException):
    pass


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no message either")


#: What libraries raise, by name.
KINDS: dict[str, BaseException] = {
    type(error).__name__: error
    for error in (
        ArithmeticError("division"),
        AssertionError(),
        AttributeError("'NoneType' object has no attribute 'shape'"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        EOFError(),
        Exception("failed"),
        ImportError("libtorch.so: undefined symbol"),
        IndexError("index out of range in self"),
        json.JSONDecodeError("Expecting value", "", 0),
        KeyError("mistral4"),
        LookupError(),
        MemoryError(),
        ModuleNotFoundError("No module named 'flash_attn'"),
        NameError("name 'init_empty_weights' is not defined"),
        NotImplementedError("aten::x"),
        OSError("AF_UNIX path too long"),
        OverflowError("int too big to convert"),
        PanicException("called `Option::unwrap()` on a `None` value"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere"),
        RecursionError("maximum recursion depth exceeded"),
        RuntimeError("CUDA error: device-side assert triggered"),
        StopIteration(),
        SyntaxError("invalid syntax"),
        TimeoutError(errno.ETIMEDOUT, "timed out"),
        TypeError("unhashable type"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        Unspeakable(),
        ValueError("Unrecognized configuration class"),
        Warning("raised as an error"),
        asyncio.CancelledError(),
        filelock.Timeout("x.lock"),
        httpx.ProxyError("407 Proxy Authentication Required"),
        jinja2.UndefinedError("'tools' is undefined"),
        pickle.PicklingError("cannot pickle"),
        socket.gaierror(-2, "Name or service not known"),
        sqlite3.OperationalError("no such table"),
        struct.error("unpack requires a buffer of 8 bytes"),
        zipfile.BadZipFile("File is not a zip file"),
    )
}
#: What passes every edge as it is.
PASSING = (
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    bdb.BdbQuit(),
    pytest.skip.Exception("no GPU"),
    pytest.fail.Exception("said so"),
    pytest.exit.Exception("enough"),
    CapabilityError("cannot"),
)


class Theirs:
    """A backend and an engine, all of whose methods raise one thing."""

    name = "theirs"
    libraries = ()
    own_process = False
    pid = None
    spec = SPEC
    runtime = RuntimeSpec()

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return raising(self._error)


class Building(Theirs):
    """Its version is known."""

    def version(self) -> str:
        return "1"


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


Edge = Callable[[BaseException, Path, pytest.MonkeyPatch], Any]
EDGES: dict[str, tuple[type[EngineGateError], Edge]] = {}


def at(kind: type[EngineGateError]) -> Callable[[Edge], Edge]:
    def enter(function: Edge) -> Edge:
        EDGES[function.__name__] = kind, function
        return function

    return enter


@at(ModelError)
def resolve(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sources, "check_checkpoint", raising(error))
    sources.resolve(f"path:{folder}", cache=folder / "cache", progress=print)


@at(ModelError)
def download(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("huggingface_hub.snapshot_download", raising(error))
    sources.resolve("hub:org/name@main", cache=folder, progress=print)


@at(ModelError)
def render(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    inner = types.SimpleNamespace(chat_template="x", apply_chat_template=raising(error))
    Tokenizer(folder, inner, ()).chat("Hello")


@at(ModelError)
def encode(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    Tokenizer(folder, raising(error), ()).encode("Hello")


@at(ModelError)
def decode(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    Tokenizer(folder, types.SimpleNamespace(decode=raising(error)), ()).decode([1])


@at(MeasurementError)
def score_library(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(measure.METRICS, "theirs", raising(error))
    measure.measure_quality("theirs", Theirs(error), None, None)  # type: ignore[arg-type]


@at(ModelError)
def read_tokenizer(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("enginegate.models.tokenizer.check_files", lambda _: None)
    patch.setattr("transformers.AutoTokenizer.from_pretrained", raising(error))
    Tokenizer.load(folder)


@at(EngineError)
def build(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    EngineStore(folder).get(SPEC, Checkpoint(folder, "0" * 64, "here"), Building(error), progress=lambda _: None)


@at(CapabilityError)
def version(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    EngineStore(folder).get(SPEC, Checkpoint(folder, "0" * 64, "here"), Theirs(error), progress=lambda _: None)


@at(CapabilityError)
def capabilities(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    registry.check_precision(Theirs(error), "int8_wo")


@at(CapabilityError)
def import_backend(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    entry = types.SimpleNamespace(name="theirs", dist=None, load=raising(error))
    patch.setattr(registry, "entry_points", lambda group: [entry])
    registry.load_backend("theirs")


@at(ConfigError)
def import_dialect(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    entry = types.SimpleNamespace(name="theirs", value="x:y", load=raising(error))
    patch.setattr(registry, "entry_points", lambda group: [entry])
    registry.translate({}, folder)


@at(ConfigError)
def read_dialect(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    entry = types.SimpleNamespace(name="theirs", value="x:y", load=lambda: raising(error))
    patch.setattr(registry, "entry_points", lambda group: [entry])
    registry.translate({}, folder)


@at(EngineError)
def load(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engines, "load_backend", lambda _: Theirs(error))
    running().get(SPEC, RuntimeSpec(), "candidate")


@at(EngineError)
def wrap(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engines, "load_backend", lambda _: types.SimpleNamespace(load=lambda *_: Closing(error)))
    running(raising(error)).get(SPEC, RuntimeSpec(), "candidate")


class Closing(Theirs):
    """It can be closed."""

    def close(self) -> None:
        pass


def running(wrapping: Callable[..., Any] = lambda engine: engine) -> RunningEngines:
    files = types.SimpleNamespace(
        build=lambda _: types.SimpleNamespace(path=Path()),
        progress=lambda _: None,
        config=types.SimpleNamespace(timeouts=lambda: None),
    )
    return RunningEngines(files, wrapping)  # type: ignore[arg-type]


@at(EngineError)
def start_process(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interpreter.socket, "socketpair", raising(error))
    ChildEngine("theirs", folder, SPEC, RuntimeSpec())


@at(EngineError)
def race(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    pool = PromptPool.from_texts([[1, 2, 3, 4]], 4)
    Arena({"a": Theirs(error)}, "a", Workload(1, 4, 4, 0), pool, ArenaPolicy()).round("a", [[1, 2]])  # type: ignore[arg-type]


@at(EngineError)
def generate(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    CheckedEngine(Theirs(error)).generate([[1]], SamplingParams(1))  # type: ignore[arg-type]


@at(EngineError)
def stream(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    list(CheckedEngine(Theirs(error)).stream([1], SamplingParams(1)))  # type: ignore[arg-type]


@at(EngineError)
def score(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    CheckedEngine(Theirs(error)).score([[1, 2]])  # type: ignore[arg-type]


@at(EngineError)
def ask_memory(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    CheckedEngine(Theirs(error)).memory()  # type: ignore[arg-type]


@at(EngineError)
def ask_effective(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    CheckedEngine(Theirs(error)).effective()  # type: ignore[arg-type]


@at(EngineError)
def close(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    CheckedEngine(Theirs(error)).close()  # type: ignore[arg-type]


@at(MeasurementError)
def memory_pass(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "capabilities", lambda _: Capabilities({}, {}, "cpu"))
    patch.setattr(memory, "load_backend", lambda _: None)
    patch.setattr(memory, "Worker", raising(error))
    memory.measure_memory(folder, 1, SPEC, RuntimeSpec(), [[1]], Workload(1, 1, 1, 0))


@at(MeasurementError)
def lock_of_a_lease(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease, "FileLock", raising(error))
    lease.lease_devices(folder, uuids=["GPU-1"])


@at(StoreError)
def lock_of_the_store(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("enginegate.core.cache.FileLock", raising(error))
    EngineStore(folder).get(SPEC, Checkpoint(folder, "0" * 64, "here"), Building(error), progress=lambda _: None)


@at(BaselineError)
def lock_of_an_audit(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("enginegate.core.cache.FileLock", raising(error))
    audits.save_run_audit(audits.file_of("machine", []), folder)


@at(RecordError)
def write_record(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs, "write_atomically", raising(error))
    runs.save_record(run_record(), folder)


@at(RecordError)
def write_reports(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("enginegate.report.write_report", raising(error))
    recording.write_reports(run_record(), folder / "run.json")


@at(RecordError)
def write_history(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(database, "create_engine", raising(error))
    recording.add_to_history(run_record(), folder / "run.json", f"sqlite:///{folder}/h.sqlite")


@at(ConfigError)
def check_history(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(database, "create_engine", raising(error))
    database.check(f"sqlite:///{folder}/h.sqlite")


@at(ModelError)
def read(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "read_text", raising(error))
    read_json(folder / "config.json", ModelError, "look")


@at(EngineError)
def read_calibration(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "read_text", raising(error))
    engine_checkpoint.read_passages(QuantizationSpec(calibration="c.jsonl"))


@at(EngineError)
def read_eos(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").touch()
    patch.setattr(Path, "read_text", raising(error))
    requests.eos_token_ids(folder)


@at(ConfigError)
def find_the_cache(error: BaseException, folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("ENGINEGATE_CACHE", raising=False)
    patch.setattr("platformdirs.user_cache_dir", raising(error))
    cache_folder()


@contextmanager
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


#: Kinds that say something else at one edge, where they are expected and have a meaning.
MEANT = {
    ("lock_of_the_store", "Timeout"): EngineGateError,  # another process holds it
    ("lock_of_an_audit", "Timeout"): EngineGateError,
    ("write_history", "ImportError"): RecordError,  # a driver that is not there
}


@pytest.mark.parametrize("name", EDGES)
def test_an_exception_of_every_kind_becomes_the_edges_own_and_is_its_cause(name: str, tmp_path: Path) -> None:
    kind, function = EDGES[name]
    for number, (called, error) in enumerate(KINDS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with patched() as patch, pytest.raises(MEANT.get((name, called), kind)) as raised:
            function(error, folder, patch)
        causes, cause = [], raised.value.__cause__
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        assert error in causes, called
        assert raised.value.problem.strip()
        assert raised.value.hint, f"{called} at {name} has no hint: {raised.value}"
        error.__traceback__ = error.__context__ = None


@pytest.mark.parametrize("name", EDGES)
def test_what_is_no_failure_passes_every_edge(name: str, tmp_path: Path) -> None:
    _, function = EDGES[name]
    for number, passing in enumerate(PASSING):
        folder = tmp_path / str(number)
        folder.mkdir()
        with patched() as patch, pytest.raises(type(passing)) as raised:
            function(passing, folder, patch)
        passing.__traceback__ = passing.__context__ = None
        assert raised.value is passing or isinstance(raised.value, EngineGateError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory: MemoryError"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory: RuntimeError"),
        (RuntimeError("std::bad_alloc"), "out of memory: RuntimeError: std::bad_alloc"),
        (RuntimeError("CUDA out of memory. Tried"), "failed: RuntimeError: CUDA out of memory. Tried"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: OSError"),
        (OSError(errno.ENOLCK, "No locks available"), "the file system knows no locks"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (KeyError("getpwuid(): uid not found: 1234"), "$USER"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "give this user the rights"),
    ],
)
def test_usual_reasons_have_their_own_hint_also_below_another_exception(error: Exception, words: str) -> None:
    with pytest.raises(EngineError) as raised, edge(EngineError, "it failed", "look"):
        raise error
    assert words in str(raised.value)
    with pytest.raises(EngineError) as raised, edge(EngineError, "it failed", "look"):
        raise RuntimeError("see above") from error
    assert raised.value.hint != "look"


def test_a_message_is_short_enough_to_read_and_can_be_written() -> None:
    assert len(describe(RuntimeError("weight " * 10_000))) < 2100
    assert describe(Unspeakable()) == "Unspeakable"
    error = EngineError(f"{os.fsdecode(bytes([255]))}.bin is missing")
    assert error.problem == "\\udcff.bin is missing"
    str(error).encode("utf-8")


def test_an_engine_that_failed_fails_the_same_way_without_a_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def backend(_: str) -> Any:
        asked.append(1)
        return Theirs(NameError("x"))

    monkeypatch.setattr(engines, "load_backend", backend)
    running_engines = running()
    reasons = []
    for _ in range(3):
        with pytest.raises(EngineError) as raised:
            running_engines.get(SPEC, RuntimeSpec(), "candidate")
        reasons.append(raised.value)
    assert asked == [1]
    assert reasons[0] is reasons[1] is reasons[2]


def test_reading_a_configuration_is_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(errno.EIO, "Input/output error"), ValueError("embedded null byte")):
        monkeypatch.setattr(Path, "read_text", raising(error))
        with pytest.raises(ConfigError, match="cannot be read"):
            loading.load_config(Path("toy.yaml"))
