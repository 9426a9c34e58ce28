"""The ``enginegate`` command: one module for each subcommand.

Exit codes:

- 0: all well.
- 1: the command found what it looks for: ``compare`` a regression, ``report --verdicts`` a verdict that is not the
  stored one, ``engines verify`` a damaged engine, ``doctor`` that no backend works, ``trtllm verify-contract`` a
  missing name. Nothing else ends with 1.
- 2: bad input or usage, which a message explains.
- 3: ``compare --strict``: something is inconclusive or missing.
- 4: an error that nobody foresaw. Nothing was decided; the message names a report that can be sent.
- 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from enginegate import __version__
from enginegate.cli import accept, compare, doctor, engines, init, power, report, trtllm
from enginegate.cli.common import complain, silence
from enginegate.cli.unforeseen import report_unforeseen
from enginegate.core.errors import DISK_FULL, EngineGateError

COMMANDS = (init, doctor, engines, accept, report, compare, power, trtllm)

#: Ways of a stream to deal with characters that its encoding lacks, which never raise.
_PATIENT = frozenset({"backslashreplace", "ignore", "namereplace", "replace", "xmlcharrefreplace"})

EXIT_CODES = """exit codes: 0 all well; 1 found what the command looks for (compare: a regression, and nothing else);
            2 bad input or usage; 3 compare --strict: something inconclusive or missing;
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
        complain(f"enginegate: the output cannot be written: {error}\n  hint: free some space, or name another file")
        silence()
        return code or 2
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
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
