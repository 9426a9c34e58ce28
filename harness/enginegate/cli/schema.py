"""``enginegate schema``: the JSON Schema of what people write and of what sessions write."""

from __future__ import annotations

import argparse
import json

from enginegate.cli.common import Subparsers, command, say


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "schema",
        "print the JSON Schema of configuration files, by which editors check them, or of run records",
        "enginegate schema config > enginegate.schema.json",
    )
    parser.add_argument("what", choices=("config", "record"), help="of a configuration file, or of a run.json")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print it; the exit code."""
    say(schema_text(arguments.what))
    return 0


def schema_text(what: str) -> str:
    """The schema of ``config`` or ``record`` as indented JSON."""
    from enginegate.config.json_schema import DIALECT, config_schema

    if what == "config":
        schema = config_schema()
    else:
        from enginegate.core.records import RunRecord

        schema = {"$schema": DIALECT, **RunRecord.model_json_schema(), "title": "enginegate run record"}
    return json.dumps(schema, indent=1)
