"""Pages of the reference, written from the code that they are about: parsers, options, models, hooks.

``PAGES``: by file name, a function of the repository's folder that gives a page as Markdown. Nothing of this is
committed, so nothing of it can be out of date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

#: Widest line of a usage.
WIDTH = 100


def command_line(_: Path) -> str:
    """Every subcommand with its arguments."""
    from enginegate.cli import build_parser

    parser = build_parser()
    parts = ["# Command line", f"{parser.description} Exit codes: [exit codes](reference_exit_codes.md)."]
    parts += [f"- [`{each.prog}`](#{each.prog.replace(' ', '-')}): {summary}" for each, summary in _leaves(parser)]
    listed = "\n".join(parts[2:])
    parts = [*parts[:2], listed]
    for each, _summary in _leaves(parser):
        parts += [f"## {each.prog}", *_command(each)]
    return _page(parts)


def _leaves(parser: argparse.ArgumentParser, summary: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The parsers of subcommands that have none of their own, each with its summary."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield parser, summary
    for action in below:
        said = {each.dest: each.help or "" for each in action._choices_actions}
        for name, each in action.choices.items():
            yield from _leaves(each, said.get(name, ""))


def _command(parser: argparse.ArgumentParser) -> list[str]:
    usage = parser._get_formatter()
    usage._width = WIDTH
    usage.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    parts = [_escaped(parser.description or ""), _block(usage.format_help().removeprefix("usage: "), "text")]
    rows = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        value = "" if action.nargs == 0 else f" {_metavar(action)}"
        names = [f"{name}{value}" for name in action.option_strings] or [_metavar(action)]
        said = (action.help or "") % {**vars(action), "prog": parser.prog}
        if action.choices and "{" not in said:
            said = f"{said}{'; ' if said else ''}one of {', '.join(f'{each}' for each in action.choices)}"
        elif action.default not in (None, "", False, argparse.SUPPRESS) and "default" not in said:
            given = action.default if isinstance(action.default, list) else [action.default]
            said = f"{said}{' ' if said else ''}(default: {' '.join(map(str, given))})"
        rows.append([", ".join(f"`{name}`" for name in names), _escaped(said)])
    parts += [_table(["argument", "meaning"], rows)] if rows else []
    return [*parts, *([_block(parser.epilog, "text")] if parser.epilog else [])]


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return f"{name}..." if action.nargs in ("+", "*") else name


def pytest_page(_: Path) -> str:
    """Options, settings of the ini, markers and fixtures."""
    from enginegate.config.ini import INI, INI_MODEL
    from enginegate.config.project import DEFAULT_MODEL
    from enginegate.fixtures import suite
    from enginegate.plugin.optional import OPTIONAL
    from enginegate.plugin.ours import MARKERS
    from enginegate.pytest_options import OPTIONS

    options = [
        [f"`{each.long}{'' if each.value is not None else ' VALUE'}`", f"`{each.short}`", _escaped(each.help)]
        for each in OPTIONS
    ]
    settings = [
        [f"`{INI}`", "`false`", "this project uses enginegate: its options have short names, too"],
        [f"`{INI_MODEL}`", f"`{DEFAULT_MODEL}`", "the model that is tested where no option names one"],
    ]
    markers = [each.split(": ", 1) for each in (*MARKERS, *(f"{name}: {what}" for name, what in OPTIONAL.items()))]
    fixtures = [
        [f"`{name}`", _escaped(_first_paragraph(value.__doc__ or ""))]
        for name, value in vars(suite).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    return _page([
        "# pytest",
        "What the plugin adds to pytest. How sessions end: [exit codes](reference_exit_codes.md).",
        "## Options",
        "The long names work everywhere. The short ones are there where the ini says `enginegate = true`, and nobody "
        "else has taken them.",
        _table(["option", "short", "meaning"], options),
        "## Settings of the ini",
        _table(["key", "default", "meaning"], settings),
        "## Markers",
        _table(["marker", "meaning"], [[f"`{name}`", _escaped(what)] for name, what in markers]),
        "## Fixtures",
        "Tests get these by `from enginegate.fixtures.suite import *` in their `conftest.py`.",
        _table(["fixture", "gives"], fixtures),
    ])  # fmt: skip


def hooks(_: Path) -> str:
    """What others may plug in."""
    from enginegate.engines import base, registry
    from enginegate.plugin import hookspecs

    parts = ["# Hooks", "What a `conftest.py`, or an installed package, may plug in.", "## Hooks of pytest"]
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("pytest_"):
            parts += [f"### {name}", _block(f"{name}{inspect.signature(function)}", "text"), _prose(function.__doc__)]
    groups = [
        [f"`{registry.GROUP}`", "a backend class: [adding a backend](adding_a_backend.md)"],
        [f"`{registry.DIALECTS}`", "option names of another project, turned into this suite's own keys"],
    ]
    parts += ["## Entry points", _table(["group", "what each entry names"], groups), "## Protocols of a backend"]
    for each in (base.Backend, base.Engine):
        parts += [f"### {each.__name__}", _prose(each.__doc__)]
        members = [
            [f"`{name}{_signature(member)}`", _escaped(_first_paragraph(member.__doc__ or ""))]
            for name, member in vars(each).items()
            if inspect.isfunction(member) and not name.startswith("_")
        ]
        parts.append(_table(["member", "what it does"], members))
    return _page(parts)


def _signature(function: Callable[..., object]) -> str:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return f"({', '.join(names)})"


def configuration(repository: Path) -> str:
    """Every key of a configuration file: its type from the models, its meaning from the page that explains it."""
    from enginegate.config.schema import ConfigFile
    from enginegate.engines.options import options_model, own_keys
    from enginegate.engines.registry import BUILT_IN, load_backend

    page = (repository / "docs" / "adding_a_model.md").read_text(encoding="utf-8")
    meanings = _meanings(page)
    parts = [
        "# Configuration",
        "Every key of a configuration file. How such a file is written: [adding a model](adding_a_model.md#every-key). "
        "An editor checks it by the <a href='../schemas/config.schema.json'>JSON Schema</a>, which "
        "`enginegate schema config` prints, too.",
    ]
    groups: dict[str, list[list[str]]] = {}
    for key, annotation, default in _keys(ConfigFile):
        groups.setdefault(key.partition(".")[0], []).append(
            [f"`{key}`", annotation, _default(default), meanings.get(key, "")]
        )
    for name in BUILT_IN:
        model = options_model(load_backend(name))
        for key in own_keys(model):
            path = f"engines.{name}.runtime.{key}"
            schema = model.model_json_schema()
            words = _type(schema["properties"][key], schema.get("$defs", {}))
            default = model.model_fields[key].get_default(call_default_factory=True)
            groups["engines"].append([f"`{path}`", words, _default(default), meanings.get(path, "")])
    single = [rows.pop() for name, rows in list(groups.items()) if len(rows) == 1 and name == rows[0][0].strip("`")]
    header = ["key", "type", "default", "meaning"]
    parts += ["## The file itself", _prose(ConfigFile.__doc__), _table(header, single)]
    for name, rows in groups.items():
        if rows:
            section = _model_of(ConfigFile.model_fields[name].annotation)
            parts += [f"## {name}", *([_prose(section.__doc__)] if section else []), _table(header, rows)]
    return _page(parts)


def _meanings(page: str) -> dict[str, str]:
    """By key, the last cell of its row in a table of the page, whose own anchors become links to it."""
    rows = [line.strip("| ").split(" |") for line in page.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): row[-1].strip().replace("](#", "](adding_a_model.md#") for row in rows if len(row) == 3}


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, object]]:
    """Every key below a model: its path, its type in words, and its default, ``...`` where it must be given."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        key, section = prefix + (field.alias or name), field.annotation
        for stands in ("<backend>", "<precision>"):
            if typing.get_origin(section) is dict and key in ("engines", "floors", "floors.<backend>"):
                section, key = typing.get_args(section)[1], f"{key}.{stands}"
        if isinstance(section, type) and issubclass(section, BaseModel):
            given = field.default if isinstance(field.default, BaseModel) else None
            for inner, words, value in _keys(section, f"{key}."):
                last = inner.removeprefix(f"{key}.")
                yield inner, words, getattr(given, last) if given is not None and hasattr(given, last) else value
        else:
            default = ... if field.is_required() else field.get_default(call_default_factory=True)
            yield key, _type(schema["properties"][field.alias or name], schema.get("$defs", {})), default


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The model that a key's section is of, also within a mapping."""
    while typing.get_origin(annotation) is dict:
        annotation = typing.get_args(annotation)[1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def record(_: Path) -> str:
    """Every field of a run record, model by model."""
    from enginegate.core.records import SCHEMA, RunRecord

    schema = RunRecord.model_json_schema()
    definitions = {"RunRecord": schema, **schema["$defs"]}
    models = {each.__name__: each for each in _models(RunRecord)}
    parts = [
        "# Run record",
        f"`runs/<id>/run.json` has all that a session measured and concluded. This is version {SCHEMA}; older ones are "
        "read as before. The same as <a href='../schemas/record.schema.json'>JSON Schema</a>, which "
        "`enginegate schema record` prints, too. Times are in seconds, sizes in bytes; a missing number is `null`.",
    ]
    for name in models:
        prose, fields = _documented(models[name].__doc__ or "")
        rows = [
            [f"`{key}`", _type(each, definitions, links=True), _required(each), fields.get(key, "")]
            for key, each in definitions[name]["properties"].items()
        ]
        parts += [f"## {name}", prose, _table(["field", "type", "default", "meaning"], rows)]
    return _page(parts)


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all that its fields are made of, each once, in the order in which a reader meets them."""
    found: list[type[BaseModel]] = []

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.append(annotation)
            for field in annotation.model_fields.values():
                visit(field.annotation)
        for inner in typing.get_args(annotation):
            visit(inner)

    visit(model)
    return found


def _documented(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and what its ``Attributes`` say of each field, as Markdown."""
    above, _, below = inspect.cleandoc(text).partition("\nAttributes:\n")
    listed, _, after = below.partition("\n\n")
    fields: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + listed.rstrip()):
        names, colon, meaning = entry.strip().partition(":")
        if colon:
            said = _escaped(_marked(" ".join(meaning.split())))
            fields |= {name.strip(): said for name in names.split(",")}
    return _marked(f"{above}\n\n{after}".strip()), fields


def exit_codes(repository: Path) -> str:
    """The two tables of the page on CI."""
    page = (repository / "docs" / "ci.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| exit code of [^\n]*\n(?:\|[^\n]*\n)+", page, re.MULTILINE)
    if len(tables) != 2:
        raise SystemExit("docs/ci.md has no two tables that begin with `| exit code of`: change exit_codes here")
    more = "More on what fails a pipeline: [gates in CI](ci.md#what-fails-a-pipeline)."
    return _page(["# Exit codes", more, *tables])


PAGES: dict[str, Callable[[Path], str]] = {
    "command_line.md": command_line,
    "pytest.md": pytest_page,
    "configuration.md": configuration,
    "hooks.md": hooks,
    "record.md": record,
    "exit_codes.md": exit_codes,
}


def _type(schema: dict[str, Any], definitions: dict[str, Any], links: bool = False) -> str:
    """A JSON Schema in words, for a cell of a table. ``links``: names of models lead to their headings."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if links and definitions[name].get("type") == "object":
            return f"[{name}](#{name.lower()})"
        return "section" if definitions[name].get("type") == "object" else _type(definitions[name], definitions, links)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(each, definitions, links) for each in schema[several]))
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {', '.join(_type(each, definitions, links) for each in schema['prefixItems'])}"
        return f"list of {_type(schema.get('items', {}), definitions, links)}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"mapping to {_type(inner, definitions, links)}" if isinstance(inner, dict) and inner else "mapping"
    return f"{'text' if kind == 'string' else kind}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    said = [
        f"{words} {schema[key]:,}"
        for key, words in (
            ("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below")
        )
        if key in schema and abs(schema[key]) < 2**31 - 1
    ]  # fmt: skip
    return f" {' '.join(said)}" if said else ""


def _required(schema: dict[str, Any]) -> str:
    return _default(schema["default"]) if "default" in schema else ""


def _default(value: object) -> str:
    if value is ...:
        return "must be given"
    if isinstance(value, BaseModel):
        return "see its keys"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def _prose(text: str | None) -> str:
    return _documented(text or "")[0]


def _first_paragraph(text: str) -> str:
    return _marked(" ".join(inspect.cleandoc(text).partition("\n\n")[0].split()))


def _marked(text: str) -> str:
    return text.replace("``", "`")


def _escaped(text: str) -> str:
    """Text for a cell of a table: bars and tags are no signs of Markdown there."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        each.replace("|", "\\|") if each.startswith("`") else re.sub(r"([|<*_\[\]])", r"\\\1", each) for each in parts
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def _block(text: str, language: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _page(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
