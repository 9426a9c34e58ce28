"""A terminal's screen, as far as pytest and the suite write to one. An escape sequence that it lacks is an error."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_CONTROL = re.compile(r"\x1b(?:\[(?P<number>[\d;?]*)(?P<letter>[A-Za-z])|\][^\x07]*\x07|(?P<single>[DM78]))")


class Screen:
    """Rows of text. ``seen`` has every screen on which the cursor had just come back from below, as after drawing."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0
        self._saved = (0, 0)
        self._held_back = False
        self.above: list[str] = []
        self.seen: list[list[str]] = []

    def lines(self) -> list[str]:
        """Every row, and those that have left the screen, without what is empty at the end."""
        rows = [*self.above, *("".join(row).rstrip() for row in self._cells)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def feed(self, text: str) -> Screen:
        """Take what was written. A sequence must come whole."""
        position = 0
        while position < len(text):
            if text[position] == "\x1b":
                found = _CONTROL.match(text, position)
                assert found, f"an unknown sequence: {text[position : position + 12]!r}"
                self._control(found["number"] or "", found["letter"] or found["single"] or "")
                position = found.end()
            else:
                self._character(text[position])
                position += 1
        return self

    def _character(self, char: str) -> None:
        if char == "\n":
            self._down()
        elif char == "\r":
            self._column, self._held_back = 0, False
        else:
            assert char.isprintable(), f"a control character: {char!r}"
            if self._held_back:
                self._down()
                self._column, self._held_back = 0, False
            self._cells[self._row][self._column] = char
            self._held_back = self._column == self.columns - 1
            self._column = min(self._column + 1, self.columns - 1)

    def _down(self) -> None:
        self._held_back = False
        if self._row < self.rows - 1:
            self._row += 1
            return
        self.above.append("".join(self._cells.pop(0)).rstrip())
        self._cells.append([" "] * self.columns)

    def _control(self, number: str, letter: str) -> None:
        if letter == "D":
            self._down()
        elif letter == "M":
            self._row, self._held_back = max(0, self._row - 1), False
        elif letter == "7":
            self._saved = (self._row, self._column)
        elif letter == "8":
            (self._row, self._column), self._held_back = self._saved, False
            self.seen.append(self.lines())
        elif letter in ("J", "K"):
            assert number in ("", "0"), f"an unknown way of erasing: {number}"
            for row in range(self._row, self.rows if letter == "J" else self._row + 1):
                for column in range(self._column if row == self._row else 0, self.columns):
                    self._cells[row][column] = " "
        else:
            assert letter in ("m", ""), f"an unknown sequence: {number}{letter}"


@contextmanager
def terminal(columns: int = 80, rows: int = 24) -> Iterator[tuple[int, TextIO]]:
    """A pseudo-terminal: what was written to the stream can be read from the descriptor."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        with os.fdopen(inner, "w", encoding="utf-8") as stream:
            yield outer, stream
    finally:
        os.close(outer)


def written(outer: int) -> str:
    """What has been written to a terminal and not been read yet."""
    found = b""
    while select.select([outer], [], [], 0)[0]:
        found += os.read(outer, 65536)
    return found.decode()


def run_on_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], columns: int = 80, rows: int = 24
) -> tuple[int, str]:
    """Run a command on a terminal of its own to its end; gives its exit code and all that was written."""
    with terminal(columns, rows) as (outer, inner):
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        inner.close()  # else reading would never come to an end
        found = b""
        try:
            while part := os.read(outer, 65536):
                found += part
        except OSError:  # how Linux says that nobody writes any more
            pass
        return child.wait(), found.decode()
