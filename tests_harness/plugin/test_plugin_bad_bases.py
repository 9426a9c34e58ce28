"""Bases that cannot serve: each is an error of the tests that says what was asked for, and why it cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.engines.process import messages
from enginegate.plan.against import read_against
from enginegate.session.base import prepare_base
from workspace import FAKES

from tests_harness.plugin.test_plugin_against import committed

pytest_plugins = ["pytester"]

#: A worker of another time: it greets in a protocol of its own.
OTHER = f"""
import os, struct, time
os.write(1, struct.pack("!4sHQQ", b"eng:", {messages.PROTOCOL + 97}, 2, 0) + b"[]")
time.sleep(60)
"""
BROKEN = """

def build(*_):
    raise RuntimeError("no compiler for this")


FakeBackend.build = build
FakeBackend.version = lambda self: "enginegate-fake 2.0"
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
    (site / "enginegate_fake.py").write_text(code + BROKEN)
    shutil.copy(FAKES / "fake_serving.py", site)
    shutil.copytree(FAKES / "enginegate_fake-1.0.dist-info", site / "enginegate_fake-1.0.dist-info")
    text = said(suite, f"exec:env PYTHONPATH={site} {sys.executable}")
    assert "could not build toy-fake-int8_wo@base" in text
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
    (tmp_path / "worker.py").write_text(OTHER)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'worker.py'}\n")
    python.chmod(0o755)
    text = said(suite, f"python:{python}")
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
    config = load_config(committed(suite, "after", 2.0, "six==1.16.0\n"))
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-tags", f"file://{suite.folder}", str(clone)], check=True)
    against = read_against("git:before", "--base")
    assert against is not None
    with pytest.raises(ConfigError) as raised:
        prepare_base(against, config, clone, tmp_path / "cache", tmp_path / "lock.txt", lambda _: None)
    assert raised.value.problem == "--base git:before: this repository has no commit 'before'"
    assert raised.value.hint == "this clone is shallow: `git fetch --depth 1 origin before` brings it"
