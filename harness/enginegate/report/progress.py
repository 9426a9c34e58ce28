"""Progress as people see it: a live line on a terminal, plain lines elsewhere.

Nothing here runs beside a measurement. Whoever measures tells where the work is between two rounds or items, and only
then something is drawn. A thread counts the seconds of builds, downloads and loading alone, in which nothing is timed,
and has ended when they have.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Protocol, TextIO

from enginegate.core.progress import Step, duration
from enginegate.core.terminal import is_watched, wants_colour

#: What a line of ours begins with.
MARK = "  .. "
#: Seconds between two plain lines, at least; and between two drawings while seconds are counted.
SECOND = 1.0
#: Between two plain lines of one task.
CALM = 15.0
#: Seconds between two drawings of one task, at least: of short rounds not each is worth one.
_REDRAWN = 0.25
#: Columns of the bar: at most, and below which it is left out.
_LONGEST, _SHORTEST = 30, 8
#: A terminal's own: erase all from the cursor on; make sure that there is a line below; remember the place; go to the
#: beginning of that line; come back.
_ERASE, _ROOM, _SAVE, _BELOW, _BACK = "\x1b[J", "\x1bD\x1bM", "\x1b7", "\x1bD\r", "\x1b8"
#: A shell that waits for a line. Where its input ends without one, whoever drew was killed, and it erases.
_WIPER = "read -r line || printf '\\033[J'"


class Display(Protocol):
    """A ``Progress`` that shows what it is told. It can count seconds, and it ends."""

    def __call__(self, text: str) -> None:
        """Show a step, or news."""
        ...

    def counting(self, step: Step, expected: float | None) -> AbstractContextManager[None]:
        """Meanwhile nothing is timed, and the seconds of a step may be shown; ``expected`` of them, where known."""
        ...

    def settle(self) -> None:
        """The work is done or broken off: the terminal is left to others, until the next step."""
        ...


class PlainLines:
    """Plain lines without control characters, at most one a second, and of one task at most one in ``CALM`` seconds.

    What is told within a second of the last line is held; of one task the newest step is. When the second is over, the
    next that is told brings all that is held along, in one line. So the last step of every task is shown.

    Args:
        write: takes a line, without its end.
        clock: seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.RLock()
        self._held: dict[str, str] = {}
        self._next = -math.inf
        self._shown: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        """Show a step, or news."""
        with self._lock:
            task = text.what if isinstance(text, Step) else text
            self._held.pop(task, None)  # the newest stands last
            self._held[task] = text
            self.tick()

    def tick(self) -> None:
        """Write what is held, if its time has come."""
        with self._lock:
            if self._clock() >= self._next and any(self._is_due(text) for text in self._held.values()):
                self._say()

    def _is_due(self, text: str) -> bool:
        """Whether it is news, or a step of a task that no line told of for some time."""
        return not isinstance(text, Step) or self._clock() >= self._shown.get(text.what, -math.inf) + CALM

    def counting(self, step: Step, expected: float | None) -> AbstractContextManager[None]:  # noqa: ARG002
        """Meanwhile, what is held is written when its time has come, though nothing more is told."""
        return _ticking(self.tick)

    def forget_steps(self) -> None:
        """All is over: where the work was is no news."""
        with self._lock:
            self._held = {task: text for task, text in self._held.items() if not isinstance(text, Step)}

    def settle(self) -> None:
        """Write what is held; where its time has not come, the news alone, and no steps of work that is over."""
        with self._lock:
            if self._clock() < self._next:
                self._held = {task: text for task, text in self._held.items() if not isinstance(text, Step)}
            if self._held:
                self._say()

    def _say(self) -> None:
        self._shown.update({text.what: self._clock() for text in self._held.values() if isinstance(text, Step)})
        held, self._held = [_printable(text) for text in self._held.values()], {}
        self._next = self._clock() + SECOND
        self._write((f"\n{MARK}" if any("\n" in text for text in held) else "; ").join(held))


class LiveLine:
    """One line below the cursor, drawn anew for every step, and gone before anything else is written.

    The cursor stays where others have left it. So to write beside the line, ``clear`` is all that must come first, and
    where this process is killed, a small one that waited for that erases the line in its place.

    Args:
        terminal: what is drawn on; nobody else writes to it.
        news: writes a line that stays.
        colour: whether the bar is coloured.
        column: where the cursor is in its line. At the very edge, where a terminal holds it back, nothing is drawn.
        alone: whether nobody writes to the terminal without ``clear``; else ``loud`` steps are news, and not drawn.
        clock: seconds.
    """

    def __init__(
        self,
        terminal: TextIO,
        news: Callable[[str], None],
        *,
        colour: bool,
        column: Callable[[], int] = lambda: 0,
        alone: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._news = news
        self._colour = colour
        self._column = column
        self._alone = alone
        self._clock = clock
        self._lock = threading.RLock()
        self._step: Step | None = None
        self._shown = False
        self._next = -math.inf
        #: Whose seconds are counted, the innermost last: the step, since when, and how many are expected.
        self._counted: list[tuple[Step, float, float | None]] = []
        self._wiper: subprocess.Popen[bytes] | None = None

    def __call__(self, text: str) -> None:
        """Draw a step, or write news above the line."""
        with self._lock:
            if isinstance(text, Step) and self._draws(text):
                same = self._step is not None and self._step.what == text.what
                self._step = text
                if not same or self._clock() >= self._next:
                    self.tick()
                return
            if isinstance(text, Step):
                self._step = None
            self.clear()
            self._news(_printable(text))
            self.tick()

    def tick(self) -> None:
        """Draw the step as it is now."""
        with self._lock:
            if self._step is None:
                return
            width, column = self._width(), self._column()
            if column and column % width == 0:
                return
            self._next = self._clock() + _REDRAWN
            self._put(f"{_ERASE}{_ROOM}{_SAVE}{_BELOW}{self._line(self._step, width - 1)}{_BACK}")
            self._shown = True

    @contextmanager
    def counting(self, step: Step, expected: float | None) -> Iterator[None]:
        """Meanwhile, the line shows the seconds, drawn once a second by a thread; then it goes."""
        with self._lock:
            self._counted.append((step, self._clock(), expected))
            self.tick()
        try:
            with _ticking(self.tick):
                yield
        finally:
            with self._lock:
                self._counted.pop()
                self.settle()
                if self._counted and self._draws(self._counted[-1][0]):
                    self._step = self._counted[-1][0]
                    self.tick()

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._put(_ERASE)

    def settle(self) -> None:
        """Take the line away, and forget what it showed."""
        with self._lock:
            self._step = None
            self.clear()

    def close(self) -> None:
        """Take the line away, for good."""
        self.settle()
        if self._wiper is not None:
            with suppress(OSError):
                self._wiper.communicate(b"\n")
            self._wiper = None

    def _draws(self, step: Step) -> bool:
        return self._alone or not step.loud

    def _put(self, text: str) -> None:
        """Write to the terminal. That it has gone ends no measurement."""
        with suppress(OSError, ValueError):
            if self._wiper is None:
                self._wiper = subprocess.Popen(
                    ["/bin/sh", "-c", _WIPER],
                    stdin=subprocess.PIPE,
                    stdout=self._terminal.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is not for it
                )
            self._terminal.write(text)
            self._terminal.flush()

    def _width(self) -> int:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._terminal.fileno()).columns or 80
        return 80

    def _line(self, step: Step, width: int) -> str:
        """The step's own line, its task shortened where that is needed, and a bar where the share is known."""
        from rich.cells import cell_len, set_cell_size
        from rich.console import Console
        from rich.progress_bar import ProgressBar

        share, rest = step.share, step.removeprefix(step.what)
        if self._counted and share is None:
            _, begun, expected = self._counted[-1]
            seconds = self._clock() - begun
            rest = f": {duration(seconds)}"
            if expected:
                share = min(1.0, seconds / expected)
                rest += f" of about {duration(expected)}"
        what, rest = _printable(step.what, "?"), _printable(rest, "?")
        over = cell_len(MARK + what + rest) - width
        if over > 0:
            kept = max(0, cell_len(what) - over - 1)  # of both ends, as an engine is named by both
            what = f"{set_cell_size(what, kept // 2)}…{what[len(what) - (kept + 1) // 2 :]}"
        said = set_cell_size(text := MARK + what + rest, min(width, cell_len(text)))
        room = width - cell_len(said) - 1
        if share is None or room < _SHORTEST:
            return said
        console = Console(
            file=self._terminal,
            width=width,
            force_terminal=True,
            color_system="standard" if self._colour else None,
            legacy_windows=False,
        )
        length = min(room, _LONGEST)
        with console.capture() as bar:
            console.print(ProgressBar(total=1.0, completed=share, width=length), end="")
        drawn = bar.get()
        if not self._colour:  # where rich leaves out what is to come
            drawn = drawn.ljust(length, " " if console.options.ascii_only else "─")
        return f"{said} {drawn}"


class ClearsFirst:
    """A stream before whose output the live line goes away."""

    def __init__(self, stream: Any, clear: Callable[[], None]) -> None:
        self._stream = stream
        self._clear = clear

    def write(self, text: str) -> int:
        """Clear, then write."""
        self._clear()
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def shown_on_stderr() -> Iterator[Display]:
    """The progress of a command: a live line where somebody watches stderr on a terminal, else plain lines on it."""

    def write(line: str) -> None:
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"{MARK}{line}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        if not is_watched(sys.stderr):
            lines = PlainLines(write)
            stack.callback(lines.settle)
            yield lines
            return
        terminal = stack.enter_context(same_terminal(sys.stderr))
        live = LiveLine(terminal, write, colour=wants_colour(sys.stderr), alone=False)
        stack.callback(live.close)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            stack.callback(setattr, sys, name, stream)
            if stream is not None:
                setattr(sys, name, ClearsFirst(stream, live.clear))
        yield live


def same_terminal(stream: TextIO) -> TextIO:
    """A stream of our own to the same terminal, which stays when the other one is turned elsewhere."""
    return os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace")


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Meanwhile, a thread calls ``tick`` once a second."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(SECOND):
            tick()

    thread = threading.Thread(target=run, name="enginegate-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _printable(text: str, line_end: str = "\n") -> str:
    """No character of a name may steer the terminal, or begin a line that looks like another one."""
    return "".join(char if char.isprintable() else line_end if char == "\n" else "?" for char in text)
