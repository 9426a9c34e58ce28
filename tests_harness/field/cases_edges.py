"""What others wrote fails: engines, exporters, templates, locks, the machine. Each is an error that says so."""

from __future__ import annotations

import errno
import math
import os
import pwd
import socket
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from enginegate.core.cache import cache_folder
from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines import registry
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Generation
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.requests import eos_token_ids
from enginegate.engines.store import EngineStore
from enginegate.measure.latency import check_generations
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.sources import resolve
from enginegate.models.tokenizer import Tokenizer
from enginegate.session import engines as session_engines
from enginegate.session.engines import RunningEngines
from field_case import Got, attempt, case

SPEC = EngineSpec(model="toy", backend="theirs", precision="int8_wo")
VOCABULARY = 100


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that raises this, whatever it is called with."""

    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


class PanicException(BaseException):
    """What a library written in Rust raises when it panics: no Exception."""


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class Theirs:
    """A backend and an engine of somebody else, each of whose methods may be replaced."""

    name = "theirs"
    libraries: Sequence[str] = ()
    spec = SPEC
    runtime = RuntimeSpec()

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: "1"


def generates(*answers: Any) -> Got:
    """What becomes of these answers of an engine."""
    engine = CheckedEngine(Theirs(generate=lambda *_: list(answers)), VOCABULARY)  # type: ignore[arg-type]
    return attempt(engine.generate, [[1]], SamplingParams(2))


def scores(*rows: Any) -> Got:
    engine = CheckedEngine(Theirs(score=lambda *_, **__: list(rows)), VOCABULARY)  # type: ignore[arg-type]
    return attempt(engine.score, [[1, 2]])


def loads(error: BaseException) -> Got:
    """What becomes of an exception while an engine loads."""
    files = types.SimpleNamespace(
        build=lambda _: types.SimpleNamespace(path=Path()),
        progress=lambda _: None,
        config=types.SimpleNamespace(timeouts=lambda: None),
    )
    engines = RunningEngines(files, lambda engine: engine)  # type: ignore[arg-type]
    backend = Theirs(own_process=False, load=raising(error))
    with mock.patch.object(session_engines, "load_backend", return_value=backend):
        return attempt(engines.get, SPEC, RuntimeSpec(), "candidate")


def builds(folder: Path, error: BaseException) -> Got:
    backend = Theirs(build=raising(error))
    return attempt(EngineStore(folder).get, SPEC, Checkpoint(folder, "0" * 64, "here"), backend, progress=print)


def chats(template: Callable[..., Any]) -> Got:
    inner = types.SimpleNamespace(chat_template="{{ raise_exception('no') }}", apply_chat_template=template)
    return attempt(Tokenizer(Path("model"), inner, ()).chat, "Hello")


@case("loader that raises NameError", kind="boundary", expected="EngineError", says=("toy-theirs-int8_wo", "NameError"))
def loader_name_error(_: Path) -> Got:
    return loads(NameError("name 'init_empty_weights' is not defined"))


@case("loader that raises KeyError", kind="boundary", expected="EngineError", says=("KeyError: 'mistral4'",))
def loader_key_error(_: Path) -> Got:
    return loads(KeyError("mistral4"))


@case("GPU out of memory while loading", kind="boundary", expected="EngineError", says=("out of memory", "hint"))
def loader_out_of_memory(_: Path) -> Got:
    return loads(OutOfMemoryError("Tried to allocate 20.00 GiB"))


@case("no memory left, without a word", kind="boundary", expected="EngineError", says=("out of memory", "lower max"))
def loader_memory_error(_: Path) -> Got:
    return loads(MemoryError())


@case("tokenizer library that panics in Rust", kind="boundary", expected="EngineError", says=("PanicException",))
def loader_rust_panic(_: Path) -> Got:
    return loads(PanicException("called `Option::unwrap()` on a `None` value"))


@case("compiler's cache for a user without passwd entry", kind="boundary", expected="EngineError", says=("$HOME",))
def loader_without_user(_: Path) -> Got:
    return loads(KeyError("getpwuid(): uid not found: 1234"))


@case("socket below a TMPDIR that is too long", kind="boundary", expected="EngineError", says=("$TMPDIR",))
def loader_socket_path(_: Path) -> Got:
    return loads(OSError("AF_UNIX path too long"))


@case("port that another process has", kind="boundary", expected="EngineError", says=("another process has the port",))
def loader_port(_: Path) -> Got:
    return loads(OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))


@case("file name that is no UTF-8 in a message", kind="boundary", expected="EngineError", says=("udcff.bin",))
def loader_odd_file_name(_: Path) -> Got:
    got = loads(FileNotFoundError(errno.ENOENT, "No such file", os.fsdecode(b"\xff.bin")))
    got.text.encode("utf-8")  # a record could not hold it
    return got


@case("engine that skips its own test", kind="boundary", expected="Skipped")
def loader_skip(_: Path) -> Got:
    try:
        return loads(pytest.skip.Exception("no GPU"))
    except BaseException as outcome:
        return Got(type(outcome).__name__, str(outcome))


@case("exporter that raises RuntimeError", kind="boundary", expected="EngineError", says=("could not build", "aten::x"))
def exporter(folder: Path) -> Got:
    return builds(folder, RuntimeError("unsupported operator aten::x"))


@case("exporter that finds the disk full", kind="boundary", expected="StoreError", says=("No space left", "prune"))
def exporter_disk_full(folder: Path) -> Got:
    return builds(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


@case("cache on a file system without locks", kind="boundary", expected="StoreError", says=("knows no locks",))
def no_locks(folder: Path) -> Got:
    with mock.patch("fcntl.flock", raising(OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))):
        return builds(folder, RuntimeError("not asked"))


@case("cache on a share that refuses locks", kind="boundary", expected="StoreError", says=("knows no locks",))
def refused_locks(folder: Path) -> Got:
    with mock.patch("fcntl.flock", raising(OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)))):
        return builds(folder, RuntimeError("not asked"))


@case("chat template that refuses the message", kind="boundary", expected="ModelError", says=("chat template", "roles"))
def template_refuses(_: Path) -> Got:
    import jinja2

    return chats(raising(jinja2.TemplateError("Conversation roles must alternate")))


@case("chat template with an unknown variable", kind="boundary", expected="ModelError", says=("'tools' is undefined",))
def template_undefined(_: Path) -> Got:
    import jinja2

    return chats(raising(jinja2.UndefinedError("'tools' is undefined")))


@case("eos_token_id that is a word", kind="boundary", expected="EngineError", says=("eos_token_id", "</s>"))
def eos_word(folder: Path) -> Got:
    (folder / "config.json").write_text('{"eos_token_id": "</s>"}', encoding="utf-8")
    return attempt(eos_token_ids, folder)


@case("eos_token_id -1, which some write for none", kind="boundary", expected="accepted", says=("frozenset()",))
def eos_minus_one(folder: Path) -> Got:
    (folder / "config.json").write_text('{"eos_token_id": -1}', encoding="utf-8")
    return attempt(eos_token_ids, folder)


@case("eos_token_id true", kind="boundary", expected="EngineError", says=("eos_token_id is True",))
def eos_truth(folder: Path) -> Got:
    (folder / "config.json").write_text('{"eos_token_id": true}', encoding="utf-8")
    return attempt(eos_token_ids, folder)


@case("model without EOS", kind="boundary", expected="accepted", says=("frozenset()",))
def no_eos(folder: Path) -> Got:
    (folder / "generation_config.json").write_text('{"eos_token_id": null}', encoding="utf-8")
    return attempt(eos_token_ids, folder)


@case("$HOME unset, user without passwd entry", kind="boundary", expected="ConfigError", says=("$ENGINEGATE_CACHE",))
def no_home(_: Path) -> Got:
    with ExitStack() as patched:
        patched.enter_context(mock.patch.dict(os.environ))
        for name in ("HOME", "XDG_CACHE_HOME", "ENGINEGATE_CACHE"):
            os.environ.pop(name, None)
        patched.enter_context(mock.patch.object(pwd, "getpwuid", raising(KeyError("uid not found"))))
        return attempt(cache_folder)


@case("$ENGINEGATE_CACHE below an unknown home", kind="boundary", expected="ConfigError", says=("~no-such-user",))
def unknown_home(_: Path) -> Got:
    with mock.patch.dict(os.environ, ENGINEGATE_CACHE="~no-such-user/cache"):
        return attempt(cache_folder)


@case("download through a proxy that is down", kind="boundary", expected="ModelError", says=("Hugging Face", "proxies"))
def hub_proxy(folder: Path) -> Got:
    import httpx

    return downloads(folder, httpx.ProxyError("407 Proxy Authentication Required"))


@case("download that a library breaks off", kind="boundary", expected="ModelError", says=("KeyError: 'siblings'",))
def hub_key_error(folder: Path) -> Got:
    return downloads(folder, KeyError("siblings"))


def downloads(folder: Path, error: BaseException) -> Got:
    with mock.patch("huggingface_hub.snapshot_download", raising(error)):
        return attempt(resolve, "hub:org/name@" + "0" * 40, cache=folder, progress=print)


@case("model source with a null character", kind="boundary", expected="ModelError", says=("no checkpoint at",))
def null_character(folder: Path) -> Got:
    return attempt(resolve, "path:/models/\0x", cache=folder, progress=print)


@case("no descriptor left for an engine's process", kind="boundary", expected="EngineError", says=("ulimit -n",))
def no_descriptors(_: Path) -> Got:
    with mock.patch.object(socket, "socketpair", raising(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))):
        return attempt(ChildEngine, "theirs", Path(), SPEC, RuntimeSpec())


@case("backend of others that raises when imported", kind="boundary", expected="CapabilityError", says=("libcuda",))
def backend_import(_: Path) -> Got:
    entry = types.SimpleNamespace(name="theirs", dist=None, load=raising(RuntimeError("libcuda.so.1: no such file")))
    with mock.patch.object(registry, "entry_points", return_value=[entry]):
        return attempt(registry.load_backend, "theirs")


@case("backend of others without an answer to what it can", kind="boundary", expected="CapabilityError")
def backend_capabilities(_: Path) -> Got:
    return attempt(registry.check_precision, Theirs(capabilities=lambda: None), "int8_wo")


@case("dialect of others that raises", kind="boundary", expected="ConfigError", says=("my.yaml", "theirs"))
def dialect(_: Path) -> Got:
    entry = types.SimpleNamespace(name="theirs", value="x:y", load=lambda: raising(IndexError("list index")))
    with mock.patch.object(registry, "entry_points", return_value=[entry]):
        return attempt(registry.translate, {"schema": 1}, Path("my.yaml"))


@case("plugin that has claimed --eg-model", kind="boundary", expected="UsageError", says=("--eg-model", "of cars"))
def option_claimed_before(folder: Path) -> Got:
    return parses(folder, "of cars", before=True)


@case("conftest.py that claims --eg-model", kind="boundary", expected="UsageError", says=("--eg-model", "conftest.py"))
def option_claimed_after(folder: Path) -> Got:
    return parses(folder, "of cars")


@case("conftest.py that claims --eg-model in our group", kind="boundary", expected="UsageError", says=("conftest.py",))
def option_claimed_in_our_group(folder: Path) -> Got:
    return parses(folder, "enginegate")


@case("conftest.py with --eg-model-year of its own", kind="boundary", expected="accepted")
def option_of_others(folder: Path) -> Got:
    return parses(folder, "of cars", name="--eg-model-year")


def parses(folder: Path, group: str, *, name: str = "--eg-model", before: bool = False) -> Got:
    """What pytest makes of another's option, declared before ours, or by a conftest.py after."""
    import enginegate.pytest_options as ours
    from _pytest.config import _prepareconfig

    declares = f"def pytest_addoption(parser):\n    parser.getgroup({group!r}).addoption({name!r})\n"
    theirs = types.ModuleType("theirs")
    exec(declares, theirs.__dict__)
    if not before:
        (folder / "conftest.py").write_text(declares, encoding="utf-8")
    arguments = [f"--rootdir={folder}", f"--confcutdir={folder}", "--capture=no", str(folder)]
    with mock.patch.dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="", PYTEST_PLUGINS=""):
        try:
            config = _prepareconfig(arguments, [theirs, ours] if before else [ours])
        except Exception as error:
            return Got(type(error).__name__, str(error))
    config._ensure_unconfigure()
    return Got("accepted")


@case("engine that answers nothing", kind="boundary", expected="EngineError", says=("list of Generations",))
def answers_none(_: Path) -> Got:
    engine = CheckedEngine(Theirs(generate=lambda *_: None), VOCABULARY)  # type: ignore[arg-type]
    return attempt(engine.generate, [[1]], SamplingParams(2))


@case("engine that answers texts", kind="boundary", expected="EngineError", says=("token_ids",))
def answers_texts(_: Path) -> Got:
    return generates("Hello")


@case("token ids that are no whole numbers", kind="boundary", expected="EngineError", says=("TypeError",))
def answers_floats(_: Path) -> Got:
    return generates(Generation((1.5,), (0.1,), "length"))  # type: ignore[arg-type]


@case("token ids that are a mask", kind="boundary", expected="EngineError", says=("True came for a token id",))
def answers_mask(_: Path) -> Got:
    return generates(Generation((True, False), (0.1, 0.2), "length"))


@case("token id below 0", kind="boundary", expected="EngineError", says=("token id -1",))
def answers_negative(_: Path) -> Got:
    return generates(Generation((5, -1), (0.1, 0.2), "length"))


@case("token id beyond the vocabulary", kind="boundary", expected="EngineError", says=("token id 100", "0 to 99"))
def answers_beyond(_: Path) -> Got:
    return generates(Generation((VOCABULARY,), (0.1,), "length"))


@case("last token id of the vocabulary", kind="boundary", expected="accepted")
def answers_last(_: Path) -> Got:
    return generates(Generation((VOCABULARY - 1,), (0.1,), "length"))


@case("answer that ended for no known reason", kind="boundary", expected="EngineError", says=("'abort'",))
def answers_abort(_: Path) -> Got:
    return generates(Generation((1,), (0.1,), "abort"))


@case("token times that are no numbers", kind="boundary", expected="EngineError", says=("Generations",))
def times_words(_: Path) -> Got:
    return generates(Generation((1,), ("soon",), "length"))  # type: ignore[arg-type]


@case("token time that is NaN", kind="boundary", expected="MeasurementError", says=("not finite",))
def times_nan(_: Path) -> Got:
    return times(0.1, math.nan)


@case("token times that decrease", kind="boundary", expected="MeasurementError", says=("decrease",))
def times_decrease(_: Path) -> Got:
    return times(0.2, 0.1)


@case("round that ended in an error", kind="boundary", expected="MeasurementError", says=("with an error",))
def times_error(_: Path) -> Got:
    return times(0.1, 0.2, reason="error")


def times(*seconds: float, reason: str = "length") -> Got:
    return attempt(check_generations, [Generation((1, 2), seconds, reason)], 1, 2, 1.0)


@case("log-probability above 0", kind="boundary", expected="EngineError", says=("3.2", "above 0"))
def scores_positive(_: Path) -> Got:
    return scores((3.2,))


@case("log-probabilities that are words", kind="boundary", expected="EngineError", says=("log-probabilities",))
def scores_words(_: Path) -> Got:
    return scores(("likely",))


@case("engine without scores", kind="boundary", expected="CapabilityError", says=("no log-probabilities",))
def scores_refused(_: Path) -> Got:
    refused = raising(CapabilityError("theirs has no log-probabilities"))
    return attempt(CheckedEngine(Theirs(score=refused)).score, [[1, 2]])  # type: ignore[arg-type]
