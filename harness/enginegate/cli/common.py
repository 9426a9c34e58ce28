"""What several subcommands share."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(subparsers: Subparsers, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """A subcommand whose ``--help`` ends with an example."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Declare which engines a command is about."""
    parser.add_argument("--model", default="", help="models by configuration name, comma separated")
    parser.add_argument("--config", default="", help="configuration files of your own, comma separated")
    parser.add_argument("--engine", default="", help="backends, comma separated")
    parser.add_argument("--precision", default="", help="precisions, comma separated")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The ``--json`` option."""
    parser.add_argument("--json", action="store_true", help="print JSON for a script")


def add_runs(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """The ``--runs`` option, by which a run id or ``latest`` is found."""
    parser.add_argument(
        "--runs",
        type=folder,
        metavar="DIR",
        default=default,
        help="folder of run records (default: the project's runs/), for a run id or 'latest'",
    )


def folder(text: str) -> Path:
    """A path, for argparse; ``~`` is the home folder."""
    from enginegate.core.files import expanded

    return expanded(text)


def runs_folder(arguments: argparse.Namespace) -> Path:
    """The folder that ``--runs`` names, else the project's. Raises ConfigError for an ini that cannot be read."""
    from enginegate.config.project import find_project

    given: Path | None = arguments.runs
    return given or find_project().runs


def add_history(parser: argparse.ArgumentParser, below: bool = True) -> None:
    """The options that name a history.

    ``below``: for a subcommand of one that has these options, too; what is given to that counts where nothing else is.
    """
    parser.add_argument(
        "--history",
        default=argparse.SUPPRESS if below else "",
        metavar="URL",
        help="SQLAlchemy URL (default: $ENGINEGATE_HISTORY, else history.sqlite in the folder of run records)",
    )
    add_runs(parser, argparse.SUPPRESS if below else None)


def history_url(arguments: argparse.Namespace) -> str:
    """The history that a command names. Raises ConfigError where it cannot be used."""
    from enginegate.plan.options import HISTORY_VARIABLE
    from enginegate.storage.history.database import check

    url = arguments.history or os.environ.get(HISTORY_VARIABLE, "")
    if url:
        check(url)
        return str(url)
    return f"sqlite:///{(runs_folder(arguments) / 'history.sqlite').absolute()}"


def print_json(value: Any) -> None:
    """Indented JSON; NaN and infinity become null, which every reader understands.

    Characters that the output's encoding lacks, and halves of a surrogate pair, become JSON's own escapes.
    """
    plain = _finite(value)
    text = json.dumps(plain, indent=1, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(plain, indent=1)
    say(text)


def say(text: str) -> None:
    """Print to stdout. A reader that has left, as ``head`` does, has what it wanted: the command goes on to its end."""
    try:
        print(text)
    except BrokenPipeError:
        silence()


def say_printed(write: Callable[[Console], None], width: int) -> None:
    """Print what ``write`` prints on a console of rich's, of the terminal's width; of ``width`` columns elsewhere."""
    from rich.console import Console

    from enginegate.core.terminal import wants_colour

    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if terminal else width, force_terminal=wants_colour(sys.stdout))
    with console.capture() as printed:  # rich itself would end the command where the reader has left
        write(console)
    say(printed.get().removesuffix("\n"))


def complain(text: str) -> None:
    """Print to stderr, as far as there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def silence() -> None:
    """Nobody reads stdout any more: what is still written to it goes nowhere, also when Python ends."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """One line of text whose control characters, line ends and halves of surrogate pairs are escaped.

    A name from a file must not look like another line of the output, nor steer the terminal.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def size(text: str) -> int:
    """``20GB``, ``1.5GiB`` or a plain number of bytes, for argparse."""
    from enginegate.core.sections import read_size

    try:
        return read_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count(text: str) -> int:
    """A whole number from 0 on, as an option's type."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def fraction(text: str) -> float:
    """``5%``, ``2.5%`` or ``0.05``, for argparse."""
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 5%, 2.5% or 0.05")
    return value


def show_bytes(count: float) -> str:
    """A size for people, in decimal units."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(count) >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of left-aligned columns; the last one is not padded."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)][:-1]
    return ["  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths)), row[-1]]) for row in rows]  # noqa: B905
