"""Paths of this machine as they are where a command runs a Python: mapped by the configuration, or named as absent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.core.errors import EngineError, MeasurementError
from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec, SamplingParams, Workload
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.foreign import ForeignBackend
from enginegate.engines.process.interpreter import Interpreter
from enginegate.engines.process.paths import PathMap
from enginegate.engines.process.values import decode, encode
from enginegate.measure.memory import measure_memory
from enginegate.models.checkpoint import Checkpoint
from hypothesis import given
from hypothesis import strategies as st

from tests_harness.fakes import faulty

SPEC = EngineSpec("none", "faulty", "fp32")
WRITTEN = {"/data": "/d", "/data/models/big": "/m", "/home/me/": "/h/", "/x": "/"}


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/data", "/d"),
        ("/data/a/b c", "/d/a/b c"),
        ("/data/models/big/w", "/m/w"),
        ("/data/models/bigger", "/d/models/bigger"),
        ("/home/me", "/h"),
        ("/home/me/engine", "/h/engine"),
        ("/x/y", "/y"),
    ],
)
def test_the_innermost_folder_decides_and_names_are_whole(here, there):
    paths = PathMap.of(WRITTEN)
    assert paths.there(here) == there
    if not there.startswith("/y"):
        assert paths.here(there) == here


@pytest.mark.parametrize("other", ["/database/a", "/home/mend", "data/a", "", "int8_wo", "./data", "~/x", "/"])
def test_what_lies_in_no_folder_named_stays(other):
    assert PathMap.of(WRITTEN).there(other) == other


def test_the_whole_disk_may_lie_below_a_folder():
    paths = PathMap.of({"/": "/host", "/tmp": "/tmp"})
    assert (paths.there("/etc/a"), paths.there("/tmp/a"), paths.there("/")) == ("/host/etc/a", "/tmp/a", "/host")
    assert (paths.here("/host/etc/a"), paths.here("/tmp/a")) == ("/etc/a", "/tmp/a")


def test_steps_back_do_not_leave_a_folder_unseen():
    assert PathMap.of(WRITTEN).there("/data/models/../a//b/") == "/d/a/b"
    assert PathMap.of(WRITTEN).there("/data/../etc") == "/data/../etc"


@given(st.lists(st.text("abc", min_size=1), max_size=4))
def test_there_and_back(parts):
    path = "/".join(["/data", *parts])
    assert PathMap.of(WRITTEN).here(PathMap.of(WRITTEN).there(path)) == path


def test_the_home_folder_and_a_folder_named_by_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    paths = PathMap.of({"~": "/c"})
    assert paths.there(str(tmp_path / "link" / "a")) == "/c/a"
    assert paths.there(str(tmp_path / "real" / "a")) == "/c/a"
    assert paths.here("/c/a") == str(tmp_path / "link" / "a")


def test_every_path_of_a_message_is_said_as_it_is_there():
    quantization = QuantizationSpec(calibration="/data/passages")
    said = [Path("/data/e"), EngineSpec("m", "b", "fp32", quantization), Checkpoint(Path("/home/me/c"), "d", "")]
    path, spec, checkpoint, numbers = decode(*encode([*said, [1, 2]], PathMap.of(WRITTEN).there))
    assert (path, spec.quantization.calibration) == (Path("/d/e"), "/d/passages")
    assert checkpoint.path == Path("/h/c")
    assert numbers == [1, 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    for name in ("site", "here", "there", "nothing"):
        (folder / name).mkdir()
    faulty.install(folder / "site")
    return folder


@pytest.fixture
def contained(place, monkeypatch) -> tuple[str, ...]:
    """A command in whose mount namespace the folder ``here`` is empty, and its files lie in ``there``."""
    mounts = f"mount --bind {place / 'here'} {place / 'there'} && mount --bind {place / 'nothing'} {place / 'here'}"
    command = ("unshare", "-rm", "sh", "-c", f'{mounts} && exec "$0" "$@"')
    if not shutil.which("unshare") or subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user cannot make a mount namespace")
    monkeypatch.setenv("PYTHONPATH", str(place / "site"))
    return (*command, sys.executable)


@pytest.fixture
def mapped(place, contained) -> Interpreter:
    return Interpreter(contained, elsewhere=True, paths=PathMap.of({str(place / "here"): str(place / "there")}))


def test_an_engine_is_found_where_its_folder_is_mounted(place, mapped):
    folder = place / "here" / "engine"
    folder.mkdir(exist_ok=True)
    engine = ChildEngine("faulty", folder, SPEC, RuntimeSpec(), interpreter=mapped)
    try:
        assert engine.generate([[7]], SamplingParams(2))[0].token_ids == (7, 7)
    finally:
        engine.close()


def test_one_that_is_not_mounted_is_named_by_both_paths(place, contained, mapped):
    folder = place / "here" / "elsewhere"
    folder.mkdir(exist_ok=True)
    for interpreter, there in ((Interpreter(contained, elsewhere=True), folder), (mapped, place / "there" / "gone")):
        asked = folder if there == folder else place / "here" / "gone"
        engine = ChildEngine("faulty", asked, SPEC, RuntimeSpec(), interpreter=interpreter)
        try:
            with pytest.raises(EngineError) as raised:
                engine.ready()
        finally:
            engine.close()
        assert f"{there} is not there for " in raised.value.problem
        assert raised.value.problem.endswith(f"on this machine it is {asked}")
        assert raised.value.hint == "mount it, or map it by base.paths"


def test_memory_is_measured_there_too(place, contained):
    folder = place / "here" / "engine"
    folder.mkdir(exist_ok=True)
    interpreter = Interpreter(contained, elsewhere=True)
    with pytest.raises(MeasurementError, match=r"here/engine is not there for .*; on this machine it is /"):
        measure_memory(
            folder, 1, EngineSpec("m", "fake", "fp32"), RuntimeSpec(), [[1]], Workload(1, 1, 1), interpreter=interpreter
        )


class Here:
    name = "faulty"


def test_an_engine_is_built_there_where_it_sees_the_checkpoint_and_the_store(place, contained, mapped):
    store, model, out = (place / "here" / name for name in ("store", "model", "store/out"))
    for folder in (store, model, out):
        folder.mkdir(exist_ok=True)
    backend = ForeignBackend(Here(), mapped)  # type: ignore[arg-type]
    assert "no precision" in backend.why_not_built(SPEC, RuntimeSpec(), model, store), "it was asked, and found all"
    backend.build(SPEC, Checkpoint(model, "d", ""), out, lambda _: None)
    assert (out / "engine").read_text() == "none"
    blind = ForeignBackend(Here(), Interpreter(contained, elsewhere=True))  # type: ignore[arg-type]
    assert f"{model} is not there for " in blind.why_not_built(SPEC, RuntimeSpec(), model, store)
    assert not list(store.glob("seen-*"))
    with pytest.raises(EngineError, match=r"mount it, or map it by base\.paths"):
        blind.build(SPEC, Checkpoint(model, "d", ""), out, lambda _: None)
