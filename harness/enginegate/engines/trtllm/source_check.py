"""Compares the contract table with an unpacked TensorRT-LLM: a source tree, or an installed package's folder.

Nothing is imported: the files are parsed. Fields of pydantic models and dataclasses, members of enumerations, methods
with their parameters, and instance attributes are followed through base classes of the same file and of the files that
the table names. What C++ defines, and what a dictionary holds, cannot be read this way and is said to be so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from enginegate.core.errors import ConfigError
from enginegate.engines.trtllm.contract import facts, things
from enginegate.engines.trtllm.facts import Fact, Thing

#: Base classes whose members no table names and no file needs to define.
_FOREIGN = frozenset(
    ("BaseModel", "StrictBaseModel", "Enum", "StrEnum", "IntFlag", "ABC", "PybindMirror", "object", "str", "NamedTuple")
)


@dataclass(frozen=True)
class Finding:
    """What the source says of one name of the table.

    Attributes:
        thing: name of the Thing.
        kind: the Fact's kind, or ``class``, or ``export`` (importable from the module that the adapters import).
        name: the name itself.
        outcome: ``found``, ``missing`` or ``unreadable``.
        place: file and line, or why it cannot be read.
    """

    thing: str
    kind: str
    name: str
    outcome: str
    place: str


@dataclass(frozen=True)
class Report:
    """All findings of one tree."""

    version: str
    source: str
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> tuple[Finding, ...]:
        """What the table holds and the source lacks."""
        return tuple(finding for finding in self.findings if finding.outcome == "missing")


def find_package(source: Path | None) -> Path:
    """The folder ``tensorrt_llm`` of a tree, of an unpacked wheel, or the installed one. Raises ConfigError."""
    if source is None:
        spec = util.find_spec("tensorrt_llm")
        if spec is None or spec.origin is None:
            raise ConfigError(
                "tensorrt_llm is not installed", "name an unpacked wheel or a source tree with --source DIR"
            )
        return Path(spec.origin).parent
    for folder in (source / "tensorrt_llm", source):
        if (folder / "llmapi").is_dir():
            return folder
    raise ConfigError(f"{source} holds no tensorrt_llm/llmapi", "name the folder that holds the package tensorrt_llm")


def read_version(package: Path) -> str:
    """``__version__`` of version.py. Raises ConfigError where there is none."""
    try:
        text = (package / "version.py").read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{package / 'version.py'} cannot be read: {error.strerror}", "name a whole tree") from error
    found = re.search(r"""^__version__\s*=\s*["']([^"']+)["']""", text, re.MULTILINE)
    if found is None:
        raise ConfigError(f"{package / 'version.py'} names no __version__", "give the version with --version")
    return found[1]


def check(package: Path, version: str = "") -> Report:
    """Compare the table with a package's folder, as the version that it says it is or the one given."""
    version = version or read_version(package)
    source = _Source(package)
    findings: list[Finding] = []
    known = things(version)
    for thing in known.values():
        findings += _check_thing(source, thing)
    findings += [_check_fact(source, known[fact.thing], fact) for fact in facts(version)]
    return Report(version, str(package), tuple(findings))


def _check_thing(source: _Source, thing: Thing) -> Iterator[Finding]:
    for file, name in thing.defined:
        line = source.classes(file).get(name)
        place = f"{file}:{line.lineno}" if line else file if source.exists(file) else f"no file {file}"
        yield Finding(thing.name, "class", name, "found" if line else "missing", place)
    if thing.module:
        name = thing.name.rpartition(".")[2]
        place = source.exported(thing.module, name)
        yield Finding(thing.name, "export", f"{thing.module}.{name}", "found" if place else "missing", place)


def _check_fact(source: _Source, thing: Thing, fact: Fact) -> Finding:
    if not thing.defined:
        return Finding(fact.thing, fact.kind, fact.name, "unreadable", thing.source)
    for file, name in thing.defined:
        line = source.members(file, name, {definition[0] for definition in thing.defined}).get(fact.name)
        if line:
            return Finding(fact.thing, fact.kind, fact.name, "found", f"{file}:{line}")
    return Finding(fact.thing, fact.kind, fact.name, "missing", ", ".join(file for file, _ in thing.defined))


class _Source:
    """Parsed files of one package, each read once."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._trees: dict[str, ast.Module] = {}

    def exists(self, file: str) -> bool:
        return (self._package / file).is_file()

    def tree(self, file: str) -> ast.Module:
        if file not in self._trees:
            try:
                text = (self._package / file).read_text(encoding="utf-8")
                self._trees[file] = ast.parse(text, file)
            except (OSError, SyntaxError):
                self._trees[file] = ast.Module([], [])
        return self._trees[file]

    def classes(self, file: str) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in ast.walk(self.tree(file)) if isinstance(node, ast.ClassDef)}

    def members(self, file: str, name: str, files: set[str]) -> dict[str, int]:
        """Names that a class has, its bases included, with the line that brings each.

        A parameter is ``method.parameter``; a field with a leading underscore counts without it too, as one older
        dataclass keeps its fields so and makes properties of them.
        """
        for place in (file, *sorted(files - {file})):
            node = self.classes(place).get(name)
            if node is None:
                continue
            found: dict[str, int] = {}
            for base in node.bases:
                parent = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
                if parent and parent != name and parent not in _FOREIGN:
                    found |= self.members(place, parent, files)
            found |= dict(_own_members(node))
            return found
        return {}

    def exported(self, module: str, name: str) -> str:
        """Where a module's file assigns, defines or imports a name; empty where it does not."""
        below = module.partition(".")[2].replace(".", "/")
        for file in (f"{below}/__init__.py".lstrip("/"), f"{below}.py"):
            for node in ast.walk(self.tree(file)):
                imported = isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names)
                defined = isinstance(node, ast.ClassDef) and node.name == name
                listed = isinstance(node, ast.Constant) and node.value == name  # names that are imported on demand
                if imported or defined or listed:
                    return f"{file}:{getattr(node, 'lineno', '?')}"
        return ""


def _own_members(node: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield from _field(item.target.id, item.lineno)
            yield from ((alias, item.lineno) for alias in _aliases(item.value))
        elif isinstance(item, ast.Assign):
            for target in item.targets:
                if isinstance(target, ast.Name):
                    yield from _field(target.id, item.lineno)
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            yield item.name, item.lineno
            arguments = item.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield f"{item.name}.{argument.arg}", item.lineno
                if item.name == "__init__":
                    yield argument.arg, item.lineno
            yield from _assigned(item)


def _field(name: str, line: int) -> Iterator[tuple[str, int]]:
    yield name, line
    if name.startswith("_"):
        yield name.lstrip("_"), line


def _aliases(value: ast.expr | None) -> Iterator[str]:
    """Texts of ``validation_alias=AliasChoices(…)`` in a field's definition."""
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg in ("alias", "validation_alias"):
                yield from (
                    str(node.value)
                    for node in ast.walk(keyword.value)
                    if isinstance(node, ast.Constant) and isinstance(node.value, str)
                )


def _assigned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, int]]:
    """Attributes that a method sets on ``self``."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                yield from _field(target.attr, node.lineno)
