"""Progress as people see it: plain lines with a clock that the test moves, the live line on a pseudo-terminal."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from enginegate.core.progress import Step, lasting
from enginegate.report.progress import ClearsFirst, LiveLine, PlainLines, shown_on_stderr
from hypothesis import given
from hypothesis import strategies as st
from screen import Screen, run_on_terminal, terminal, written


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Plain lines, each with its time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines: list[tuple[float, str]] = []
        self.show = PlainLines(lambda line: self.lines.append((self.clock.now, line)), self.clock)

    def tell(self, seconds: float, text: str) -> None:
        self.clock.now = 100.0 + seconds
        self.show(text)

    @property
    def said(self) -> list[str]:
        return [line for _, line in self.lines]


def test_the_first_line_comes_at_once_and_no_other_within_a_second():
    log = Log()
    for tenth in range(25):
        log.tell(tenth / 10, Step(f"timing b{tenth}"))
    assert [when for when, _ in log.lines] == [100.0, 101.0, 102.0]


def test_of_one_task_a_line_comes_now_and_then():
    """Once a second, a task of ten minutes was a wall of 600 lines."""
    log = Log()
    for second in range(40):
        log.tell(second, Step("cloze", f"{second} %"))
    assert log.lines == [(100.0, "cloze: 0 %"), (115.0, "cloze: 15 %"), (130.0, "cloze: 30 %")]


def test_of_one_task_the_newest_wins_and_of_each_the_last_is_shown():
    log = Log()
    log.tell(0.0, Step("building a"))
    log.tell(0.2, Step("timing b1", "block 1"))
    log.tell(0.3, Step("timing b1", "block 2"))
    log.tell(0.4, Step("loading c"))
    log.tell(5.0, Step("memory of c"))
    assert log.said == ["building a", "timing b1: block 2; loading c; memory of c"]


def test_at_the_end_news_is_shown_and_a_step_that_is_over_is_not():
    log = Log()
    log.tell(0.0, Step("building a"))
    log.tell(0.1, "warning: not pinned")
    log.tell(0.2, Step("loading a"))
    log.show.settle()
    assert log.said == ["building a", "warning: not pinned"]
    log.show.settle()
    log.tell(2.0, Step("loading b"))
    assert log.said[2:] == ["loading b"]


def test_news_of_several_lines_keeps_them():
    log = Log()
    log.tell(0.0, "first")
    log.tell(0.1, "an audit\n  of two lines")
    log.tell(0.2, "another")
    log.show.settle()
    assert log.said == ["first", "an audit\n  of two lines\n  .. another"]


EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.one_of(
            st.builds(Step, st.sampled_from(["building a", "timing b1"]), st.integers(0, 99).map(str)),
            st.integers(0, 5).map(lambda number: f"warning {number}"),
        ),
    )
)


@given(EVENTS)
def test_never_more_than_one_a_second_and_nothing_that_counts_is_lost(events):
    log, now = Log(), 0.0
    for pause, text in events:
        now += pause
        log.tell(now, text)
    times = [time for time, _ in log.lines]
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))
    log.clock.now += 1.0
    log.show.settle()
    parts = [part for line in log.said for part in line.split("; ")]
    assert {text for _, text in events if not isinstance(text, Step)} <= set(parts)
    for what in ("building a", "timing b1"):
        steps = [text for _, text in events if isinstance(text, Step) and text.what == what]
        shown = [part for part in parts if part.startswith(what)]
        assert (shown[-1:] == [str(steps[-1])]) if steps else not shown


@given(st.text(max_size=20))
def test_no_name_steers_a_terminal(name):
    log = Log()
    log.tell(0.0, Step(name, name))
    log.tell(1.0, f"news of {name}")
    assert all(char.isprintable() or char == "\n" for line in log.said for char in line)


def test_what_is_held_comes_while_something_lasts():
    """A build that begins within a second of the last line would otherwise be silent to its end."""
    log = Log()
    log.tell(0.0, Step("loading a"))
    log.tell(0.5, Step("building b"))
    log.clock.now += 0.4
    log.show.tick()
    assert log.said == ["loading a"]
    log.clock.now += 0.2
    log.show.tick()
    log.show.tick()
    assert log.said == ["loading a", "building b"]


class Live:
    """A live line on a terminal, and what the screen shows."""

    def __init__(self, outer: int, stream, **settings) -> None:
        self.clock, self.screen, self.outer, self.stream = Clock(), Screen(), outer, stream
        self.column = 0
        self.line = LiveLine(
            stream,
            lambda line: print(f"  .. {line}", file=self.others),
            clock=self.clock,
            column=lambda: self.column,
            **{"colour": True, **settings},
        )
        self.others = ClearsFirst(stream, self.line.clear)

    def look(self) -> list[str]:
        self.stream.flush()
        self.screen.feed(written(self.outer))
        return self.screen.lines()


@pytest.fixture
def live() -> Iterator[Live]:
    with terminal() as (outer, stream):
        made = Live(outer, stream)
        yield made
        made.line.close()


def test_the_line_stands_below_what_others_wrote_and_leaves_no_trace(live):
    live.others.write("test_a.py .")
    live.others.flush()
    live.line(Step("timing b1", "block 3 of at most 40", share=0.5, left=312.0, at_most=True))
    first, second = live.look()
    assert first == "test_a.py ."
    assert second.startswith("  .. timing b1: block 3 of at most 40, at most 5 min left ━")
    assert len(second) <= 79
    live.others.write(".F\n")
    assert live.look() == ["test_a.py ..F"]


def test_it_stands_below_on_the_last_row_of_a_screen_too(live):
    live.others.write("\n" * 30 + "test_a.py .")
    live.others.flush()
    live.line(Step("loading x"))
    assert live.look()[-2:] == ["test_a.py .", "  .. loading x"]
    live.others.write("F")
    assert live.look()[-1] == "test_a.py .F"
    assert len(live.look()) == 31


def test_each_step_takes_the_place_of_the_one_before(live):
    for number in (1, 2, 3):
        live.clock.now += 1
        live.line(Step("timing b1", f"block {number} of at most 4", share=number / 4))
        assert [line for line in live.look() if line] == [live.look()[-1]]
        assert f"block {number} of" in live.look()[-1]
    bars = [row[-1].count("━") for row in live.screen.seen]
    assert len(bars) == 3


def test_without_colours_the_bar_is_there_and_no_style():
    with terminal() as (outer, stream):
        plain = Live(outer, stream, colour=False)
        plain.line(Step("timing b1", "block 1 of at most 2", share=0.5))
        stream.flush()
        text = written(outer)
        assert "[3" not in text.replace("\x1b[J", "")
        assert Screen().feed(text).lines()[-1].endswith(" " + "━" * 15 + "─" * 15)
        plain.line.close()


def test_short_rounds_are_not_each_drawn(live):
    for number in range(100):
        live.clock.now += 0.01
        live.line(Step("timing b1", f"block {number} of at most 100", share=number / 100))
    live.look()
    assert 3 <= len(live.screen.seen) <= 5


def test_news_stays_above_the_line(live):
    live.line(Step("building x"))
    live.line("warning: the stored engine x is damaged")
    shown = [line for line in live.look() if line]
    assert shown == ["  .. warning: the stored engine x is damaged", "  .. building x"]
    live.line.settle()
    assert live.look() == ["  .. warning: the stored engine x is damaged"]


def test_long_names_are_shortened_and_what_counts_is_not(live):
    name = "race of a-model-of-a-long-name-for-which-there-is-not-enough-room-openvino-int4_awq"
    live.line(Step(name, "launch 3 of 10, next look in 20 s", share=0.2, left=50, at_most=True))
    assert live.look()[-1] == "  .. race of a…o-int4_awq: launch 3 of 10, next look in 20 s, at most 50 s left"
    assert len(live.look()[-1]) == 79
    live.line(Step("x" * 200, "y" * 200))
    assert len(live.look()[-1]) <= 79
    live.line(Step("模型" * 60))
    assert len(live.look()) == 2


def test_a_name_cannot_steer_the_terminal(live):
    live.line(Step("a\x1b[2Jb\nc\rd", "e\x07f", share=0.5))
    assert live.look()[-1].startswith("  .. a?[2Jb?c?d: e?f ━")


def test_nothing_is_drawn_where_the_terminal_holds_the_cursor_back(live):
    """The next character belongs into the next line, and a cursor that comes back would write it into this one."""
    live.others.write("x" * 80)
    live.column = 80
    live.line(Step("loading x"))
    live.others.write("PASSED")
    assert live.look() == ["x" * 80, "PASSED"]


def test_seconds_are_counted_while_something_lasts_and_by_no_thread_afterwards(live):
    with lasting(live.line, "building x", 40.0):
        assert "enginegate-progress" in {thread.name for thread in threading.enumerate()}
        live.clock.now += 10
        live.line.tick()
        assert live.look()[-1].startswith("  .. building x: 10 s of about 40 s ━━━━━━━")
        with lasting(live.line, "loading y"):
            live.clock.now += 5
            live.line.tick()
            assert live.look()[-1] == "  .. loading y: 5 s"
        assert live.look()[-1].startswith("  .. building x: 15 s of about 40 s")
    assert live.look() == []
    assert "enginegate-progress" not in {thread.name for thread in threading.enumerate()}


def test_an_error_takes_the_line_away(live):
    def build():
        with lasting(live.line, "building x"):
            assert live.look()[-1] == "  .. building x: 0 s"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build()
    assert live.look() == []


def test_what_may_write_to_the_terminal_itself_gets_it():
    with terminal() as (outer, stream):
        shared = Live(outer, stream, alone=False)
        with lasting(shared.line, "downloading x", loud=True):
            shared.clock.now += 3
            shared.line.tick()
            stream.write("pip's own bar\n")
        assert shared.look() == ["  .. downloading x", "pip's own bar"]
        shared.line.close()


def test_a_terminal_that_is_gone_ends_no_measurement():
    with terminal() as (outer, stream):
        left = Live(outer, stream)
        left.line(Step("loading x"))
        stream.close()
        left.line(Step("timing b1"))
        left.line.close()


KILLED = """
import os, signal, sys
from enginegate.core.progress import Step
from enginegate.report.progress import LiveLine
print("test_a.py .", end="", flush=True)
line = LiveLine(sys.stdout, print, colour=False)
line(Step("timing b1", "block 1 of at most 2", share=0.5))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_does_not_survive_a_process_that_is_killed(tmp_path):
    code, text = run_on_terminal([sys.executable, "-c", KILLED], tmp_path, {**os.environ, "TERM": "xterm"})
    assert code == -signal.SIGKILL
    screen = Screen().feed(text)
    assert "timing b1" in screen.seen[-1][-1]
    assert screen.lines() == ["test_a.py ."]


COMMAND = """
import sys
from enginegate.core.progress import Step, lasting
from enginegate.report.progress import shown_on_stderr
try:
    with shown_on_stderr() as progress:
        with lasting(progress, "building x", 40.0):
            print("a library says so", file=sys.stderr)
            progress(Step("exporting x"))
        print("x  12 MB")
        progress("warning: not pinned")
        progress(Step("timing b1", "block 1 of at most 2", share=0.5))
        if len(sys.argv) > 1:
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [[], ["interrupt"]])
def test_a_command_shows_the_same_line(tmp_path, arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    command = [sys.executable, "-c", COMMAND, *arguments]
    code, text = run_on_terminal(command, tmp_path, {**environment, "TERM": "xterm"})
    assert code == 0
    screen = Screen().feed(text)
    assert any("exporting x: 0 s of about 40 s" in seen[-1] for seen in screen.seen)
    left = ["a library says so", "x  12 MB", "  .. warning: not pinned"]
    assert screen.lines() == [*left, *(["interrupted"] if arguments else [])]


@pytest.mark.parametrize("watched", [True, False])
def test_a_command_in_ci_or_without_a_terminal_writes_no_control_codes(tmp_path, watched):
    command = [sys.executable, "-c", COMMAND]
    if watched:
        _, text = run_on_terminal(command, tmp_path, {**os.environ, "TERM": "xterm", "CI": "true"})
        text = text.replace("\r\n", "\n")  # the terminal's own
    else:
        done = subprocess.run(command, capture_output=True, text=True)
        text = done.stderr
    assert "\x1b" not in text
    assert "\r" not in text
    ours = [line for line in text.splitlines() if line.startswith("  .. ")]
    assert ours[0] == "  .. building x: took 40 s last time"
    assert len(ours) == 2, "one at once, and at the end the news: all in less than a second"
    assert ours[1] == "  .. warning: not pinned"


def test_without_stderr_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with shown_on_stderr() as progress:
        progress("news")
