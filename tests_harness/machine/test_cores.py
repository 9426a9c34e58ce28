"""The quietest core: found by trying, kept while timed, given back afterwards."""

from __future__ import annotations

import os

import pytest
from enginegate.machine import cores
from enginegate.machine.cores import allowed_cores, quietest_core, take_quietest_core

pytestmark = pytest.mark.skipif(len(allowed_cores()) < 2, reason="needs two cores, and a system that lets one choose")


@pytest.fixture
def quiet(monkeypatch) -> int:
    """The last core is the fastest, says the trial."""
    chosen = max(allowed_cores())
    monkeypatch.setattr(cores, "_trial", lambda core: 1.0 if core == chosen else 2.0)
    return chosen


def test_thread_stays_on_the_fastest_core_and_goes_home(quiet):
    before = allowed_cores()
    with quietest_core():
        assert os.sched_getaffinity(0) == {quiet}
    assert os.sched_getaffinity(0) == before


@pytest.mark.usefixtures("quiet")
def test_a_failure_gives_the_cores_back():
    before = allowed_cores()
    with pytest.raises(ValueError, match="engine"), quietest_core():
        raise ValueError("engine")
    assert os.sched_getaffinity(0) == before


def test_a_trial_runs_on_the_core_that_it_is_about():
    before = allowed_cores()
    try:
        take_quietest_core(before)
        (chosen,) = os.sched_getaffinity(0)
        assert chosen in before
    finally:
        os.sched_setaffinity(0, before)


def test_without_a_choice_nothing_moves():
    before = allowed_cores()
    take_quietest_core(frozenset())
    take_quietest_core({min(before)})
    assert os.sched_getaffinity(0) == before
