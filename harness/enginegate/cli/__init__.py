"""The ``enginegate`` command: one module for each subcommand.

Exit codes:

- 0: all well.
- 1: the command found what it looks for: ``compare`` and ``duet`` a regression, ``merge`` a verdict that fails its
  test, ``report --verdicts`` a verdict that is not the stored one, ``memory --prove`` that nothing was proved,
  ``serve --generator`` a load generator that does not keep its schedule, ``engines verify`` a damaged engine,
  ``doctor`` that no backend works, ``trtllm verify-contract`` a missing name. Nothing else ends with 1.
- 2: bad input or usage, which a message explains.
- 3: ``compare --strict`` and ``duet --strict``: something is inconclusive or missing; ``merge``: a shard is missing or
  did not come to its end.
- 4: an error that nobody foresaw. Nothing was decided; the message names a report that can be sent.
- 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from enginegate import __version__
from enginegate.cli import (
    accept,
    compare,
    doctor,
    duet,
    engines,
    init,
    memory,
    merge,
    power,
    report,
    schema,
    serve,
    texts,
    trtllm,
)
from enginegate.cli.common import complain, say, silence
from enginegate.cli.unforeseen import report_unforeseen
from enginegate.core.errors import DISK_FULL, EngineGateError

COMMANDS = (init, doctor, engines, memory, serve, duet, accept, merge, report, texts, compare, power, schema, trtllm)

#: Ways of a stream to deal with characters that its encoding lacks, which never raise.
_PATIENT = frozenset({"backslashreplace", "ignore", "namereplace", "replace", "xmlcharrefreplace"})

EXIT_CODES = """exit codes: 0 all well; 1 found what the command looks for (compare: a regression, and nothing else);
            2 bad input or usage; 3 compare --strict: something inconclusive or missing, merge: a missing shard;
            4 an unforeseen error: nothing was decided, and a report can be sent"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    _escape_what_the_terminal_lacks()
    return _flushed(_run(given))


def _run(argv: Sequence[str]) -> int:
    try:
        try:
            arguments = build_parser().parse_args(argv)
        except SystemExit as stop:  # argparse has said why
            return stop.code if isinstance(stop.code, int) else 2
        return int(arguments.handler(arguments))
    except EngineGateError as error:
        complain(f"enginegate: {error}")
        return 2
    except KeyboardInterrupt:
        complain("enginegate: interrupted")
        return 130
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            complain(
                f"enginegate: nothing more can be written: {error}\n  hint: free some space, or name another folder"
            )
            silence()
            return 2
        return report_unforeseen(error, argv)


def _escape_what_the_terminal_lacks() -> None:
    """Names in files may hold any character; a terminal's encoding may not: it gets ``\\\\u6a21`` instead."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors not in _PATIENT:
            reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """The code, once all that was printed is written; 2 in place of 0 where it cannot be."""
    if sys.stdout is None:  # closed by whoever called
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left, as ``head`` does: what was found stands
        silence()
    except (OSError, ValueError) as error:
        _unwritable(error)
        return code or 2
    return code


def _unwritable(error: Exception) -> None:
    complain(f"enginegate: the output cannot be written: {error}\n  hint: free some space, or name another file")
    silence()


class _Parser(argparse.ArgumentParser):
    """A parser that ends with 2 where its help or version cannot be written, of which argparse says nothing."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            say(message.removesuffix("\n"))
        except (OSError, ValueError) as error:
            _unwritable(error)
            self.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = _Parser(
        prog="enginegate",
        description="Benchmark and regression gates for quantized LLM engines. The tests themselves are run by pytest.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"enginegate {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
