"""Engines in other Pythons: a bare environment, a command that runs one elsewhere, and what may be said to them."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Effective, Generation, MemoryUse
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.foreign import ForeignBackend
from enginegate.engines.process.interpreter import Interpreter
from enginegate.engines.process.values import decode, encode
from enginegate.engines.trtllm.options import TensorRtRuntime
from enginegate.machine import own_processes
from enginegate.machine.own_processes import adopt_namespace, foreign
from enginegate.models.checkpoint import Checkpoint
from hypothesis import given
from hypothesis import strategies as st

from tests_harness.fakes import faulty

SPEC = EngineSpec("none", "faulty", "fp32")
TOKENS = SamplingParams(4)
NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.text()
VALUES = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text().filter(lambda key: key != "$"), inner)
    ),
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """An environment with numpy and a backend, and nothing else that the suite imports."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    faulty.install(site)
    python = folder / "bin" / "python"
    for module in ("psutil", "pydantic", "scipy"):
        assert subprocess.run([str(python), "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode
    return python


@contextlib.contextmanager
def running(interpreter: Interpreter, folder: Path) -> Iterator[ChildEngine]:
    engine = ChildEngine("faulty", folder, SPEC, RuntimeSpec(), interpreter=interpreter)
    try:
        yield engine
    finally:
        engine.close()


@given(VALUES)
def test_what_may_be_said_arrives_as_it_was(value):
    assert decode(*encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        [
            Generation((1, 2), (0.1, 0.2), "length"),
            Generation(tuple(range(500)), tuple(np.linspace(0, 1, 500)), "stop"),
        ],
        EngineSpec("m", "b", "fp32", quantization=QuantizationSpec(calibration="ä b")),
        RuntimeSpec(kv_precision="int8"),
        TensorRtRuntime(kv_cache_tokens=7),
        MemoryUse(weights=2**40),
        Effective("fp32", "fp16", "fp32", 128, None, details={"a": [1, {"b": None}]}),
        Path("/a b/c"),
        [True] * 50,
        [2**80] * 50,
        [1, 2.5] * 50,
    ],
)
def test_the_suites_own_values_arrive_as_they_were(value):
    assert decode(*encode(value)) == value
    assert type(decode(*encode(value))) is type(value)


def test_long_answers_go_as_arrays_and_numbers_keep_every_bit():
    scores = [tuple(np.random.default_rng(0).normal(size=1000).tolist()) for _ in range(64)]
    text, arrays = encode([*scores, (math.nan,) * 40, (-math.inf,)])
    assert len(arrays) == 8 * (64 * 1000 + 40)
    assert len(text) < 64 * 100
    *found, holes, least = decode(text, arrays)
    assert found == scores
    assert all(map(math.isnan, holes))
    assert least == (-math.inf,)


def test_numbers_of_numpy_are_plain_numbers_on_the_other_side():
    found = decode(*encode([np.int64(3), np.float32(0.5), np.array(7)]))
    assert found == [3, 0.5, 7]


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$": 1}, {3, 4}, print])
def test_what_cannot_be_said_is_refused_before_anything_is_sent(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        encode([value])


@pytest.mark.parametrize("named", ["os:system", "subprocess:Popen", "enginegate.core.errors:EngineError", "nowhere:X"])
def test_nothing_but_a_backends_own_specs_is_made_by_name(named):
    with pytest.raises((ValueError, ImportError, AttributeError)):
        decode(f'{{"$":"{named}","fields":{{}}}}'.encode(), b"")


def test_a_bare_environment_serves(bare, tmp_path):
    with running(Interpreter((str(bare),)), tmp_path) as engine:
        assert engine.generate([[7], [8]], TOKENS)[1].token_ids == (8,) * 4
        assert engine.score([[1, 2, 3]]) == [(-1.0, -1.0)]
        assert engine.effective().threads == 1
        assert engine.worker.greeting["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_backend_in_another_python_says_what_it_is_there(bare, tmp_path):
    class Here:
        name = "faulty"

    backend = ForeignBackend(Here(), Interpreter((str(bare),)))  # type: ignore[arg-type]
    assert backend.version() == "1"
    assert "no precision 'fp32'" in backend.why_not_built(SPEC, RuntimeSpec(), tmp_path, tmp_path)


def test_the_code_travels_to_where_nothing_of_ours_lies(bare, tmp_path):
    """As into a container: the command gets no variable and no file of this package."""
    with running(Interpreter(("env", "-i", str(bare)), elsewhere=True), tmp_path) as engine:
        assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; sys.version_info = (3, 9); sys.version = '3.9.1 x'", "needs Python 3.10 or later, this is 3.9.1"),
        ("raise SystemExit(7)", "ended with code 1.*SystemExit: 7"),
    ],
)
def test_a_python_that_cannot_serve_says_why(bare, tmp_path, program, says):
    start = tmp_path / "sitecustomize.py"
    start.write_text(program)
    command = ("env", f"PYTHONPATH={tmp_path}", str(bare))
    with (
        pytest.raises(EngineError, match=f"(?s){says}"),
        running(Interpreter(command, elsewhere=True), tmp_path) as engine,
    ):
        engine.ready()


def test_a_python_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"/no/such/python cannot be run: .*No such file"):
        ChildEngine("faulty", tmp_path, SPEC, RuntimeSpec(), interpreter=Interpreter(("/no/such/python",)))


def unshared(*more: str) -> tuple[str, ...]:
    command = ("unshare", "--pid", "--fork", "--mount-proc", *more)
    if not shutil.which("unshare") or subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user cannot make a PID namespace")
    return command


def test_processes_of_another_pid_namespace_are_ours_once_a_worker_greets_from_there(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(own_processes, "_namespaces", set())
    with running(Interpreter((*unshared(), str(bare)), elsewhere=True), tmp_path) as engine:
        engine.ready()
        assert own_processes._namespaces == {engine.worker.greeting["processes"]}
        inside = [each.pid for each in own_processes.adopted()]
        assert inside
        assert not foreign(inside)
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, inside)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, inside)), "nothing is left running"


def test_our_own_namespace_is_not_adopted(monkeypatch):
    monkeypatch.setattr(own_processes, "_namespaces", set())
    adopt_namespace(str(Path("/proc/self/ns/pid").readlink()) if Path("/proc/self/ns/pid").exists() else "")
    assert not own_processes._namespaces


def test_a_worker_ends_with_its_session_also_where_nobody_can_signal_it(bare, tmp_path):
    """The command of a container may die and leave the worker in it."""
    script = f"""
import os, sys
from pathlib import Path
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.interpreter import Interpreter
engine = ChildEngine("faulty", Path({str(tmp_path)!r}), EngineSpec("none", "faulty", "fp32"), RuntimeSpec(),
                     interpreter=Interpreter(("setsid", "--fork", "--wait", {str(bare)!r}), elsewhere=True))
engine.ready()
print([each for each in os.listdir("/proc") if each.isdigit() and "enginegate.engines.process.worker" in
       Path("/proc", each, "cmdline").read_text(errors="replace") and {str(bare)!r} in
       Path("/proc", each, "cmdline").read_text(errors="replace").split(chr(0))[0]], flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    workers = [int(pid) for pid in eval(done.stdout)]  # a list of numbers that the script above printed
    assert workers
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, workers))
    assert os.getpid() not in workers


def test_what_is_on_the_path_elsewhere_stays_on_it(bare, tmp_path):
    """With the working directory off the path, the first place on it is the command's own, and was lost."""
    faulty.install(tmp_path)
    command = ("env", "PYTHONSAFEPATH=1", f"PYTHONPATH={tmp_path}", sys.executable)
    with running(Interpreter(command, elsewhere=True), tmp_path) as engine:
        assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4


def test_what_was_sent_can_start_processes_that_build(bare, tmp_path):
    """They import the suite, too, where nothing of it is installed."""

    class Here:
        name = "faulty"

    (tmp_path / "psutil").symlink_to(Path(psutil.__file__).parent)
    interpreter = Interpreter(("env", "-i", f"PYTHONPATH={tmp_path}", str(bare)), elsewhere=True)
    backend = ForeignBackend(Here(), interpreter)  # type: ignore[arg-type]
    spec = EngineSpec("builds-in-child", "faulty", "fp32")
    backend.build(spec, Checkpoint(tmp_path, "d", ""), tmp_path, lambda _: None)
    assert (tmp_path / "engine").read_text() == "builds-in-child"
