"""The engine store among processes: killed builds, simultaneous builds, engines in use, other users' caches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from enginegate.engines.store import EngineStore
from store_worker import CHECKPOINT, FILES, MOMENTS, SPEC, FakeBackend

REPOSITORY = Path(__file__).parents[2]


def start(root: Path, moment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("store_worker.py")), str(root), moment],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "harness")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def builds(root: Path) -> int:
    log = root / "builds.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def check_good_and_alone(root: Path) -> None:
    """The next process gets a whole engine, and nothing else is left in the store."""
    store = EngineStore(root)
    entry = store.get(SPEC, CHECKPOINT, FakeBackend(root / "builds.log"), progress=print)
    assert {name: (entry.path / name).read_bytes() for name in FILES} == FILES
    assert store.verify() == []
    assert {path.name for path in (root / "engines").iterdir() if path.suffix != ".lock"} == {entry.key}


@pytest.mark.parametrize("moment", ["half written", *(name for name in MOMENTS if not name.startswith("damaged"))])
def test_a_build_killed_at_any_moment_leaves_no_broken_entry(moment: str, tmp_path: Path) -> None:
    process = start(tmp_path, moment)
    process.communicate(timeout=60)
    assert process.returncode == -9
    # an entry is there only when the rename was done, and then it is whole
    assert len(EngineStore(tmp_path).ls()) == (1 if moment == "renamed" else 0)
    assert EngineStore(tmp_path).verify() == []
    check_good_and_alone(tmp_path)
    assert builds(tmp_path) == (0 if moment == "lock taken" else 1) + (0 if moment == "renamed" else 1)


@pytest.mark.parametrize("moment", [name for name in MOMENTS if name.startswith("damaged")])
def test_a_repair_killed_at_any_moment_leaves_no_broken_entry(moment: str, tmp_path: Path) -> None:
    entry = EngineStore(tmp_path).get(SPEC, CHECKPOINT, FakeBackend(), progress=print)
    (entry.path / "weights.bin").write_bytes(b"wrong")
    process = start(tmp_path, moment)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert EngineStore(tmp_path).verify() == []
    check_good_and_alone(tmp_path)


def test_a_build_killed_from_outside_frees_its_lock(tmp_path: Path) -> None:
    process = start(tmp_path, "asleep")
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.communicate(timeout=60)
    check_good_and_alone(tmp_path)


def test_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, "slow") for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert builds(tmp_path) == 1
    assert sum("building" in err for _, err in answers) == 1


def test_an_engine_that_another_process_uses_is_not_pruned(tmp_path: Path) -> None:
    process = start(tmp_path, "held")
    assert process.stdout is not None
    key = process.stdout.readline().strip()
    assert process.stdout.readline() == "holding\n"
    store = EngineStore(tmp_path)
    assert store.prune(0) == []
    process.kill()
    process.communicate(timeout=60)
    assert [gone.key for gone in store.prune(0)] == [key]


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "file size limit")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "StoreError: cannot write to" in err
    assert EngineStore(tmp_path).ls() == []
    check_good_and_alone(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_cache_gives_what_it_has_and_builds_nothing(open_folder: Path) -> None:
    open_folder.chmod(0o555)  # root may write all the same: there the worker becomes another user
    process = start(open_folder, "read-only")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "StoreError: cannot write to" in err
    assert "$ENGINEGATE_CACHE" in err
    open_folder.chmod(0o755)
    entry = EngineStore(open_folder).get(SPEC, CHECKPOINT, FakeBackend(), progress=print)
    open_folder.chmod(0o555)
    (open_folder / "engines").chmod(0o555)
    process = start(open_folder, "read-only")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == entry.key
