"""What those who work tell of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from enginegate.core.progress import Step, duration, lasting
from enginegate.core.terminal import in_ci, is_watched, wants_colour


class Tty:
    def isatty(self) -> bool:
        return True


def test_a_step_is_a_line_for_whoever_takes_lines():
    lines: list[str] = []
    lines.append(Step("timing b1", "block 3 of at most 40", share=0.1, left=312.0, at_most=True))
    lines.append(Step("cloze of x", left=4.4))
    lines.append(Step("loading x"))
    assert lines == ["timing b1: block 3 of at most 40, at most 5 min left", "cloze of x: 4 s left", "loading x"]


def test_a_step_has_its_parts():
    step = Step("timing b1", "block 3 of at most 40", share=0.25, loud=True)
    assert (step.what, step.share, step.loud) == ("timing b1", 0.25, True)
    assert not Step("x").loud
    assert Step("x").share is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (9.6, "10 s"), (99.0, "99 s"), (99.6, "2 min"), (3600.0, "60 min"), (9000.0, "2.5 h")],
)
def test_durations_have_few_digits(seconds: float, said: str):
    assert duration(seconds) == said


def test_what_lasts_is_told_once_and_counted_where_that_can_be_done():
    events: list[str] = []

    class Counting:
        def __call__(self, text: str) -> None:
            events.append(text)

        @contextlib.contextmanager
        def counting(self, step, expected):
            events.append(f"{step.what} {expected}")
            yield
            events.append("over")

    with lasting(events.append, "building x", 41.0):
        events.append("working")
    with pytest.raises(ZeroDivisionError), lasting(Counting(), "loading x"):
        _ = 1 / 0
    assert events == ["building x: took 41 s last time", "working", "loading x", "loading x None"]
    with lasting(Counting(), "loading x"):
        pass
    assert events[-1] == "over"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


@pytest.mark.parametrize(
    ("settings", "watched", "coloured"),
    [
        ({}, True, True),
        ({"CI": "true"}, False, True),
        ({"CI": "false"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"PY_COLORS": "0", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_a_terminal_is_watched_and_coloured_as_the_environment_says(environment, settings, watched, coloured):
    for name, value in settings.items():
        environment.setenv(name, value)
    assert is_watched(Tty()) == watched
    assert wants_colour(Tty()) == coloured


def test_colours_are_those_of_pytest(environment):
    from _pytest._io.terminalwriter import should_do_markup

    with Path(os.devnull).open() as nowhere:
        for no, force, py in [(a, b, c) for a in ("", "1") for b in ("", "1") for c in ("", "0", "1")]:
            environment.setenv("NO_COLOR", no)
            environment.setenv("FORCE_COLOR", force)
            environment.setenv("PY_COLORS", py)
            for stream in (Tty(), nowhere):
                assert wants_colour(stream) == should_do_markup(stream), (no, force, py)


def test_what_is_no_terminal_is_not_watched(environment):
    with Path(os.devnull).open() as nowhere:
        assert not is_watched(nowhere)
    assert not is_watched(None)
    assert not is_watched(nowhere), "it is closed now"
    environment.setenv("FORCE_COLOR", "1")
    assert not is_watched(None), "colours are no cursor"
    assert wants_colour(None)
    assert not in_ci()
