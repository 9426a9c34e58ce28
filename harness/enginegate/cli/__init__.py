"""The ``enginegate`` command: one module for each subcommand.

Exit codes: 0 all well, 1 the command found something wrong (a regression, a damaged engine), 2 bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from enginegate import __version__
from enginegate.cli import accept, compare, doctor, duet, engines, init, power, report, trtllm
from enginegate.core.errors import EngineGateError

COMMANDS = (init, doctor, engines, duet, accept, report, compare, power, trtllm)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        arguments = build_parser().parse_args(argv)
        code: int = arguments.handler(arguments)
        sys.stdout.flush()
        return code
    except EngineGateError as error:
        print(f"enginegate: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("enginegate: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="enginegate",
        description="Benchmark and regression gates for quantized LLM engines. The tests themselves are run by pytest.",
    )
    parser.add_argument("--version", action="version", version=f"enginegate {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
