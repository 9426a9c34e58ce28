"""What pydantic finds wrong with a section, in plain words: where, what, and what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from enginegate.config.data_section import AS_NUMBER, AS_SECTION, AS_TEXT
from enginegate.core.spelling import did_you_mean

#: What is wanted, where pydantic's own words are of its classes.
_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section, with keys of its own",
    "finite_number": "a number that is finite",
}
_QUOTED = re.compile("'([^']+)'")
_REASONS = {"model_type": "is a section, with keys of its own", "missing": "must be given"}


def explained(error: ValidationError, model: type[BaseModel], prefix: str = "", known: str = "") -> list[str]:
    """One line for each complaint about a section read by ``model``; ``known`` is added where a key is unknown."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join([*filter(None, [prefix]), *map(str, _written(item["loc"]))]) or "(top)"
        lines.append(f"  {place}: {_reason(item['type'], item['msg'], item['input'])}")
        if item["type"] == "extra_forbidden":
            keys = _keys(model, item["loc"][:-1])
            lines[-1] += known + did_you_mean(str(item["loc"][-1]), keys)
    return lines


def _written(place: Sequence[int | str]) -> list[int | str]:
    """A place without the words for how a value was written."""
    return [part for part in place if part not in (AS_TEXT, AS_SECTION, AS_NUMBER)]


def _reason(kind: str, message: str, value: Any) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind in _WANTED:
        return f"{_shown(value)} is not {_WANTED[kind]}"
    if kind in _REASONS:
        return _REASONS[kind]
    message = message.removeprefix("Value error, ")
    if kind == "literal_error" and isinstance(value, str):
        return f"{message}, not {_shown(value)}{did_you_mean(value, _QUOTED.findall(message))}"
    scalar = isinstance(value, str | int | float) and kind != "value_error"
    return f"{message}, not {_shown(value)}" if scalar else message


def _shown(value: Any) -> str:
    """A value as its file has it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value] + " (YAML reads yes, no, on, off and ~ so)"
    if isinstance(value, dict | list):
        return "a section" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return f"{text[:60]}{'…' if len(text) > 60 else ''}" + (" (text)" if isinstance(value, str) else "")


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The keys of the section at a place below ``model``; none where it is no section."""
    kind: Any = model
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field for name, field in kind.model_fields.items()}
            kind = fields[str(part)].annotation if part in fields else None
        elif part == AS_SECTION:
            kind = next((each for each in _members(kind) if issubclass(each, BaseModel)), None)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return []
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _members(kind: Any) -> list[type]:
    """The classes among the members of a union, however deep they are annotated."""
    found = [kind] if isinstance(kind, type) else []
    for part in get_args(kind):
        found += _members(part)
    return found
