"""Which processes belong to a session: by the tree and by a name in the environment, whatever their commands say."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from enginegate.machine.own_processes import SESSION, begin_session, foreign

WAIT = "print(1, flush=True); input()"
#: Starts another and ends, so that the other is no longer below the one that started both.
LEAVE = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAIT!r}], stdin=0, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
"""


@pytest.fixture
def session(monkeypatch) -> str:
    """This process began a session of its own."""
    monkeypatch.delenv(SESSION, raising=False)
    begin_session()
    monkeypatch.setenv(SESSION, os.environ[SESSION])  # and takes it back afterwards
    return os.environ[SESSION]


@contextlib.contextmanager
def waiting(*arguments: str, program: str = WAIT, **environment: str) -> Iterator[tuple[int, str]]:
    """A process that waits for a line; its id, and the line that it or its like printed first."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env={**os.environ, **environment}, **pipes
    ) as child:
        try:
            yield child.pid, child.stdout.readline()
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write("\n")
                child.stdin.close()


@pytest.mark.usefixtures("session")
def test_ours_are_this_process_and_all_below_it():
    assert foreign([]) == []
    with waiting() as (child, _):
        assert foreign([os.getpid(), child]) == []
    assert foreign([999999999, os.getpid()]) == [999999999]


@pytest.mark.usefixtures("session")
def test_a_stranger_with_pytest_in_its_command_stays_one():
    """All below any process above with that word in its command were ours: an editor's tests, say, on the same card."""
    assert foreign([1]) == [1]
    assert foreign([os.getppid()]) == [os.getppid()], "what began this process is not of this session"


@pytest.mark.skipif(sys.platform != "linux", reason="needs the environment of other processes")
def test_what_outlived_its_parent_is_ours_by_the_name_that_it_inherited(session, monkeypatch):
    with waiting(program=LEAVE) as (parent, printed):
        orphan = int(printed)
        os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)
        assert foreign([orphan]) == []
        monkeypatch.setenv(SESSION, f"{os.getpid()}-another")
        assert foreign([orphan]) == [orphan], "of a session that this process began, but not of this one"


ASK = """
import sys
from enginegate.machine.own_processes import begin_session, foreign
begin_session()
print(foreign([int(pid) for pid in sys.argv[1:]]), flush=True)
"""


def test_a_worker_is_of_its_controllers_session_and_so_are_its_siblings(session):
    """As under pytest-xdist: the workers are siblings, and each may look at cards that the others are on."""
    with waiting() as (sibling, _):
        ask = [sys.executable, "-c", ASK, str(sibling), str(os.getpid())]
        assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "[]\n"
        # A session of its own that no process above it began: what a shell had left in its environment says nothing.
        alone = {**os.environ, SESSION: "999999999-left"}
        done = subprocess.run(ask, capture_output=True, text=True, check=True, env=alone)
        assert done.stdout == f"{sorted([sibling, os.getpid()])}\n"


def test_without_a_named_session_those_above_are_ours_too(monkeypatch):
    """A script measures in children, and has engines on the card itself."""
    monkeypatch.delenv(SESSION, raising=False)
    program = ASK.replace("begin_session()\n", "", 1)
    with waiting() as (sibling, _):
        ask = [sys.executable, "-c", program, str(sibling), str(os.getpid())]
        assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == f"[{sibling}]\n"
