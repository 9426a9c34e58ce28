"""Record what a command shows on a terminal of 80 columns, as text and as a picture.

    python scripts/terminal.py docs/terminal/red 'pytest tests_perf --against git:origin/main'

Writes ``docs/terminal/red.txt`` and ``docs/terminal/red.svg``: the command, and what stands on the screen when it has
ended. Needs tmux.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 50
#: Rich's fonts, which a browser would fetch from another host; the reader's own monospaced font does.
FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_SESSION = "enginegate-recording"
_DONE = "recording-ends-here"


def tmux(*arguments: str) -> str:
    """Run tmux; gives what it prints."""
    command = ["tmux", "-L", _SESSION, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(command: str) -> str:
    """The screen with its colours, as ANSI, after a command has ended."""
    shell = f"{command}; printf '%s' {_DONE}; sleep 60"
    tmux("new-session", "-d", "-s", _SESSION, "-x", str(COLUMNS), "-y", str(ROWS), f"bash -c {shlex.quote(shell)}")
    try:
        while _DONE not in tmux("capture-pane", "-p"):
            time.sleep(0.5)
        return tmux("capture-pane", "-p", "-e").replace(_DONE, "")
    finally:
        tmux("kill-server")


def main(target: Path, command: str) -> None:
    """Record, and write both files."""
    screen = record(command).rstrip()
    text = Text.from_ansi(f"$ {command}\n{screen}")
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(text)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [line.rstrip() for line in text.plain.splitlines()]
    target.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture = console.export_svg(title="enginegate", clear=False)
    target.with_suffix(".svg").write_text(FONT.sub("", picture), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
