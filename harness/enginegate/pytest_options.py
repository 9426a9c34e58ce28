"""What pytest loads wherever this package is installed: options that begin with ``--eg-``, and nothing else.

This is the module of the ``pytest11`` entry point, and its name there is the module's own: under another name pytest
would refuse it as registered twice beside ``pytest_plugins``. It imports nothing but pytest and the standard library,
defines no fixture, marker or hook, and looks at no test. What does all that is ``enginegate.plugin``, which a project's
``conftest.py`` asks for by ``pytest_plugins = ["enginegate.plugin"]``.

Where the project's ini says ``enginegate = true``, the options have short names, too (``--model`` for ``--eg-model``):
those that no other plugin and no conftest.py has taken.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import itertools
import re
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enginegate.config.ini import INI, INI_MODEL, read_ini
from enginegate.config.project import DEFAULT_MODEL
from enginegate.core.errors import ConfigError

#: The plugin that does something, and the one behind ``--eg-require-trtllm``.
PLUGIN, REQUIRE_TRTLLM = "enginegate.plugin", "enginegate.engines.trtllm.pytest_require"


@dataclass(frozen=True)
class Option:
    """One option. ``name``: without its dashes and prefix; ``value``: what stands for a flag, None where one is given.

    ``folder_or_file``: its value is a path, which pytest may take for a test where it is written without ``=``.
    """

    name: str
    help: str
    default: Any = ""
    value: bool | None = None
    dest: str = ""
    folder_or_file: bool = False

    @property
    def key(self) -> str:
        """Where its value lies in ``config.option``."""
        return f"eg_{(self.dest or self.name).replace('-', '_')}"

    @property
    def long(self) -> str:
        """Its name everywhere."""
        return f"--eg-{self.name}"

    @property
    def short(self) -> str:
        """Its name where the project's ini says ``enginegate = true``."""
        return f"--{self.name}"

    def declare(self, group: pytest.OptionGroup, name: str, text: str) -> None:
        """Declare the option under ``name``. Raises ValueError where that is taken."""
        action = "store" if self.value is None else "store_true" if self.value else "store_false"
        group.addoption(name, dest=self.key, action=action, default=self.default, help=text)


OPTIONS = (
    Option("model", f"models by configuration name, comma separated (default: the ini's {INI_MODEL}, {DEFAULT_MODEL})"),
    Option("config", "configuration files of your own, comma separated", folder_or_file=True),
    Option("engine", "backends, comma separated (default: the configuration's)"),
    Option("precision", "precisions, comma separated, e.g. full_prec,int8_wo,int4_awq"),
    Option("batch-size", "batch sizes of the timed work, comma separated, e.g. 1,8"),
    Option("baselines", "folder of accepted baselines (default: baselines in the root folder)", folder_or_file=True),
    Option(
        "against",
        "race each engine against a live base: git:REF, lock:FILE, python:PATH, exec:COMMAND, config:FILE or accepted",
    ),
    Option(
        "shard", "run one part of the session's engines, I/N such as 1/3; `enginegate merge` joins the parts' records"
    ),
    Option("require-baseline", "fail where a baseline is missing (the default where CI is set)", None, True),
    Option("no-require-baseline", "undo --eg-require-baseline", None, False, "require-baseline"),
    Option("strict-gates", "an INCONCLUSIVE verdict fails its test", False, True),
    Option("time-budget", "seconds for all timed arenas together"),
    Option("runs", "folder of the run records (default: runs in the root folder)", folder_or_file=True),
    Option("history", "SQLAlchemy URL of the history (default: an SQLite file in the folder of the run records)"),
    Option("serving", "run the tests of serving, too, which take minutes for each engine", False, True),
    Option("techniques", "run the tests of techniques of serving, too: minutes for each engine", False, True),
    Option("gate-audit", "measure the gates' own false alarms and power on this machine", False, True),
    Option("price-per-hour", "what the machine costs an hour, for the cost of a million tokens in the tables"),
    Option("require-gpu", "fail where no test ran an engine on an NVIDIA GPU", False, True),
    Option("require-trtllm", "turn every skip into a failure, for a job that must run TensorRT-LLM", False, True),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the long names, and the ini's keys. Raises UsageError where another plugin has declared one of them."""
    _refuse_claimed(parser, 0)
    for option in OPTIONS:
        option.declare(_group(parser), option.long, option.help)
    parser.addini(INI, "this project uses enginegate: its options have short names, too", type="bool", default=False)
    parser.addini(INI_MODEL, "the model that is tested where no option names one", default=DEFAULT_MODEL)


def _refuse_claimed(parser: pytest.Parser, ours: int) -> None:
    """Raise UsageError where one of our options was declared more often than by us, ``ours`` times."""
    for option in OPTIONS:
        holders = [
            group.name or "custom options"
            for group in (parser._anonymous, *parser._groups)
            if any(option.long in each.names() for each in group.options)
        ]
        if len(holders) > ours:
            raise _claimed(option.long, f"another plugin, in the group {holders[0]!r} of pytest --help")


@contextmanager
def _naming_who_claims() -> Iterator[None]:
    """A plugin or conftest.py that claims one of our options after us ends in an error of argparse, or of pytest."""
    try:
        yield
    except (argparse.ArgumentError, ValueError) as error:
        name = next((option.long for option in OPTIONS if re.search(rf"{option.long}\b(?!-)", str(error))), None)
        if name is None:
            raise
        files = [
            frame.f_code.co_filename
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_name == "pytest_addoption"
        ]
        raise _claimed(name, files[-1] if files else "another plugin") from error


def _claimed(name: str, other: str) -> pytest.UsageError:
    return pytest.UsageError(
        f"the option {name} is declared twice: by enginegate ({__name__}), and by {other}; "
        f"hint: rename the other's option, or leave one of the two out (-p no:{__name__})"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Accept the short names that are free, where the project's ini asks for them.

    Which are free is known when every conftest.py has been read. Until then pytest, which looks for conftest.py files
    beside what it is asked to test, must not take the value of ``--config FILE`` for a test.
    """
    _refuse_claimed(parser, 1)
    if not early_config.getini(INI):
        check_root(early_config)
        with _naming_who_claims():
            yield
        _refuse_claimed(parser, 1)
        return
    free = [option for option in OPTIONS if not _taken(parser, option.short)]
    before = early_config.known_args_namespace
    plain = {option.short: option.long for option in free}
    known = parser.parse_known_args([_renamed(each, plain) for each in args], copy.copy(early_config.option))
    known.confcutdir = before.confcutdir  # pytest has put its own there
    early_config.known_args_namespace = known
    with _naming_who_claims():
        yield
    _refuse_claimed(parser, 1)
    for option in free:
        if not _taken(parser, option.short):
            option.declare(_group(parser), option.short, f"short for {option.long}")


def pytest_configure(config: pytest.Config) -> None:
    """An option that would do nothing is an error. Raises UsageError."""
    if config.getoption("eg_require_trtllm") and not config.pluginmanager.hasplugin(REQUIRE_TRTLLM):
        config.pluginmanager.register(importlib.import_module(REQUIRE_TRTLLM), REQUIRE_TRTLLM)
    if config.pluginmanager.hasplugin(PLUGIN):
        return
    given = [
        option.long
        for option in OPTIONS
        if config.getoption(option.key) != option.default and option.key != "eg_require_trtllm"
    ]
    if given:
        raise pytest.UsageError(
            f"{', '.join(given)}: no conftest.py of this project asks for enginegate's plugin: nothing would be tested"
            f'; hint: put pytest_plugins = ["{PLUGIN}"] into the conftest.py of the root folder {config.rootpath}'
            " (`enginegate init` writes it)"
        )


def check_root(config: pytest.Config) -> None:
    """Raise UsageError where pytest took an option's path for a test's, and so missed the project's root folder.

    It looks for that before any plugin is asked: ``pytest --config /elsewhere/my.yaml`` has its root elsewhere.
    A project below ours that has settings of its own is not ours, and neither are its options.
    """
    here = config.invocation_params.dir
    for first, second in itertools.pairwise(config.invocation_params.args):
        if not any(option.folder_or_file and first in (option.long, option.short) for option in OPTIONS):
            continue
        try:
            root = _own_root(here) if Path(here, second).exists() else None
        except (ConfigError, OSError, ValueError):
            return  # somebody else's broken file is pytest's to complain of, and what is no path is no test either
        if root is not None and root != config.rootpath:
            raise pytest.UsageError(
                f"the root folder is {root}, and pytest took {config.rootpath} for it; "
                f"hint: write {first}={second}, since pytest takes a path without = for a test's"
            )


def _own_root(here: Path) -> Path | None:
    """The root folder that pytest finds from ``here`` where nothing misleads it, if that uses enginegate."""
    for folder in (here, *here.parents):
        found = read_ini(folder)
        if found is not None:
            return folder if found.on else None
    return None


def _group(parser: pytest.Parser) -> pytest.OptionGroup:
    return parser.getgroup("enginegate", "benchmark and regression gates for LLM engines")


def _taken(parser: pytest.Parser, name: str) -> bool:
    """Whether somebody has declared an option of this name.

    It is looked up, and not parsed: that would run the ``type`` and ``action`` of whoever declared it.
    """
    groups = (parser._anonymous, *parser._groups)  # pytest names declared options nowhere else
    return any(name in option.names() for group in groups for option in group.options)


def _renamed(argument: str, names: dict[str, str]) -> str:
    name, equals, value = str(argument).partition("=")
    return names.get(name, name) + equals + value
