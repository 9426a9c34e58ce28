"""Environments made from a lock: what goes to the installer, made once, remade where it is not whole, bounded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from enginegate.core.errors import ConfigError, EngineError
from enginegate.core.specs import Limit
from enginegate.engines.process import environments as module
from enginegate.engines.process.environments import (
    environment,
    environments,
    installed,
    prune_environments,
    requirements,
)

LIMIT = Limit(60, "timeouts.build")


def silent(line: str) -> None:
    del line


@pytest.fixture
def made(monkeypatch) -> list[list[str]]:
    """The installer's commands; it makes a Python that is none, and fails where the lock says so."""
    commands: list[list[str]] = []

    def run(command, **_):
        commands.append([str(word) for word in command])
        if "venv" in command:
            python = Path(command[-1], "bin", "python")
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text("#!/bin/sh\n")
        failing = command[-1].endswith(".txt") and "nonsense" in Path(command[-1]).read_text()
        return subprocess.CompletedProcess(command, int(failing), b"no such version" if failing else b"")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    return commands


def test_a_lock_loses_the_project_and_gains_the_index_of_its_local_versions():
    ours = "-e .\n--editable git+x\nenginegate==0.1\n./local\n"
    text = f"{ours}--extra-index-url https://a/\ntorch==2.13.0+cpu  # x\nsix==1\n"
    lines = requirements(text).splitlines()
    assert lines == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "--extra-index-url https://a/",
        "torch==2.13.0+cpu  # x",
        "six==1",
    ]


def test_what_is_installed_here_is_a_lock_without_the_suite():
    lines = installed()
    assert any(line.lower().startswith("pytest==") for line in lines)
    assert not any(line.startswith("enginegate==") for line in lines)
    others = [line for line in lines if not line.startswith("enginegate")]  # stand-ins of other tests
    assert requirements("\n".join(others)).splitlines()[-len(others) :] == others


def test_one_environment_for_each_lock_made_once(tmp_path, made):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("six==1.16.0\n")
    second.write_text("six==1.17.0\n")
    one = environment(first, tmp_path / "cache", progress=silent, limit=LIMIT)
    assert environment(first, tmp_path / "cache", progress=silent, limit=LIMIT).key == one.key
    other = environment(second, tmp_path / "cache", progress=silent, limit=LIMIT)
    assert other.key != one.key
    assert len(made) == 4, "two steps for each"
    assert one.python.is_file()
    assert {each.key for each in environments(tmp_path / "cache")} == {one.key, other.key}


def test_one_that_was_cut_off_is_made_anew(tmp_path, made):
    lock = tmp_path / "lock.txt"
    lock.write_text("six==1.16.0\n")
    one = environment(lock, tmp_path / "cache", progress=silent, limit=LIMIT)
    (one.path / "complete.json").unlink()
    assert not environments(tmp_path / "cache")
    assert environment(lock, tmp_path / "cache", progress=silent, limit=LIMIT).key == one.key
    assert len(made) == 4


def test_a_lock_that_cannot_be_solved_says_why_and_leaves_nothing(tmp_path, made):
    lock = tmp_path / "lock.txt"
    lock.write_text("nonsense==99\n")
    with pytest.raises(EngineError, match=r"(?s)environment of .*lock.txt cannot be made.*no such version"):
        environment(lock, tmp_path / "cache", progress=silent, limit=LIMIT)
    assert not environments(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]
    with pytest.raises(ConfigError, match="cannot be read"):
        environment(tmp_path / "none.txt", tmp_path / "cache", progress=silent, limit=LIMIT)


def test_those_used_longest_ago_go_first(tmp_path, made):
    import os

    found = []
    for number in range(3):
        lock = tmp_path / f"{number}.txt"
        lock.write_text(f"six==1.{number}\n")
        found.append(environment(lock, tmp_path / "cache", progress=silent, limit=LIMIT))
        os.utime(found[-1].path / "last_used", (number, number))
    size = environments(tmp_path / "cache")[0].size_bytes
    gone = prune_environments(tmp_path / "cache", 2 * size + 10)
    assert [each.key for each in gone] == [found[0].key]
    assert len(prune_environments(tmp_path / "cache", 0)) == 2
    assert not environments(tmp_path / "cache")


@pytest.mark.heavy
def test_a_real_environment_serves_its_python(tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("-e .\nsix==1.16.0\n")
    made = environment(lock, tmp_path / "cache", progress=silent, limit=Limit(300))
    said = subprocess.run(
        [str(made.python), "-c", "import six; print(six.__version__)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "1.16.0"
