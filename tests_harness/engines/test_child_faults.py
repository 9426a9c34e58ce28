"""Engines whose processes hang, die or talk nonsense: every wait ends, says why, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams, Timeouts
from enginegate.engines.process import client, messages
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.process.heartbeat import beating
from enginegate.machine import processes

from tests_harness.fakes import faulty

PROMPTS = [[5, 6, 7], [8, 9]]
TOKENS = SamplingParams(4)
#: The default limits, for phases that are not to be what ends the wait.
LONG = Timeouts()

Start = Callable[..., ChildEngine]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An engine's folder; children find the backend, this process does not."""
    site = tmp_path / "site"
    site.mkdir()
    faulty.install(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    return tmp_path


@pytest.fixture
def start(folder) -> Iterator[Start]:
    engines: list[ChildEngine] = []

    def begin(fault: str, timeouts: Timeouts = LONG) -> ChildEngine:
        engines.append(ChildEngine("faulty", folder, EngineSpec(fault, "faulty", "fp32"), RuntimeSpec(), timeouts))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


def left(folder: Path, *pids: int) -> list[int]:
    """Which of the processes, and of those that an engine in ``folder`` started, run still."""
    file = folder / "pids"
    named = [int(pid) for pid in file.read_text().split()] if file.exists() else []
    assert named or pids
    found = []
    for pid in (*pids, *named):
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def await_nothing_left(folder: Path, *pids: int) -> None:
    deadline = time.monotonic() + 30
    while left(folder, *pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(folder, *pids) == []


@pytest.mark.parametrize(
    ("phase", "seconds", "method", "arguments"),
    [("load", 3, "effective", ()), ("round", 1, "generate", (PROMPTS, TOKENS)), ("score", 1, "score", (PROMPTS,))],
)
def test_a_child_that_sleeps_is_ended_and_named_with_the_key_to_raise(start, folder, phase, seconds, method, arguments):
    """No receive had a limit: the session waited for ever."""
    engine = start(f"hangs-in-{phase},forks,daemon", Timeouts(**{phase: seconds}))
    with pytest.raises(EngineError) as raised:
        getattr(engine, method)(*arguments)
    silent = f"no sign of life for {seconds} s ({phase})"
    for part in (engine.spec.id, silent, f"raise timeouts.{phase}", "loading hangs"):
        assert part in str(raised.value)
    assert left(folder, engine.pid) == []
    for again in (engine.memory, lambda: next(engine.stream([1], TOKENS)), engine.ready):
        with pytest.raises(EngineError, match=r"the engine is closed: .*no sign of life"):
            again()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("panics-in-round", "PanicException: called `Option::unwrap"),
        ("no-memory-in-round", "out of memory: MemoryError"),
    ],
)
def test_what_a_library_raises_in_the_child_is_an_error_that_says_so_and_the_child_lives(start, folder, fault, why):
    engine = start(fault, LONG)
    for _ in range(2):
        with pytest.raises(EngineError, match=re.escape(why)):
            engine.generate(PROMPTS, TOKENS)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("dies-in-round,forks,daemon", "ended with code -9"),
        ("half-a-reply,dies,forks,daemon", "ended with code -9"),
        ("half-a-reply,hangs,forks,daemon", "no sign of life"),
        ("no-reply", "cannot be read"),
        ("strange-reply", "cannot be read: .*enginegate_nowhere"),
        ("other-protocol", f"speaks protocol {messages.PROTOCOL + 1}, this one {messages.PROTOCOL}"),
    ],
)
def test_a_reply_that_does_not_come_whole_or_cannot_be_read_ends_the_child(start, folder, fault, why):
    """The connection stays open in a forked process, and a child that lives never ended: both waited for ever."""
    engine = start(fault, Timeouts(round=1) if "hangs" in fault else LONG)
    with pytest.raises(EngineError, match=why):
        engine.generate(PROMPTS, TOKENS)
    assert left(folder, engine.pid) == []
    with pytest.raises(EngineError, match=f"the engine is closed: .*{why}"):
        engine.generate(PROMPTS, TOKENS)


def test_an_answer_that_cannot_be_sent_is_an_error_of_the_engine(start):
    engine = start("unsayable")
    with pytest.raises(EngineError, match="a object cannot be sent"):
        engine.generate(PROMPTS, TOKENS)
    assert engine.effective().threads == 1


def test_what_a_library_prints_is_not_taken_for_an_answer(start):
    engine = start("prints")
    assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4
    assert "its C++ code" in Path(engine.worker.log.name).read_text()


def test_progress_renews_the_limit(start):
    steps = 9
    limit = (steps - 2) * faulty.STEP
    engine = start("slow", Timeouts(round=limit, score=limit))
    assert engine.score([[1, 2]] * steps) == [(-1.0,)] * steps
    answers, seconds = engine.timed(PROMPTS, SamplingParams(steps))
    assert len(answers) == len(PROMPTS)
    assert seconds > limit


def test_progress_says_how_far_the_work_is(start):
    """What the process says of it comes to whoever listens here; without anybody it is a sign of life alone."""
    engine = start("slow", Timeouts(score=8 * faulty.STEP))  # told an eighth of the limit apart
    shares: list[float | None] = []
    with beating(shares.append, 0.0):
        engine.score([[1, 2]] * 4)
    assert shares
    assert set(shares) <= {0.25, 0.5, 0.75, 1.0}
    assert shares == sorted(shares)


def test_streams_that_are_dropped_leave_the_replies_in_step(start):
    """Dropped before its first token, a stream left all its replies to be taken for those of the next request."""
    engine = start("none")
    engine.stream([1], TOKENS)
    assert engine.effective().threads == 1
    unread = engine.stream([1], TOKENS)
    unread.close()
    assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4
    half = engine.stream([1], TOKENS)
    assert next(half).token_id == 1
    half.close()
    assert engine.worker.pending is None, "nothing may be measured while the child is at work"
    assert [event.token_id for event in engine.stream([3], TOKENS)] == [3] * 4


def test_another_request_gives_a_half_read_stream_up(start):
    """Its tokens were taken for the answer of the other request."""
    engine = start("none")
    half = engine.stream([1], TOKENS)
    next(half)
    assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4
    with pytest.raises(EngineError, match="given up for another request"):
        next(half)
    assert engine.score([[1, 2]]) == [(-1.0,)]


def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next(start, monkeypatch):
    """As after Ctrl-C: the wait ends, the reply comes all the same."""
    engine = start("none")
    engine.ready()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(engine.worker.channel), "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.generate([[7]], TOKENS)
    engine.worker.pending = None
    assert engine.score([[1, 2]]) == [(-1.0,)]


def test_a_request_that_cannot_be_sent_leaves_the_child_as_it_was(start):
    """The next request waited the whole limit for an answer to it, and then ended a healthy child."""
    engine = start("none", Timeouts(round=3))
    engine.ready()
    with pytest.raises(TypeError, match="function cannot be sent"):
        engine.generate([[lambda: 7]], TOKENS)
    assert engine.generate([[7]], TOKENS)[0].token_ids == (7,) * 4


def test_what_an_engine_raises_while_loading_is_told_whatever_it_is(start, folder):
    engine = start("fails-in-load,forks,daemon")
    for _ in range(2):
        with pytest.raises(EngineError, match="no such weights"):
            engine.effective()
    assert left(folder, engine.pid) == []


def test_closing_ends_whatever_the_engine_started(start, folder):
    """Only the child itself was ended."""
    engine = start("forks,daemon,session")
    engine.ready()
    assert len(left(folder, engine.pid)) == 4
    engine.close()
    assert left(folder, engine.pid) == []
    assert engine.worker.process.status == 0


def test_closing_waits_neither_for_an_engine_that_loads_nor_for_one_that_does_not_close(start, folder):
    loading, stuck = start("hangs-in-load"), start("hangs-in-close", Timeouts(round=0.5))
    stuck.ready()
    begun = time.monotonic()
    loading.close()
    stuck.close()
    assert time.monotonic() - begun < client._CLOSE_SECONDS / 2
    assert left(folder, loading.pid, stuck.pid) == []


SESSION = """
import signal, sys, time
from pathlib import Path
from enginegate.machine import processes
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.process.child_engine import ChildEngine
processes.GRACE_SECONDS = 0.3
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs this in the background has it ignored
engine = ChildEngine("faulty", Path(sys.argv[1]), EngineSpec(sys.argv[2], "faulty", "fp32"), RuntimeSpec())
try:
    engine.ready()
    print(engine.pid, flush=True)
    time.sleep(600)
finally:
    engine.close()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_session_that_is_ended_leaves_no_process(folder, sent):
    """The group of a child is not its session's, so whoever kills the session's does not reach it."""
    fault = "forks,daemon,session" if sent == signal.SIGINT else "forks"
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(folder), fault], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert session.stdout is not None
    child = int(session.stdout.readline())
    os.kill(session.pid, sent)
    session.wait(30)
    session.stdout.close()
    await_nothing_left(folder, child)
