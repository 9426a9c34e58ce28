"""Processes of their own: what they hand over, and how they end."""

from __future__ import annotations

import time

import pytest
from enginegate.core.errors import EngineError, MeasurementError
from enginegate.core.specs import Limit
from enginegate.machine.processes import run_module

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


def test_a_process_that_the_child_left_behind_is_not_waited_for(module):
    program = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
from enginegate.machine.processes import hand_over
hand_over(1)
"""
    start = time.monotonic()
    assert run_module(module(program), b"", subject="it", hint="", limit=LONG) == 1
    assert time.monotonic() - start < 60


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
    with pytest.raises(MeasurementError, match=silent):
        limit = Limit(2, "timeouts.memory")
        run_module(hanging, b"", subject="the pass", hint="", limit=limit, error=MeasurementError)
