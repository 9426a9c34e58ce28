"""Engines in child processes: the same answers and the same ratios as in this one, and no trace left behind."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import statistics
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import enginegate.engines.registry
import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams, Workload
from enginegate.engines.base import Arrival
from enginegate.engines.process.child_engine import ChildEngine, load_engine
from enginegate.engines.process.messages import Request
from enginegate.engines.process.worker import serve
from enginegate.engines.registry import load_backend
from enginegate.engines.serving import checked_events
from enginegate.machine.cores import allowed_cores
from enginegate.machine.load import foreign_load, read_cpu_clock
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import log_ratios
from enginegate.models.sources import resolve

SPEC = EngineSpec("tiny", "hf", "fp32", max_batch_size=4, max_input_len=64, max_output_len=32)
PROMPTS = [[5, 6, 7, 8], [9, 10, 11, 12]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("torch")
    cache = tmp_path_factory.mktemp("cache")
    return resolve("random:tiny?seed=0", cache=cache, progress=lambda _: None).path


@pytest.fixture(scope="module")
def child(folder):
    engine = ChildEngine("hf", folder, SPEC, RuntimeSpec(threads=1))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def inside(folder):
    engine = load_backend("hf").load(folder, SPEC, RuntimeSpec(threads=1))
    yield engine
    engine.close()


def test_child_answers_as_the_engine_here_does(child, inside):
    params = SamplingParams(12)
    here, there = inside.generate(PROMPTS, params), child.generate(PROMPTS, params)
    assert [answer.token_ids for answer in here] == [answer.token_ids for answer in there]
    assert all(len(set(answer.token_times)) > 6 for answer in there)
    for outside, within in zip(child.score(PROMPTS, prefill=2), inside.score(PROMPTS, prefill=2), strict=True):
        assert outside == pytest.approx(within)
    assert child.effective() == inside.effective()
    assert child.memory() == inside.memory()


def test_seconds_are_the_childs_own(child, monkeypatch):
    send = child.worker.send

    def slowly(*message):
        time.sleep(0.3)
        send(*message)

    monkeypatch.setattr(child.worker, "send", slowly)
    start = time.perf_counter()
    answers, seconds = child.timed(PROMPTS, SamplingParams(12))
    outside = time.perf_counter() - start
    assert max(answer.token_times[-1] for answer in answers) <= seconds < outside - 0.3


def test_the_collector_rests_while_a_child_is_timed(monkeypatch):
    seen = []

    class Backend:
        def load(self, *_):
            return self

        def generate(self, *_):
            seen.append(gc.isenabled())
            return []

        def close(self):
            seen.append("closed")

    class Channel:
        requests: ClassVar = [
            Request(1, "load", ("fake", "folder", SPEC, RuntimeSpec()), 1),
            Request(2, "generate", ([[1]], SamplingParams(1)), 1),
        ]

        def receive(self, kind):
            if not self.requests:
                raise EOFError
            return self.requests.pop(0)

        def send(self, reply):
            assert reply.kind == "value"

    monkeypatch.setattr(enginegate.engines.registry, "load_backend", lambda _: Backend())
    serve(Channel())
    assert seen == [False, "closed"]


def test_stream_dropped_half_way_leaves_the_child_usable(child):
    whole = [event.token_id for event in child.stream(PROMPTS[0], SamplingParams(8))]
    half = child.stream(PROMPTS[0], SamplingParams(8))
    assert next(half).token_id == whole[0]
    half.close()
    assert list(child.generate(PROMPTS[:1], SamplingParams(8))[0].token_ids) == whole


def test_errors_come_back_as_what_they_were(child):
    with pytest.raises(EngineError, match="prompt 0 is empty"):
        child.generate([[]], SamplingParams(4))
    assert child.generate(PROMPTS, SamplingParams(2))


def test_engine_that_cannot_be_loaded_says_why(tmp_path):
    engine = load_engine(load_backend("hf"), tmp_path, SPEC, RuntimeSpec(), child=True)
    for _ in range(2):  # and says it again: nobody waits for an answer that was read already
        with pytest.raises(EngineError, match="cannot be loaded"):
            engine.effective()
    engine.close()


def test_child_that_dies_is_an_error_with_its_exit_code(folder):
    engine = ChildEngine("hf", folder, SPEC, RuntimeSpec())
    engine.ready()
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="ended with code -9"):
        engine.generate(PROMPTS, SamplingParams(2))
    engine.close()


def test_closed_child_is_gone_and_refuses(folder):
    engine = ChildEngine("hf", folder, SPEC, RuntimeSpec())
    engine.ready()
    engine.close()
    engine.close()
    assert engine.worker.process.status == 0
    with pytest.raises(EngineError, match="closed"):
        engine.generate(PROMPTS, SamplingParams(2))


@pytest.mark.heavy
def test_turns_in_children_give_the_ratio_that_one_process_gives(tmp_path):
    """Four engines race together: fp32 and bf16, each here and in a child; the two ratios must agree.

    Rounds take a tenth of a second and more: in those of 8 ms, two copies of one engine differ by 20 %.
    """
    folder = resolve("random:smollm2-135m?seed=0&layers=4", cache=tmp_path, progress=lambda _: None).path
    backend, runtime = load_backend("hf"), RuntimeSpec(threads=1)
    contestants = {
        f"{name}-{precision}": load_engine(
            backend, folder, replace(SPEC, precision=precision), runtime, child=name == "child"
        )
        for name in ("here", "child")
        for precision in ("fp32", "bf16")
    }
    pool = PromptPool(tuple(range(3, 500)))
    policy = ArenaPolicy(retries=0, max_blocks=12, time_budget=36)
    arena = Arena(contestants, "here-fp32", Workload(2, 32, 8), pool, policy)
    arena.run(lambda _: False)
    for engine in contestants.values():
        engine.close()
    here = log_ratios(arena.blocks, "here-fp32", "here-bf16")
    there = log_ratios(arena.blocks, "child-fp32", "child-bf16")
    differences = [a - b for a, b in zip(here, there, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    assert abs(statistics.fmean(differences)) < 4 * error + 0.01, f"{here} against {there}"


def test_what_a_child_computes_is_not_foreign(child):
    blind_before, before = read_cpu_clock(), read_cpu_clock(children=[child.pid])
    for _ in range(8):
        child.generate(PROMPTS, SamplingParams(32))
    blind_after, after = read_cpu_clock(), read_cpu_clock(children=[child.pid])
    assert after.own - before.own > blind_after.own - blind_before.own
    uncapped = 100  # cores: with so many the share stays under its cap of 1 however busy the machine is
    assert foreign_load(before, after, uncapped) < foreign_load(blind_before, blind_after, uncapped)


def test_a_child_that_is_gone_used_nothing():
    clock, alone = read_cpu_clock(children=[2**22 + 1]), read_cpu_clock()
    assert clock.own == pytest.approx(alone.own, abs=0.5)


@pytest.mark.skipif(len(allowed_cores()) < 2, reason="needs two cores, and a system that lets one choose")
def test_a_child_moves_to_one_core_when_told(child):
    child.take_quietest_core()
    assert len(os.sched_getaffinity(child.pid)) == 1
    assert len(child.generate(PROMPTS, SamplingParams(4))) == len(PROMPTS)
    assert len(allowed_cores()) > 1


def test_a_child_that_answers_whole_batches_only_says_so(child):
    with pytest.raises(CapabilityError, match="backend hf has no submit"):
        list(child.submit([Arrival((5, 6), SamplingParams(2), 0.0)]))
    assert child.generate(PROMPTS, SamplingParams(2)), "the child lives on"


def test_requests_arrive_inside_the_child_by_its_clock(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "fakes"))
    about = {"precision": "int4_wo", "bytes": 1, "resident": 1}
    (tmp_path / "engine.json").write_text(json.dumps(about))
    spec = EngineSpec("tiny", "fake", "int4_wo", max_batch_size=2)
    arrivals = [Arrival((5, number), SamplingParams(4), 0.01 * number) for number in range(5)]
    with closing(ChildEngine("fake", tmp_path, spec, RuntimeSpec())) as child:
        events = list(checked_events("child", child.submit(arrivals), arrivals, None))
    sent = [event.time for event in events if event.kind == "sent"]
    assert len(sent) == sum(event.kind == "finished" for event in events) == 5
    assert all(at >= each.time for at, each in zip(sent, arrivals, strict=True))
