"""Bases that cannot serve: each is an error of the tests that says what was asked for, and why it cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.engines.process import messages
from workspace import FAKES

from tests_harness.plugin.test_plugin_against import committed

pytest_plugins = ["pytester"]

#: A worker of another time: it greets in a protocol of its own.
OTHER = f"""
import os, struct, time
os.write(1, struct.pack("!4sHQQ", b"eng:", {messages.PROTOCOL + 97}, 2, 0) + b"[]")
time.sleep(60)
"""
OLD = "import sys; sys.version_info = (3, 9); sys.version = '3.9.18 (main)'"


def said(suite, what: str, **more: object) -> str:
    """What the tests of one engine say of a base that cannot be had."""
    result = suite.run(
        "tests_perf/test_speedup.py", "--batch-size=1", "--precision=int8_wo", f"--against={what}", **more
    )
    assert result.ret == 1
    assert not suite.record().verdicts
    text = " ".join(result.stdout.str().split())
    assert f"--against {what}: " in text, "what was asked for"
    return text


def test_a_base_that_cannot_be_built(suite, tmp_path):
    """It has another version of the library, and that fails."""
    site = tmp_path / "site"
    site.mkdir()
    code = (FAKES / "enginegate_fake.py").read_text(encoding="utf-8")
    (site / "enginegate_fake.py").write_text(
        code + "\n\ndef build(*_):\n    raise RuntimeError('no compiler for this')\n\n\nFakeBackend.build = build\n"
    )
    shutil.copytree(FAKES / "enginegate_fake-1.0.dist-info", site / "enginegate_fake-2.0.dist-info")
    metadata = site / "enginegate_fake-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    text = said(suite, f"exec:env PYTHONPATH={site} {sys.executable}")
    assert "could not build toy-fake-int8_wo@base" in text or "toy-fake-int8_wo@base" in text
    assert "no compiler for this" in text


@pytest.mark.heavy
def test_a_lock_that_cannot_be_solved(suite, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text(f"nothing @ file://{tmp_path}/nothing-1-py3-none-any.whl\n")
    text = said(suite, f"lock:{lock}")
    assert f"the environment of {lock} cannot be made:" in text
    assert "nothing-1-py3-none-any.whl" in text
    assert not [path for path in (suite.workspace.folder / "cache" / "environments").iterdir() if path.is_dir()]


def test_a_base_of_another_protocol(suite, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(OTHER)
    text = said(suite, f"exec:{sys.executable} {worker}")
    assert f"the other side speaks protocol {messages.PROTOCOL + 97}, this one {messages.PROTOCOL}" in text


def test_an_old_python_elsewhere(suite, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(OLD)
    text = said(suite, f"exec:env PYTHONPATH={tmp_path} {sys.executable}")
    assert "enginegate needs Python 3.10 or later, this is 3.9.18" in text


def test_an_old_python_here(suite, tmp_path):
    python = tmp_path / "python3.9"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}:$PYTHONPATH" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(OLD)
    assert "enginegate needs Python 3.10 or later, this is 3.9.18" in said(suite, f"python:{python}")


def test_a_shallow_clone_says_how_to_fetch_what_it_lacks(suite, tmp_path):
    committed(suite, "before", 1.0, "six==1.16.0\n")
    committed(suite, "after", 2.0, "six==1.16.0\n")
    origin = suite.folder.rename(suite.folder.with_name(suite.folder.name + "-origin"))
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-tags", f"file://{origin}", str(suite.folder)], check=True)
    suite.prepare()
    text = said(suite, "git:before")
    assert "this repository has no commit 'before'" in text
    assert "this clone is shallow: `git fetch --depth 1 origin before` brings it" in text
    assert Path(suite.folder / ".git" / "shallow").exists()
