"""``enginegate trtllm``: what concerns TensorRT-LLM alone."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from enginegate.cli.common import Subparsers, add_json, columns, command, folder, print_json, say


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand and its own subcommand."""
    parser = command(
        subparsers,
        "trtllm",
        "check this suite's reading of TensorRT-LLM against its source",
        "enginegate trtllm verify-contract",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verify = command(
        actions,
        "verify-contract",
        "parse a TensorRT-LLM package, import nothing of it, and compare it with the table of what the adapters use; "
        "exit 1 where a name is missing",
        "enginegate trtllm verify-contract --source ~/TensorRT-LLM",
    )
    verify.add_argument(
        "--source", type=folder, metavar="DIR", help="source tree or unpacked wheel (default: the installed package)"
    )
    verify.add_argument("--version", default="", help="compare as this version, not as version.py says")
    add_json(verify)
    verify.set_defaults(handler=verify_contract)


def verify_contract(arguments: argparse.Namespace) -> int:
    """Print what is missing; 1 where something is."""
    from enginegate.core.errors import ConfigError
    from enginegate.engines.trtllm.contract import release
    from enginegate.engines.trtllm.facts import FIRST
    from enginegate.engines.trtllm.source_check import check, find_package

    report = check(find_package(arguments.source), arguments.version)
    if release(report.version) < release(FIRST):
        raise ConfigError(
            f"{report.source} is TensorRT-LLM {report.version}, and the table begins with {FIRST}",
            "name a newer tree, or compare it as another version with --version",
        )
    if arguments.json:
        print_json(
            {"version": report.version, "source": report.source, "findings": [asdict(f) for f in report.findings]}
        )
        return 1 if report.missing else 0
    counts = dict.fromkeys(("found", "missing", "unreadable"), 0)
    for finding in report.findings:
        counts[finding.outcome] += 1
    say(f"TensorRT-LLM {report.version} in {report.source}")
    gone = {finding.thing for finding in report.missing if finding.kind == "class"}
    shown = [finding for finding in report.missing if finding.thing not in gone or finding.kind == "class"]
    if shown:
        rows = [[f"  missing {finding.kind}", f"{finding.thing} {finding.name}", finding.place] for finding in shown]
        say("\n".join(columns(rows)))
    say(
        f"{counts['found']} names found, {counts['missing']} missing, "
        f"{counts['unreadable']} that cannot be read from Python source"
    )
    return 1 if report.missing else 0
