"""An engine that computes while it is not its turn is found, and nothing is concluded beside it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from enginegate.measure.launches import MAX_IDLE_SHARE, idle_shares
from enginegate.verdicts.speed import why_no_race

#: What the process of an engine does between its turns.
SPINS = "print(flush=True)\nwhile True: pass"
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def engines():
    """Stand-ins for two loaded engines, each a process of its own."""
    started = {
        name: subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name, program in (("spins", SPINS), ("waits", WAITS))
    }
    for process in started.values():
        process.stdout.readline()  # its start is no work of an engine
    yield {name: SimpleNamespace(pid=process.pid, namespace="") for name, process in started.items()}
    for process in started.values():
        process.kill()
        process.communicate()


def test_who_spins_while_it_is_not_its_turn_is_named_and_nothing_is_concluded(engines):
    shares = idle_shares(engines)
    assert shares["waits"] <= MAX_IDLE_SHARE < shares["spins"]
    race = SimpleNamespace(idle=lambda: shares, launches=[])
    assert why_no_race(race, "b1-i16-o8", "itl") == (
        "spins was busy while it was not its turn: the two are not on equal terms"
    )


def test_two_that_rest_are_judged():
    race = SimpleNamespace(idle=lambda: {"a": MAX_IDLE_SHARE, "b": 0.0}, launches=[])
    assert why_no_race(race, "b1-i16-o8", "itl") is None
