"""Foreign load from the system's clocks: whose work is ours, on which CPUs, and what a quota holds up."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import time
import weakref

import psutil
import pytest
from enginegate.engines.timing import quiet_process
from enginegate.machine import load
from enginegate.machine.cores import allowed_cores, quietest_core
from enginegate.machine.load import (
    CpuClock,
    ProcessTime,
    foreign_load,
    machine_seconds,
    own_seconds,
    read_cpu_clock,
    throttled_seconds,
)

US, ENGINE, HELPER, STRANGER = (1, 0.5), (2, 1.0), (3, 2.0), (9, 1.5)


def clock(wall: float, machine: float, used: float = 0.0, reaped: float = 0.0, **more) -> CpuClock:
    """With this process alone, unless ``processes`` adds others."""
    processes = {US: ProcessTime(0, used, reaped, ours=True), **more.pop("processes", {})}
    return CpuClock(wall, machine, processes, **more)


def test_foreign_load_is_what_the_machine_did_less_what_we_did():
    assert foreign_load(clock(0.0, 10.0, 5.0), clock(2.0, 13.0, 7.0), cores=2) == pytest.approx(0.25)
    assert foreign_load(clock(0.0, 10.0, 5.0, cores=2), clock(2.0, 13.0, 7.0, cores=2)) == pytest.approx(0.25)


def test_rounding_of_ticks_never_gives_a_negative_load():
    assert foreign_load(clock(0.0, 10.0, 5.0), clock(1.0, 10.9, 6.0), cores=2) == 0.0


def test_a_system_that_does_not_tell_gives_nan(tmp_path):
    assert read_cpu_clock(tmp_path / "none") is None
    assert math.isnan(foreign_load(None, None))
    assert throttled_seconds(None, None) == 0.0


def test_work_of_an_engines_own_children_is_ours():
    """It was foreign: of an engine in a process of its own only the first process was counted."""
    before = {ENGINE: ProcessTime(1, 1.0, 0.0, ours=True), HELPER: ProcessTime(2, 4.0, 0.0, ours=True)}
    after = {ENGINE: ProcessTime(1, 1.5, 0.0, ours=True), HELPER: ProcessTime(2, 6.0, 0.0, ours=True)}
    first, second = clock(0.0, 0.0, processes=before), clock(2.0, 3.0, processes=after)
    assert own_seconds(first, second) == pytest.approx(2.5)
    assert foreign_load(first, second, cores=2) == pytest.approx(0.125)


def test_children_of_an_engine_that_end_in_the_round_count_for_what_they_did_in_it():
    before = {ENGINE: ProcessTime(1, 1.0, 0.0, ours=True), HELPER: ProcessTime(2, 4.0, 1.0, ours=True)}
    waited_for = {ENGINE: ProcessTime(1, 1.0, 4.0 + 1.0 + 0.25, ours=True)}
    assert own_seconds(clock(0, 0, processes=before), clock(1, 1, processes=waited_for)) == pytest.approx(0.25)
    both_gone = clock(1, 1, reaped=1.0 + 4.0 + 1.0 + 0.5)
    assert own_seconds(clock(0, 0, processes=before), both_gone) == pytest.approx(0.5)
    nobody_waited = {ENGINE: ProcessTime(1, 1.0, 0.0, ours=True)}
    assert own_seconds(clock(0, 0, processes=before), clock(1, 1, processes=nobody_waited)) == 0.0


def test_a_process_that_ends_does_not_hide_others_by_what_it_did_before_the_round():
    """All that a child had used since it began was taken for work of the round in which it was waited for."""
    before = clock(0.0, 100.0, processes={STRANGER: ProcessTime(1, 50.0, 0.0, ours=False)})
    after = clock(1.0, 101.5, used=0.5, reaped=50.0)
    assert own_seconds(before, after) == pytest.approx(0.5)
    assert foreign_load(before, after, cores=2) == pytest.approx(0.5)


def test_a_process_with_the_id_of_one_that_ended_is_another():
    before = {ENGINE: ProcessTime(1, 5.0, 0.0, ours=True)}
    after = {(ENGINE[0], 77.0): ProcessTime(1, 0.25, 0.0, ours=True)}
    assert own_seconds(clock(0, 0, processes=before), clock(1, 1, processes=after)) == pytest.approx(0.25)


def test_processes_below_a_named_one_are_found_and_no_others():
    """A child with a child of its own: both are ours where the child is named, neither where it is not."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "1\n"
        (grandchild,) = psutil.Process(child.pid).children()
        unnamed, named = read_cpu_clock(), read_cpu_clock(children=[child.pid])  # in this order: our own time goes on
        below = {pid: entry.ours for (pid, _), entry in named.processes.items()}
        assert below[child.pid]
        assert below[grandchild.pid], "a child's child was foreign"
        assert not any(entry.ours for (pid, _), entry in unnamed.processes.items() if pid != os.getpid())
        assert named.own > unnamed.own
    finally:
        child.communicate("\n", timeout=30)


def test_stolen_time_counts_and_idle_time_does_not():
    assert machine_seconds("cpu  100 0 50 9999 7 1 2 40 0 0\n", frozenset()) == (pytest.approx(1.93), 1)


STAT = """cpu  500 0 0 900 0 0 0 0 0 0
cpu0 100 0 0 300 0 0 0 0 0 0
cpu1 150 0 0 300 0 0 0 0 0 0
cpu2 250 0 0 300 0 0 0 0 0 0
intr 1 2 3
"""


def test_what_others_do_on_cpus_that_we_may_not_run_on_is_no_load():
    """A busy CPU counted as a 64th of the load, whether it was one of our two or none of them."""
    assert machine_seconds(STAT, {0, 2}) == (pytest.approx(3.5), 2)
    assert machine_seconds(STAT, {1}) == (pytest.approx(1.5), 1)


def test_where_the_cpus_have_other_names_all_of_them_count():
    assert machine_seconds(STAT, {0, 7}) == (pytest.approx(5.0), 3)


def test_the_clock_is_of_the_cpus_that_we_may_run_on(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    monkeypatch.setattr(load, "allowed_cpus", lambda: frozenset({1}))
    found = read_cpu_clock(stat)
    assert (found.machine, found.cores) == (pytest.approx(1.5), 1)


@pytest.mark.skipif(len(allowed_cores()) < 2, reason="needs two cores, and a system that lets one choose")
def test_a_thread_that_is_kept_on_one_core_for_its_turn_may_still_use_all():
    free = allowed_cores()
    with quietest_core():
        assert len(os.sched_getaffinity(0)) == 1
        assert allowed_cores() == free
        assert read_cpu_clock().cores == len(load.allowed_cpus())
    assert allowed_cores() == free


def test_a_quota_that_held_us_up_shows_between_two_readings(tmp_path):
    """It was nowhere to be seen."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("30 29 0:26 / /cg rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cg").mkdir()
    stat = tmp_path / "cg/cpu.stat"
    readings = []
    for held in (1_000_000, 1_250_000):
        stat.write_text(f"usage_usec 9\nnr_throttled 3\nthrottled_usec {held}\n")
        readings.append(read_cpu_clock(root=tmp_path))
    assert throttled_seconds(*readings) == pytest.approx(0.25)


def test_own_work_is_not_foreign_on_the_real_machine():
    before = read_cpu_clock()
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass
    after = read_cpu_clock()
    assert own_seconds(before, after) == pytest.approx(time.process_time() - start, abs=0.05)


def test_the_collector_rests_while_timed_and_comes_back():
    with quiet_process():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_round_begins_without_the_garbage_of_the_last_one():
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    collected = []

    def note(phase, info):
        if phase == "start":
            collected.append(info["generation"])

    gc.disable()
    gc.callbacks.append(note)
    try:
        garbage = weakref.ref(Cycle())
        assert garbage() is not None
        with quiet_process():
            assert garbage() is None
        assert not gc.isenabled()
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert collected == [1]  # not the oldest, which takes as long as many a round
