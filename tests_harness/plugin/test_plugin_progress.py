"""Progress beside pytest's own output: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import sys

import pytest
from screen import Screen, run_on_terminal

from tests_harness.plugin.conftest import VARIABLES_OF_THE_OUTSIDE

pytest_plugins = ["pytester"]

TESTS = '''
import logging
import os
import signal
import sys

import pytest
from enginegate.core.progress import Step, lasting
from enginegate.plugin import PROGRESS


@pytest.fixture
def progress(request):
    return request.config.stash[PROGRESS]


def test_passes(progress):
    """A build, whose library prints in every way there is; then rounds."""
    with lasting(progress, "building x", 40.0):
        print("a library says")
        os.write(1, b"its C++ code says")
        os.write(2, b"and complains")
    for number in (1, 2):
        progress(Step(f"timing b{number}", f"block {number} of at most 4", share=number / 4, left=9.0, at_most=True))


def test_tells_news(progress):
    progress(Step("loading y"))
    progress("warning: y is damaged")
    progress(Step("memory of y"))


def test_fails(progress):
    progress(Step("cloze of y", "50 %", share=0.5, left=3.0))
    logging.getLogger().warning("logged meanwhile")
    assert 0


def test_is_interrupted(progress):
    progress(Step("timing b8", "block 1 of at most 4", share=0.25))
    if "INTERRUPT" in os.environ:
        os.kill(os.getpid(), signal.SIGINT)
'''


@pytest.fixture
def inner(pytester: pytest.Pytester):
    """Runs pytest on a terminal of its own; gives its exit code, the screen, and what was written. No engine is run."""
    pytester.makeini("[pytest]\nenginegate = true\n")
    pytester.makeconftest('pytest_plugins = ["enginegate.plugin"]')
    pytester.makepyfile(test_inner=TESTS)
    unwanted = (*VARIABLES_OF_THE_OUTSIDE, "NO_COLOR", "FORCE_COLOR", "PY_COLORS")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # it is faster

    def run(*arguments: str, **environment: str) -> tuple[int, Screen, str]:
        command = [sys.executable, "-m", "pytest", "-pno:cacheprovider", "-pno:randomly", "-pno:rerunfailures"]
        command += ["--tb=line", *arguments]
        code, text = run_on_terminal(command, pytester.path, {**kept, "TERM": "xterm", **environment}, rows=100)
        return code, Screen(rows=100).feed(text), text

    return run


def test_the_bar_is_below_pytests_own_line_and_leaves_no_trace(inner):
    code, screen, text = inner()
    assert code == 1
    below = [seen[-1] for seen in screen.seen]
    assert below[:2] == ["  .. building x: took 40 s last time", f"  .. building x: 0 s of about 40 s {'━' * 30}"]
    assert any(line.startswith("  .. timing b2: block 2 of at most 4, at most 9 s left ━") for line in below)
    assert any(line.startswith("  .. cloze of y: 50 %, 3 s left ━") for line in below)
    assert [seen[-2] for seen in screen.seen][:3] == ["test_inner.py"] * 3
    head, _, tail = "\n".join(screen.lines()).partition("FAILURES")
    ours = head.partition("collected 4 items\n\n")[2].splitlines()
    assert ours[:3] == ["test_inner.py .", "  .. warning: y is damaged", "."]
    assert re.fullmatch(r"test_inner.py F\. +\[100%\]", ours[3])
    assert set(ours[4:]) <= {"", "=" * 35 + " "}
    left = head + tail
    assert "━" not in left
    assert "its C++ code says" not in left, "it was captured"
    assert "\x1b[3" in text, "pytest's colours are there"


def test_ctrl_c_and_live_logs_take_the_bar_away(inner):
    code, screen, _ = inner("-v", "-o", "log_cli=true", NO_COLOR="1", INTERRUPT="1")
    assert code == pytest.ExitCode.INTERRUPTED
    assert "timing b8" in screen.seen[-1][-1]
    assert screen.seen[-1][-2].startswith("test_inner.py::test_is_interrupted")
    left = screen.lines()
    assert not [line for line in left if "━" in line or "timing b" in line or "memory of" in line]
    assert [line.split()[1] for line in left if line.startswith("test_inner.py::test_passes")] == ["PASSED"]
    assert any("logged meanwhile" in line for line in left)
    assert any("KeyboardInterrupt" in line for line in left)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ((), {"CI": "true"}),
        pytest.param(("-s",), {}, marks=pytest.mark.heavy),
        pytest.param(("-v",), {"TERM": "dumb"}, marks=pytest.mark.heavy),
    ],
)
def test_elsewhere_there_are_plain_lines(inner, arguments, environment):
    """In CI, where nothing is captured, and on a terminal that cannot."""
    code, screen, text = inner(*arguments, NO_COLOR="1", **environment)
    assert code == 1
    assert "\x1b" not in text
    collected = text.partition("collected 4 items")[2]  # pytest counts them with \r
    assert "\r" not in collected.replace("\r\n", "\n")
    ours = [line for line in screen.lines() if line.startswith("  .. ")]
    assert ours[0] == "  .. building x: took 40 s last time"
    assert "warning: y is damaged" in "\n".join(ours)
    seconds = float(re.findall(r" in ([\d.]+)s", text)[-1])
    assert len(ours) <= seconds + 2, "one at once, one a second, and the news at the end"


@pytest.mark.heavy
def test_a_quiet_session_shows_nothing(inner):
    _, screen, text = inner("-q", "-q")
    assert not screen.seen
    assert "  .. " not in text
    assert "warning: y" not in text
