"""Fuzzed headers of checkpoints: whatever they say, a checkpoint is refused by an error of the suite's, or is sound.

``ENGINEGATE_FUZZ_SECONDS`` is the CPU time that each target gets, 50 by default, and ``ENGINEGATE_FUZZ_SEED`` a number
to begin with another input.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import EngineGateError
from enginegate.models.gguf import convert_gguf
from enginegate.models.sources import resolve
from field_checkpoints import CONFIG, random_weights, write_gguf, write_small_checkpoint
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("ENGINEGATE_FUZZ_SECONDS", "50"))
SEED = int(os.environ.get("ENGINEGATE_FUZZ_SEED", "0"))
#: Seconds after which one input counts as a hang. The whole of a sound one takes a tenth.
HANG = 30

pytestmark = pytest.mark.heavy


class Hang(BaseException):
    """One input took too long. No Exception, so that nobody on the way turns it into an error of the suite's."""


@contextmanager
def watched() -> Iterator[None]:
    def end(*_: object) -> None:
        raise Hang(f"one input took more than {HANG} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(target: Callable[[Any], str], inputs: st.SearchStrategy[Any]) -> dict[str, int]:
    """Feed drawn inputs to a target for ``SECONDS`` of CPU time; how often each outcome was met."""
    outcomes: dict[str, int] = {}
    end = time.process_time() + SECONDS
    round_ = 0
    while time.process_time() < end:

        @seed(SEED + round_)
        @settings(
            max_examples=200,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(inputs)
        def run(value: Any) -> None:
            if time.process_time() >= end:
                return
            with watched():
                try:
                    outcome = target(value)
                except EngineGateError as error:
                    outcome = type(error).__name__ if error.hint else f"{type(error).__name__} without a hint"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

        run()
        round_ += 1
    return outcomes


#: What stands at a place where something else was expected.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3, 7, 64, 263, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64, 10**30]),
    st.floats(),
    st.sampled_from(
        ["", "F32", "I8", "F8_E4M3", "F99", "../x", "model.safetensors", "config.json", "\0", "llama", "gpt2"]
    ),
    st.text(max_size=5),
    st.lists(st.integers(-2, 1 << 40), max_size=4),
    st.builds(dict),  # made anew each time, as a later edit may change it
    st.builds(lambda: {"a": {"b": []}}),
)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[int, str, Any]]:
    """Changes of a JSON document: which of its places, what happens there, and what is put in."""
    return draw(
        st.lists(
            st.tuples(
                st.integers(0, 10_000), st.sampled_from(["replace", "drop", "copy", "rename", "nudge", "swap"]), ODD
            ),
            min_size=1,
            max_size=4,
        )
    )


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    found: list[tuple[Any, Any]] = []
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        found += [(node, key), *places(node[key])]
    return found


def edited(document: Any, changes: list[tuple[int, str, Any]]) -> Any:
    document = json.loads(json.dumps(document))
    for where, what, value in changes:
        found = places(document)
        if not found:
            break
        parent, key = found[where % len(found)]
        other_parent, other_key = found[where * 7 % len(found)]
        if what == "drop":
            del parent[key]
        elif what == "nudge" and isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] += 1 if where % 2 else -1
        elif what == "rename" and isinstance(parent, dict):
            parent[str(value)] = parent.pop(key)
        elif what == "copy" and isinstance(parent, dict):
            parent[f"{key}{value}"] = json.loads(json.dumps(parent[key]))
        elif what == "swap":
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        else:
            parent[key] = value
    return document


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[str, int, bytes]]:
    """Changes of bytes: what happens, where, and the bytes that are put there."""
    lengths = st.sampled_from([struct.pack("<Q", n) for n in (0, 1, 1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)])
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "put", "put", "cut", "insert"]),
                st.integers(0, 1 << 20),
                st.one_of(st.binary(min_size=1, max_size=8), lengths),
            ),
            max_size=3,
        )
    )


def cut(content: bytes, changes: list[tuple[str, int, bytes]], within: int) -> bytes:
    """Bytes changed among the first ``within``."""
    for what, where, value in changes:
        place = where % max(1, min(within, len(content)))
        if what == "cut":
            content = content[:place]
        elif what == "insert":
            content = content[:place] + value + content[place:]
        else:
            content = content[:place] + value + content[place + len(value) :]
    return content


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a sound checkpoint in two shards."""
    from safetensors.numpy import save

    folder = write_small_checkpoint(tmp_path_factory.mktemp("sound"))
    weights = random_weights()
    first = {name: value for name, value in weights.items() if "layers.0" in name}
    second = {name: value for name, value in weights.items() if name not in first}
    placed = {name: "a.safetensors" if name in first else "b.safetensors" for name in weights}
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "model.safetensors"}
    return {
        **files,
        "config.json": json.dumps(CONFIG).encode(),
        "a.safetensors": save(first),
        "b.safetensors": save(second),
        "model.safetensors.index.json": json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}).encode(),
    }


class Folder:
    """A folder in which the files of a checkpoint are written and resolved again and again."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder / "checkpoint"
        self.cache = folder / "cache"
        self.files = files

    def resolve(self, **changed: bytes) -> str:
        self.folder.mkdir(exist_ok=True)
        for name, content in {**self.files, **changed}.items():
            (self.folder / name).write_bytes(content)
        resolve(f"path:{self.folder}", cache=self.cache, progress=lambda _: None)
        return "sound"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small files are written, and none of them has to outlive a crash."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path, sound: dict[str, bytes]) -> Folder:
    made = Folder(tmp_path, sound)
    assert made.resolve() == "sound"
    return made


def check(outcomes: dict[str, int]) -> None:
    print(outcomes)
    assert outcomes.get("ModelError", 0) > 0
    assert set(outcomes) <= {"ModelError", "UntrustedError", "ConfigError", "sound"}


def test_headers_of_safetensors(folder: Folder) -> None:
    content = folder.files["a.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def target(drawn: tuple[list[Any], list[Any], int]) -> str:
        changes, bytes_, more = drawn
        text = json.dumps(edited(header, changes)).encode()
        made = struct.pack("<Q", len(text) + more) + text + data
        return folder.resolve(**{"a.safetensors": cut(made, bytes_, 8 + len(text))})

    more = st.sampled_from([0, 0, 0, 0, 1, -1, 8, 1 << 30, (1 << 62)])
    check(fuzz(target, st.tuples(st.one_of(st.just([]), edits()), st.one_of(st.just([]), cuts()), more)))


def test_bytes_of_safetensors(folder: Folder) -> None:
    content = folder.files["b.safetensors"]

    def target(changes: list[Any]) -> str:
        return folder.resolve(**{"b.safetensors": cut(content, changes, len(content))})

    check(fuzz(target, cuts()))


def test_indexes(folder: Folder) -> None:
    index = json.loads(folder.files["model.safetensors.index.json"])

    def target(drawn: tuple[list[Any], list[Any]]) -> str:
        content = json.dumps(edited(index, drawn[0])).encode()
        return folder.resolve(**{"model.safetensors.index.json": cut(content, drawn[1], len(content))})

    check(fuzz(target, st.tuples(edits(), st.one_of(st.just([]), cuts()))))


def test_configurations_of_checkpoints(folder: Folder) -> None:
    from transformers import LlamaConfig

    config = {**LlamaConfig().to_dict(), **json.loads(folder.files["config.json"])}

    def target(drawn: tuple[list[Any], list[Any]]) -> str:
        content = json.dumps(edited(config, drawn[0])).encode()
        return folder.resolve(**{"config.json": cut(content, drawn[1], len(content))})

    check(fuzz(target, st.tuples(edits(), st.one_of(st.just([]), cuts()))))


def test_headers_of_gguf(tmp_path: Path) -> None:
    write_gguf(tmp_path / "sound.gguf", random_weights())
    content = (tmp_path / "sound.gguf").read_bytes()
    header = len(content) - sum(weight.nbytes for weight in random_weights().values())
    words = [place for place in range(header) if content[place : place + 5] in (b"llama", b"token", b"blk.0", b"blk.1")]
    out = tmp_path / "out"
    out.mkdir()

    def target(drawn: tuple[list[Any], bool]) -> str:
        changes, near = drawn
        if near:  # lengths, types and counts lie beside the keys
            changes = [(what, words[where % len(words)] - 12 + where % 48, value) for what, where, value in changes]
        (tmp_path / "fuzzed.gguf").write_bytes(cut(content, changes, header))
        convert_gguf(tmp_path / "fuzzed.gguf", out, lambda _: None)
        return "sound"

    check(fuzz(target, st.tuples(cuts(), st.booleans())))


def test_a_hang_is_told_from_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch itself: nothing between it and the test takes it for an error of a library."""

    def hangs() -> None:
        with watched(), suppress(Exception):
            time.sleep(10)

    monkeypatch.setattr(sys.modules[__name__], "HANG", 1)
    with pytest.raises(Hang):
        hangs()
