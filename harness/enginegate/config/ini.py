"""pytest's own settings in a folder: which file has them, what they are, and how a key is added.

Imports the standard library alone, since every session of pytest does where the package is installed.
"""

from __future__ import annotations

import configparser
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ConfigError

#: The ini's keys: whether the project uses enginegate, and the model that it tests where no option names one.
INI, INI_MODEL = "enginegate", "enginegate_model"
#: Files that pytest takes its ini from, in its order, with the tables that it looks for in each; the first counts.
FILES: Mapping[str, tuple[str, ...]] = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool.pytest.ini_options", "tool.pytest"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
#: These are pytest's even where they are empty.
ALWAYS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")


@dataclass(frozen=True)
class Ini:
    """Where a folder's pytest settings stand, and what they are.

    Attributes:
        path: the file.
        table: the name of the table or section in it.
        values: its keys, as the file's format gives them.
    """

    path: Path
    table: str
    values: Mapping[str, Any]

    def line(self, key: str, value: bool | str) -> str:
        """``key = value`` as the file's format writes it."""
        toml = self.path.suffix == ".toml" and not isinstance(value, bool)
        return f"{key} = {json.dumps(value) if toml else str(value).lower() if isinstance(value, bool) else value}"

    @property
    def on(self) -> bool:
        """Whether it says that the project uses enginegate."""
        return str(self.values.get(INI, "")).strip().lower() in ("1", "yes", "true", "on")


def read_ini(folder: Path) -> Ini | None:
    """The settings that pytest would take from ``folder``, or None. Raises ConfigError for a file that is no ini."""
    for name, tables in FILES.items():
        path = folder / name
        if not path.is_file():
            continue
        file = parse_ini(path.name, _text(path), str(path))
        for table in tables:
            if table in file:
                return Ini(path, table, file[table])
        if name in ALWAYS:
            return Ini(path, tables[0], {})
    return None


def parse_ini(name: str, text: str, where: str) -> dict[str, dict[str, Any]]:
    """The tables of ``text`` that concern pytest, by name. Raises ConfigError naming ``where`` it stands."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        if not name.endswith(".toml"):
            parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
            parser.read_string(text)
            return {section: dict(parser[section]) for section in parser.sections()}
        document = tomllib.loads(text)
    except (configparser.Error, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where} cannot be read: {error}", "fix the file; pytest reads it, too") from error
    found = {}
    for table in FILES[name]:
        inner: Any = document
        for key in table.split("."):
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            found[table] = inner
    return found


def with_keys(ini: Ini, missing: Mapping[str, bool | str]) -> str | None:
    """The file's text with keys added, in a table of that name where there is none yet.

    Returns:
        None where the file is written in a way in which they cannot be added without reading it differently.
        Its line endings are the file's own.
    """
    text = _text(ini.path) if ini.path.is_file() else ""
    end = "\r\n" if "\r\n" in text else "\n"
    header = re.search(rf"^\[{re.escape(ini.table)}\][^\n]*(\n|\Z)", text, re.MULTILINE)
    block = "".join(f"{ini.line(key, value)}{end}" for key, value in missing.items())
    if header is None:
        gap = "" if not text else end if text.endswith("\n") else end * 2
        changed = f"{text}{gap}[{ini.table}]{end}{block}"
    else:
        head = text[: header.end()]
        changed = f"{head}{'' if head.endswith(chr(10)) else end}{block}{text[header.end() :]}"
    try:
        found = parse_ini(ini.path.name, changed, str(ini.path)).get(ini.table, {})
    except ConfigError:
        return None
    unchanged = {key: value for key, value in found.items() if key not in missing}
    return changed if unchanged == dict(ini.values) and missing.keys() <= found.keys() else None


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:  # newline: CRLF stays CRLF
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "fix the file; pytest reads it, too") from error
