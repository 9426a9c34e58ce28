"""A PostgreSQL server of Debian's, started for a test and ended after it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Set where a missing server must fail the tests, as `.ci/run` does.
REQUIRED = "ENGINEGATE_REQUIRE_POSTGRESQL"
_HOW = "apt-get install postgresql"


def programs() -> Path:
    """The folder of the newest server's programs; skips the test, or fails it where it is required, without one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parents[1].name), reverse=True
    )
    if not found or (os.geteuid() == 0 and _user() is None):
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"no PostgreSQL server here: {_HOW}")
    return found[0].parent


def _user() -> str | None:
    """Root cannot run a server: Debian's package brings a user for it."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


@contextmanager
def server() -> Iterator[str]:
    """The URL of a new server, which listens on a socket of its own alone; ``/NAME`` is to be put behind it."""
    folder = Path(tempfile.mkdtemp(prefix="eg-pg-"))
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    binaries = programs()
    try:
        if user:
            shutil.chown(folder, "postgres", "postgres")

        def run(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [binaries / program, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **user
            )
            assert done.returncode == 0, done.stderr.decode()

        data = folder / "data"
        run("initdb", "-D", str(data), "-U", "suite", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", f"-k {folder} -h '' -F", "start")
        try:
            yield f"postgresql+psycopg://suite@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
