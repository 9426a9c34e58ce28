"""Foreign load from the system's clocks, timed prompts, and the fingerprint."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from enginegate.core.errors import ConfigError
from enginegate.machine.fingerprint import cpu_flags, cpu_model, fingerprint
from enginegate.machine.load import CpuClock, foreign_load, quiet_process, read_cpu_clock
from enginegate.measure.prompts import PromptPool
from hypothesis import given
from hypothesis import strategies as st


def test_foreign_load_is_what_the_machine_did_less_what_we_did():
    before, after = CpuClock(0.0, 10.0, 5.0), CpuClock(2.0, 13.0, 7.0)
    assert foreign_load(before, after, cores=2) == pytest.approx(0.25)


def test_rounding_of_ticks_never_gives_a_negative_load():
    assert foreign_load(CpuClock(0.0, 10.0, 5.0), CpuClock(1.0, 10.9, 6.0), cores=2) == 0.0


def test_a_system_that_does_not_tell_gives_nan(tmp_path):
    assert read_cpu_clock(tmp_path / "none") is None
    assert math.isnan(foreign_load(None, None))


def test_stolen_time_counts_and_idle_time_does_not(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 9999 7 1 2 40 0 0\ncpu0 1\n")
    clock = read_cpu_clock(stat)
    assert clock is not None
    assert clock.machine == pytest.approx(1.93)


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


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 100), st.integers(-5, 50))
def test_prompts_have_exact_lengths_and_are_decided_by_their_seed(batch_size, input_len, seed, index):
    pool = PromptPool.from_texts([[1, 2, 3], [4, 5]], input_len)
    prompts = pool.batch(batch_size, input_len, seed=seed, round_index=index)
    assert [len(prompt) for prompt in prompts] == [input_len] * batch_size
    assert prompts == pool.batch(batch_size, input_len, seed=seed, round_index=index)


def test_an_empty_prompt_file_is_refused():
    with pytest.raises(ConfigError, match="no text"):
        PromptPool.from_texts([], 8)


def test_the_fingerprint_identifies_by_what_does_not_change():
    first, second = fingerprint(), fingerprint()
    assert first.key == second.key
    assert first.identity == second.identity
    assert {"load_average", "libraries"} <= set(first.context)
    assert not {"load_average", "libraries", "cpu_mhz"} & set(first.identity)


def test_cpu_facts_are_read_from_cpuinfo(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Example CPU\nflags\t\t: fpu avx512_bf16 avx2\n"
    )
    assert cpu_model(info) == "Example CPU (family 26, model 2)"
    assert cpu_flags(info) == {"fpu", "avx512_bf16", "avx2"}
    assert cpu_flags(tmp_path / "none") == set()
