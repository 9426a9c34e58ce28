"""YAML as a configuration may have it: one document of sections, lists, text, numbers, true and false, and null.

PyYAML reads version 1.1 of the language, and forgives: the last of two equal keys wins, ``010`` is 8, ``1:30`` is 90,
a date is an object, and a few lines of aliases unfold to gigabytes. Here a key stands once, a number is written in
decimals (or as ``0x1f``), what else looks like one stays the text that was written, and size and depth have bounds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from enginegate.core.errors import ConfigError

#: A configuration has a few kilobytes. More is another file.
MAX_BYTES = 256 * 1024
#: Values of a file, those of an alias counted wherever it stands; and how deep they may be nested.
MAX_VALUES, MAX_DEPTH = 5_000, 30

_TAG = "tag:yaml.org,2002:"
_OURS = {f"{_TAG}{name}" for name in ("bool", "null", "merge")}
#: What a scalar of each tag is, in words.
_KINDS = {"bool": "true or false", "null": "nothing", "int": "a number", "float": "a number"}


def read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of a configuration file, every key as text, and what is wrong with it, a line each.

    Raises ConfigError where the file cannot be read at all, or is no mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError, as is UnicodeDecodeError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"configuration {path} cannot be read: {reason}", "give an existing UTF-8 file to --config"
        ) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"configuration {path} has more than {MAX_BYTES // 1024} KB", "give a configuration file to --config"
        )
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"configuration {path} is empty", "write one, or let `enginegate init` do it")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"configuration {path} is not a mapping", "write sections with keys, as `enginegate init` does"
            )
        content = loader.mapping(node, "")
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML passes on what chr() and int() raise
        raise ConfigError(f"configuration {path} is not valid YAML: {error}", "fix the file at that place") from error
    return content, loader.problems


class _Loader(yaml.SafeLoader):
    """Composes with bounds, and makes plain values, noting what is wrong with them.

    Attributes:
        problems: a line each, as ``load_config`` lists them.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []
        self._noted: set[tuple[int, str]] = set()
        self._depth = self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node with all below it, within the bounds. Raises YAMLError."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        alias = isinstance(event, yaml.AliasEvent)
        before = self._count
        self._depth += 1
        if not alias:
            self._count += 1
            if event.tag is not None:
                self._refuse(f"the tag {event.tag} is not read here: leave it out, and put text into quotes", event)
        if self._depth > MAX_DEPTH:
            self._refuse(f"it is nested more than {MAX_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        if alias:
            if id(node) not in self._sizes:
                self._refuse(f"the alias {event.anchor} stands within what it stands for", event)
            self._count += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._count - before
        if self._count > MAX_VALUES:
            self._refuse(f"it has more than {MAX_VALUES} values, with those that aliases stand for", event)
        self._depth -= 1
        return node

    def mapping(self, node: yaml.MappingNode, where: str) -> dict[str, Any]:
        """A section; the keys that it merges (``<<``) come after its own, which count."""
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[dict[str, Any]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._note(key, where or "(top)", "a key is a list or a section: write a name")
                continue
            name, line = key.value, key.start_mark.line + 1
            place = f"{where}.{name}" if where else name
            kind = key.tag.removeprefix(_TAG)
            if name in lines:
                self._note(key, place, f"is given twice, in lines {lines[name]} and {line}: keep one")
                continue
            lines[name] = line
            if kind == "merge":
                merged += self._merged(value, place)
                continue
            if kind != "str":
                self._note(key, place, f"this key is read as {_KINDS[kind]}: put it into quotes where a name is meant")
            self._check_text(key, place)
            own[name] = self._value(value, place)
        for name, value in (pair for section in merged for pair in section.items()):
            own.setdefault(name, value)
        return own

    def _merged(self, node: yaml.Node, place: str) -> Iterator[dict[str, Any]]:
        """The sections that ``<<`` names, in order: the first that has a key gives it."""
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(each, yaml.MappingNode):
                yield self.mapping(each, place)
            else:
                self._note(each, place, "merges something that is no section")

    def _value(self, node: yaml.Node, place: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each, f"{place}.{number}") for number, each in enumerate(node.value)]
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" and isinstance(node, yaml.ScalarNode):
            self._check_text(node, place)
            return node.value
        if kind == "int" and len(node.value) > 40:
            self._note(node, place, f"{node.value[:20]}… is too large a number")
            return 0
        return self.construct_object(node)

    def _check_text(self, node: yaml.ScalarNode, place: str) -> None:
        """Note characters that no name and no path may have; lone surrogates cannot even be printed."""
        odd = [each for each in node.value if unicodedata.category(each) in ("Cc", "Cs") and each not in "\n\t"]
        if odd:
            self._note(node, ascii(place)[1:-1], f"holds the character {odd[0]!a}, which no text here may have")

    def _note(self, node: yaml.Node, place: str, problem: str) -> None:
        """Keep a problem, once for a node that aliases repeat."""
        if (id(node), problem) not in self._noted:
            self._noted.add((id(node), problem))
            self.problems.append(f"  {place}: {problem}")

    def _refuse(self, problem: str, event: Any) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag in _OURS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$", re.ASCII), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN))$",
        re.ASCII,
    ),
    list("-+0123456789."),
)
