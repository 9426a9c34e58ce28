"""The engine store in one process: keys, damage, pruning, and a cache that cannot be written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from enginegate.core.errors import EngineError, EngineGateError, StoreError
from enginegate.core.specs import EngineSpec, QuantizationSpec, Timeouts
from enginegate.engines.manifest import engine_key
from enginegate.engines.process.building import build_limits
from enginegate.engines.store import EngineStore, StoreEntry
from enginegate.models.checkpoint import Checkpoint
from store_worker import CHECKPOINT, CONTENT, FILES, SPEC, FakeBackend


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "builds.log"


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path)


def get(
    store: EngineStore, log: Path | None = None, spec: EngineSpec = SPEC, lines: list[str] | None = None
) -> StoreEntry:
    return store.get(spec, CHECKPOINT, FakeBackend(log), progress=(lines if lines is not None else []).append)


def builds(log: Path) -> int:
    return len(log.read_text().splitlines())


def names(tmp_path: Path) -> set[str]:
    """What lies in the store's folder, lock files apart."""
    return {path.name for path in (tmp_path / "engines").iterdir() if path.suffix != ".lock"}


def test_an_engine_is_built_once_and_found_again(store: EngineStore, log: Path, tmp_path: Path) -> None:
    entry = get(store, log)
    again = get(EngineStore(tmp_path), log)
    assert builds(log) == 1
    assert again.path == entry.path
    assert again.manifest == entry.manifest
    assert {name: (entry.path / name).read_bytes() for name in FILES} == FILES
    assert entry.manifest.size_bytes == sum(map(len, FILES.values()))
    assert entry.manifest.spec["precision"] == "int8_wo"
    assert entry.manifest.label == SPEC.id
    assert names(tmp_path) == {entry.key}


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, backend="other"),
        replace(SPEC, precision="int4_wo"),
        replace(SPEC, max_batch_size=4),
        replace(SPEC, max_input_len=4),
        replace(SPEC, max_output_len=4),
        replace(SPEC, tensor_parallel=2),
        replace(SPEC, quantization=QuantizationSpec(group_size=None)),
        replace(SPEC, quantization=QuantizationSpec(calibration_samples=7)),
        replace(SPEC, quantization=QuantizationSpec(calibration_digest="d")),
    ],
)
def test_the_key_follows_what_is_built(spec: EngineSpec) -> None:
    assert engine_key(spec, CHECKPOINT, "fake", "1") != engine_key(SPEC, CHECKPOINT, "fake", "1")


def test_the_key_follows_checkpoint_backend_and_version() -> None:
    other = replace(CHECKPOINT, digest="d" * 64)
    keys = {
        engine_key(SPEC, CHECKPOINT, "fake", "1"),
        engine_key(SPEC, other, "fake", "1"),
        engine_key(SPEC, CHECKPOINT, "fake2", "1"),
        engine_key(SPEC, CHECKPOINT, "fake", "2"),
    }
    assert len(keys) == 4


def test_keys_of_engines_that_are_in_caches_already_are_found_again() -> None:
    """The GPU architecture, which was never given, is part of the key as it was: empty."""
    key = engine_key(SPEC, CHECKPOINT, "fake", "1")
    assert key == "b10b2fc8a1c5625caf620b6936fb379cf262a050ef7a32222086fcf29736ffde"


def test_the_key_does_not_follow_names_and_places() -> None:
    moved = Checkpoint(Path("/elsewhere"), CHECKPOINT.digest, "hub:org/name@main", random_weights=True)
    renamed = replace(SPEC, model="other", quantization=QuantizationSpec(calibration="/other/file.jsonl"))
    assert engine_key(renamed, moved, "fake", "1") == engine_key(SPEC, CHECKPOINT, "fake", "1")


def flip_byte_keeping_times(entry: StoreEntry) -> None:
    path = entry.path / "weights.bin"
    before = path.stat()
    content = bytearray(CONTENT)
    content[12345] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def truncate(entry: StoreEntry) -> None:
    os.truncate(entry.path / "weights.bin", 100)


def remove_file(entry: StoreEntry) -> None:
    (entry.path / "tokenizer" / "vocabulary.txt").unlink()


def add_file(entry: StoreEntry) -> None:
    (entry.path / "stray.bin").write_bytes(b"x")


def remove_engine(entry: StoreEntry) -> None:
    entry.path.rename(entry.path.with_name("gone"))


def remove_manifest(entry: StoreEntry) -> None:
    (entry.path.parent / "manifest.json").unlink()


def cut_manifest(entry: StoreEntry) -> None:
    os.truncate(entry.path.parent / "manifest.json", 200)


def edit_manifest(entry: StoreEntry) -> None:
    path = entry.path.parent / "manifest.json"
    content = json.loads(path.read_text())
    content["build_seconds"] += 1
    path.write_text(json.dumps(content))


def remove_marker(entry: StoreEntry) -> None:
    (entry.path.parent / "last_used").unlink()


DAMAGE = [
    flip_byte_keeping_times,
    truncate,
    remove_file,
    add_file,
    remove_engine,
    remove_manifest,
    cut_manifest,
    edit_manifest,
    remove_marker,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_noticed_and_built_again(damage, store: EngineStore, log: Path, tmp_path: Path) -> None:
    entry = get(store, log)
    assert store.verify() == []
    damage(entry)
    assert [problem.key for problem in store.verify()] == [entry.key]
    lines: list[str] = []
    fixed = get(store, log, lines=lines)
    assert builds(log) == 2
    assert any(line.startswith("warning: ") and "damaged" in line for line in lines)
    assert {name: (fixed.path / name).read_bytes() for name in FILES} == FILES
    assert store.verify() == []
    assert names(tmp_path) == {entry.key}


def test_an_entry_under_a_foreign_name_is_not_used(store: EngineStore, log: Path, tmp_path: Path) -> None:
    entry = get(store, log)
    other = replace(SPEC, precision="int4_wo")
    key = engine_key(other, CHECKPOINT, "fake", "1")
    entry.path.parent.rename(tmp_path / "engines" / key)
    get(store, log, spec=other)
    assert builds(log) == 2


def test_a_failed_build_leaves_nothing(store: EngineStore, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise EngineError("the quantizer gave up")

    with pytest.raises(EngineError, match="gave up"):
        store.get(SPEC, CHECKPOINT, FakeBackend(interrupt=fail), progress=print)
    assert names(tmp_path) == set()


def test_a_build_that_writes_nothing_is_an_error(store: EngineStore, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(FakeBackend, "build", lambda *_: None)
    with pytest.raises(EngineError, match="without writing a file"):
        get(store)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_store_error(error: Exception, store: EngineStore, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise error

    with pytest.raises(StoreError) as caught:
        store.get(SPEC, CHECKPOINT, FakeBackend(interrupt=fail), progress=print)
    assert str(tmp_path / "engines") in caught.value.problem
    assert "MB free" in caught.value.problem
    assert "engines prune" in caught.value.hint
    assert names(tmp_path) == set()


def test_another_failure_while_the_disk_is_full_is_put_down_to_it(store: EngineStore, monkeypatch) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("cannot serialize the model")

    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("enginegate.core.cache.shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="No space left"):
        store.get(SPEC, CHECKPOINT, FakeBackend(interrupt=fail), progress=print)


def test_another_failure_is_the_builds_own_and_keeps_its_cause(store: EngineStore) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("cannot serialize the model")

    with pytest.raises(EngineError, match=r"could not build .*: RuntimeError: cannot serialize the model") as raised:
        store.get(SPEC, CHECKPOINT, FakeBackend(interrupt=fail), progress=print)
    assert isinstance(raised.value.__cause__, RuntimeError)


def fill(store: EngineStore, count: int) -> list[StoreEntry]:
    """Entries used one after another, the first the longest ago, none in use any more."""
    entries = [get(store, spec=replace(SPEC, max_batch_size=1 + i)) for i in range(count)]
    store.close()
    for i, entry in enumerate(entries):
        os.utime(entry.path.parent / "last_used", (1e9 + i, 1e9 + i))
    return entries


def test_ls_lists_the_last_used_first(store: EngineStore) -> None:
    entries = fill(store, 3)
    assert [entry.key for entry in store.ls()] == [entry.key for entry in reversed(entries)]
    get(store, spec=replace(SPEC, max_batch_size=1))
    assert store.ls()[0].key == entries[0].key


def test_prune_removes_the_longest_unused_until_the_rest_fits(store: EngineStore, tmp_path: Path) -> None:
    entries = fill(store, 4)
    size = sum(path.stat().st_size for path in entries[0].path.parent.rglob("*") if path.is_file())
    removed = store.prune(int(2.5 * size))
    assert [gone.key for gone in removed] == [entry.key for entry in entries[:2]]
    assert [gone.label for gone in removed] == [SPEC.id] * 2
    assert all(abs(gone.size_bytes - size) < 100 for gone in removed)
    assert names(tmp_path) == {entry.key for entry in entries[2:]}
    assert store.prune(int(2.5 * size)) == []
    assert len(store.prune(0)) == 2


def test_prune_leaves_what_is_in_use(store: EngineStore, tmp_path: Path) -> None:
    entries = fill(store, 2)
    user = EngineStore(tmp_path)
    get(user, spec=replace(SPEC, max_batch_size=1))
    assert [gone.key for gone in store.prune(0)] == [entries[1].key]
    with pytest.raises(StoreError, match="in use"):
        store.remove(entries[0].key)
    user.close()
    assert [gone.key for gone in store.prune(0)] == [entries[0].key]


def test_prune_sweeps_unreadable_entries_and_leftovers(store: EngineStore, tmp_path: Path) -> None:
    entries = fill(store, 2)
    remove_manifest(entries[1])
    (tmp_path / "engines" / f"{'e' * 64}.tmp-1-aa").mkdir()
    assert [gone.key for gone in store.prune(1 << 40)] == [entries[1].key]
    assert names(tmp_path) == {entries[0].key}


def test_remove(store: EngineStore, tmp_path: Path) -> None:
    (entry,) = fill(store, 1)
    assert store.remove(entry.key).key == entry.key
    assert names(tmp_path) == set()
    with pytest.raises(StoreError, match="no engine"):
        store.remove(entry.key)


def test_an_empty_store(store: EngineStore) -> None:
    assert store.ls() == []
    assert store.verify() == []
    assert store.prune(0) == []


@pytest.mark.parametrize("seconds", [0.2, 60])
def test_a_wait_for_another_process_has_the_limit_of_a_build(store, tmp_path, seconds):
    """It had none, so that one process that hung hung them all."""
    key = get(store).key
    store = EngineStore(tmp_path)
    (tmp_path / "engines" / key / "manifest.json").unlink()
    lock = tmp_path / "engines" / f"{key}.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    freed = threading.Timer(2, os.close, [descriptor])
    freed.start()
    lines: list[str] = []
    try:
        with build_limits(Timeouts(build=seconds)):
            if seconds > 2:
                assert get(store, lines=lines).key == key
            else:
                with pytest.raises(EngineGateError) as raised:
                    get(store, lines=lines)
                for part in (str(lock), "0.2 s", "end that process", "raise timeouts.build"):
                    assert part in str(raised.value)
    finally:
        freed.join()
    assert any("waiting for another process" in line for line in lines)
