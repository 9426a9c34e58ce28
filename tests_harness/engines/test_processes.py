"""Processes of their own: what they hand over, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import enginegate
import psutil
import pytest
from enginegate.core.errors import EngineError, MeasurementError
from enginegate.core.specs import Limit, Timeouts
from enginegate.engines.process.building import build_limits, run_build
from enginegate.machine import processes
from enginegate.machine.processes import child_environment, module_command, run_module

LONG = Limit(60)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a program, and gives the name by which ``python -m`` finds it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(program: str) -> str:
        (tmp_path / "a_childs_program.py").write_text(program, encoding="utf-8")
        return "a_childs_program"

    return write


def test_what_is_handed_over_is_found_among_what_libraries_print(module):
    program = """
import sys
from enginegate.machine.processes import hand_over
print("50 %", end="")
hand_over({"job": sys.stdin.read()})
print("enginegate hands nothing over")
"""
    assert run_module(module(program), b"to do", subject="it", hint="", limit=LONG) == {"job": "to do"}
    silent = module("print('done')")
    assert run_module(silent, b"", subject="it", hint="", limit=LONG) is None
    with pytest.raises(EngineError, match=r"(?s)it ended with status 0 and handed nothing over:.*done"):
        run_module(silent, b"", subject="it", hint="", limit=LONG, answers=True)


#: Leaves two processes behind that ignore SIGTERM, one of them a daemon; their ids are then in the file it is told.
LEAVES = """
import os, signal, sys, time
file = sys.stdin.read()
for daemon in (False, True):
    ends, begins = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if daemon and (os.setsid() or os.fork()):
            os._exit(0)
        os.write(begins, str(os.getpid()).encode())
        time.sleep(600)
    with open(file, "ab") as pids:
        pids.write(os.read(ends, 99) + b" ")
"""


def left(file: Path) -> list[int]:
    """Ids of the processes that ``LEAVES`` left and that run still."""
    pids = [int(pid) for pid in file.read_text().split()]
    assert len(pids) == 2
    file.unlink()
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "time.sleep(600)"])
def test_processes_that_the_child_left_behind_are_ended_and_not_waited_for(module, tmp_path, short_grace, end):
    """They ran on, beside the engines that were timed next."""
    job = tmp_path / "pids"
    with pytest.raises(EngineError):
        run_module(module(LEAVES + end), bytes(job), subject="it", hint="", limit=Limit(2), answers=True)
    assert left(job) == []


def test_an_interruption_ends_the_child_and_what_it_left(module, tmp_path, short_grace):
    job = tmp_path / "pids"
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_module(module(LEAVES + "time.sleep(600)"), bytes(job), subject="it", hint="", limit=LONG)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert left(job) == []


def test_what_a_child_prints_renews_its_limit(module):
    """The limit was of the whole, so that it ended what was only long."""
    program = """
import time
from enginegate.machine.processes import hand_over
start = time.monotonic()
for step in range(8):
    print(step, flush=True)
    time.sleep(0.2)
hand_over(time.monotonic() - start)
"""
    limit = Limit(1)
    assert run_module(module(program), b"", subject="it", hint="", limit=limit) > limit.seconds


def test_a_build_in_a_child_has_the_limit_set_around_it(module):
    hanging = module("import time; time.sleep(600)")
    with (
        build_limits(Timeouts(build=0.5)),
        pytest.raises(EngineError, match=r"the export gave no sign of life.*\n.*\n.*raise timeouts.build"),
    ):
        run_build(hanging, b"", subject="the export", hint="")
    assert run_build(module("import time; time.sleep(1)"), b"", subject="the export", hint="") is None


def test_a_child_that_fails_or_takes_too_long_is_named_with_its_last_lines(module):
    with pytest.raises(EngineError, match=r"(?s)building ended with status 3.*no such layer.*hint: .*the disk"):
        run_module(
            module("import sys; print('no such layer'); sys.exit(3)"),
            b"",
            subject="building",
            hint="look at the disk",
            limit=LONG,
        )
    hanging = module("import time; print('loading', flush=True); time.sleep(600)")
    silent = r"(?s)the pass gave no sign of life for 2 s and was ended.*loading.*raise timeouts.memory \(now 2 s\)"
    limit = Limit(2, "timeouts.memory")
    with pytest.raises(MeasurementError, match=silent):
        run_module(hanging, b"", subject="the pass", hint="", limit=limit, error=MeasurementError)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """This package as if it was installed in a folder, beside a library and a module that shadows the standard one."""
    folder = tmp_path / "installed"
    package = Path(enginegate.__file__).parent
    shutil.copytree(package, folder / "enginegate", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "a_library.py").write_text("OWNER = 'ours'")
    (folder / "colorsys.py").write_text("OWNER = 'ours'")
    monkeypatch.setattr(enginegate, "__file__", str(folder / "enginegate" / "__init__.py"))
    processes._package_alone.cache_clear()
    yield folder
    processes._package_alone.cache_clear()


def test_another_python_gets_this_package_and_nothing_that_is_installed_beside_it(installed, tmp_path):
    """The folder of a wheel's installation went ahead of all that Python has; and the child needed psutil."""
    venv.create(tmp_path / "bare", symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    (site,) = tmp_path.glob("bare/lib/python*/site-packages")
    (site / "a_library.py").write_text("OWNER = 'theirs'")
    (site / "a_childs_program.py").write_text("""
import a_library, colorsys, enginegate
from enginegate.engines.vllm import quantize
from enginegate.machine.processes import hand_over
from pathlib import Path
hand_over([a_library.OWNER, hasattr(colorsys, "OWNER"), str(Path(enginegate.__file__).resolve())])
""")
    found = run_module("a_childs_program", b"", subject="it", hint="", limit=LONG, python=python, answers=True)
    assert found == ["theirs", False, enginegate.__file__]


def test_a_child_in_this_python_gets_this_package_alone_where_it_would_find_none(installed, module):
    """The package's own folder went ahead of the standard library."""
    program = """
import colorsys, enginegate
from enginegate.machine.processes import hand_over
from pathlib import Path
hand_over([hasattr(colorsys, "OWNER"), str(Path(enginegate.__file__).resolve())])
"""
    found = run_module(module(program), b"", subject="it", hint="", limit=LONG, answers=True)
    assert found == [False, enginegate.__file__]


def test_nothing_is_added_where_a_child_finds_this_package_by_itself(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}")
    monkeypatch.setattr(processes, "_site_folders", lambda: [str(installed)])
    assert child_environment()["PYTHONPATH"] == str(tmp_path)
    (tmp_path / "enginegate").mkdir()
    (tmp_path / "enginegate" / "__init__.py").touch()
    assert child_environment()["PYTHONPATH"].endswith(f"{os.pathsep}{tmp_path}"), "another package comes first there"


def test_the_folder_with_the_package_alone_goes_with_its_process():
    program = "from enginegate.machine import processes; print(processes._package_alone(processes.os.getpid()))"
    done = subprocess.run([sys.executable, "-c", program], env=child_environment(), capture_output=True, check=True)
    folder = Path(done.stdout.decode().strip())
    assert folder.name.startswith("enginegate-")
    assert not folder.exists()
    assert Path(enginegate.__file__).is_file(), "the link is removed, not what it points to"


@pytest.fixture
def among_shadows(tmp_path, monkeypatch):
    """A working directory with a user's own modules, named as those that a child imports."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("json", "psutil", "enginegate", "runpy"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('the {name} of the working directory')")
    monkeypatch.chdir(folder)


def test_a_child_imports_nothing_from_the_working_directory(module, among_shadows):
    """``python -m`` looks there first."""
    program = module("from enginegate.machine.processes import hand_over; hand_over(1)")
    assert run_module(program, b"", subject="it", hint="", limit=LONG, answers=True) == 1
    environment = {**child_environment(), "PYTHONSAFEPATH": ""}
    command = [sys.executable, *module_command(program, "a word", python="one that may be of any version")[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    module("import sys; print(__name__, sys.modules['__main__'].__spec__.name, sys.argv[1:])")
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"__main__", b"a_childs_program", b"['a", b"word']"]
