"""``enginegate init``: what a repository needs to be tested, written into it; nothing that is there is overwritten."""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, command, folder, say

if TYPE_CHECKING:
    from enginegate.cli.init_configuration import Configuration
    from enginegate.config.ini import Ini

#: Folders of tests, whose files become the repository's own.
FOLDERS = ("tests_perf", "tests_quality")
TEMPLATES = "enginegate.templates"
#: What a root conftest.py has to name, and what that of a folder of tests has to import.
PLUGIN, FIXTURES = "enginegate.plugin", "enginegate.fixtures.suite"
#: Where the CI job finds the Action: a copy of this version's.
ACTION = ".github/actions/enginegate"
#: Run records are kept as artifacts, not in git.
IGNORE = "*\n!.gitignore\n"


@dataclass
class Report:
    """What was written, what was there and stays as it is, and what is left to do by hand."""

    wrote: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "init",
        "write into this folder what its pytest needs to build, measure and gate a model's engines",
        "enginegate init --model smollm2-135m --engine openvino",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="a configuration that comes with enginegate, by name, or a source: hub:ORG/NAME@COMMIT, path:FOLDER, "
        "path:FILE.gguf, ...",
    )
    parser.add_argument("--engine", required=True, help="the backend (see `enginegate doctor`)")
    parser.add_argument(
        "--folder", type=folder, default=Path(), metavar="DIR", help="the repository (default: this one)"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, then print what was done and what is next. Raises EngineGateError before anything is written."""
    from enginegate.cli.init_configuration import new_configuration, why_not_here
    from enginegate.config.ini import read_ini
    from enginegate.engines.registry import load_backend

    folder = arguments.folder.absolute()
    backend = load_backend(arguments.engine)
    configuration = new_configuration(arguments.model, backend, folder)
    _check_ways(folder, configuration)
    before = read_ini(folder) if folder.is_dir() else None
    report = Report()
    _check_above(folder, before, report)
    others = _other_tests(folder)
    if reason := why_not_here(backend):
        report.to_do.append(f"engine {backend.name} does not work on this machine: {reason}")
    _write(folder, "conftest.py", _template("conftest.py"), report)
    root = _names(folder / "conftest.py")
    if PLUGIN not in root:
        report.to_do.append(f'add to conftest.py (or add the name to its list): pytest_plugins = ["{PLUGIN}"]')
    for name in FOLDERS:
        for source in sorted(resources.files(f"{TEMPLATES}.{name}").iterdir(), key=lambda each: each.name):
            if source.name.endswith(".py"):
                _write(folder, f"{name}/{source.name}", source.read_text(encoding="utf-8"), report)
        if FIXTURES not in root | _names(folder / name / "conftest.py"):
            report.to_do.append(f"add to {name}/conftest.py: from {FIXTURES} import *")
    tests = " ".join(_tested(configuration))
    _write(folder, f"configs/{configuration.name}.yaml", configuration.text, report)
    _write(folder, "baselines/README.md", _template("baselines.md").replace("@tests@", tests), report)
    _write(folder, "runs/.gitignore", IGNORE, report)
    _write(folder, f"{ACTION}/action.yml", _template("action.yml"), report)
    workflow = _template("workflow.yml").replace("@requirement@", _requirement(backend.name))
    _write(folder, ".github/workflows/enginegate.yml", workflow.replace("@tests@", tests), report)
    _set_ini(folder, before, configuration, others, report)
    _print(report, folder, configuration)
    return 0


def _requirement(engine: str) -> str:
    """What a CI job has to install for an engine."""
    from enginegate.engines.registry import BUILT_IN, GROUP

    if engine in BUILT_IN:
        extras = metadata.metadata("enginegate").get_all("Provides-Extra") or []
        extra = next((name for name in (engine, engine.partition("-")[0]) if name in extras), "")
        return f"enginegate[{extra}]" if extra else "enginegate"
    found = [entry.dist for entry in metadata.entry_points(group=GROUP) if entry.name == engine and entry.dist]
    return found[0].name if found else "enginegate"


def _check_ways(folder: Path, configuration: Configuration) -> None:
    """Raise ConfigError where something stands in the way, so that nothing is written by halves."""
    from enginegate.core.errors import ConfigError

    own = f"configs/{configuration.name}.yaml"
    for name in (*FOLDERS, "configs", "baselines", "runs", ".github/workflows", ACTION, "."):
        for place in _upwards(folder / name):
            if place.exists() and not place.is_dir():
                raise ConfigError(
                    f"{place} is no folder, so that nothing can be written into it",
                    "move it out of the way, or give another --folder",
                )
    path = folder / own
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != configuration.text:
        raise ConfigError(
            f"{path} is there, and is not what --model and --engine would write",
            "keep it and edit it by hand, or move it away first",
        )


def _check_above(folder: Path, before: Ini | None, report: Report) -> None:
    """Raise ConfigError inside somebody's repository: pytest takes ``pytest_plugins`` from the root folder alone.

    In a ``conftest.py`` further down it is an error that stops every test of the repository. A folder that has pytest
    settings of its own is a root folder by itself, as long as pytest is started there.
    """
    from enginegate.core.errors import ConfigError

    above = next((place for place in folder.parents if not (folder / ".git").exists() and _is_root(place)), None)
    if above is None:
        return
    if before is None:
        raise ConfigError(
            f"{folder} lies inside a repository, {above}: pytest started there would stop at the conftest.py written"
            " here, since it takes pytest_plugins from the root folder alone",
            f"write into the root folder: --folder {above}; or, if this folder is a project of its own, put a"
            " pytest.ini into it first",
        )
    report.to_do.append(
        f"start pytest in {folder}, never in {above}, where its conftest.py is an error; "
        f"if tests are run there, too, have them leave it out: addopts = --ignore={folder.relative_to(above)}"
    )


def _is_root(place: Path) -> bool:
    """Whether pytest may be started in a folder: it has settings, a conftest.py or is a checkout's root."""
    from enginegate.config.ini import read_ini
    from enginegate.core.errors import ConfigError

    try:
        return (place / ".git").exists() or (place / "conftest.py").is_file() or read_ini(place) is not None
    except (ConfigError, OSError):
        return False  # nothing that can be read there is pytest's


def _other_tests(folder: Path) -> str:
    """A test file outside our folders, or an empty string: where there is one, ``testpaths`` is not ours to set."""
    for place, inner, files in os.walk(folder):
        skipped = {*FOLDERS} if place == str(folder) else set()
        inner[:] = sorted(
            name
            for name in inner
            if name not in {"node_modules", "venv", "build", "dist", *skipped}
            and not name.startswith(".")
            and not Path(place, name, "pyvenv.cfg").is_file()
        )
        for name in sorted(files):
            if name.endswith("_test.py") or (name.startswith("test_") and name.endswith(".py")):
                return Path(place, name).relative_to(folder).as_posix()
    return ""


def _names(path: Path) -> set[str]:
    """The modules that a file imports, and those in its strings, as in ``pytest_plugins``; not those in comments."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= {each.strip() for each in node.value.split(",")}
    return found


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _write(folder: Path, name: str, text: str, report: Report) -> None:
    """Write a file that is not there."""
    from enginegate.core.errors import ConfigError
    from enginegate.core.files import write_atomically

    path = folder / name
    try:
        if path.exists():
            if path.read_text(encoding="utf-8", errors="replace") != text:
                report.kept.append(name)
            return
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "give another --folder") from error
    report.wrote.append(name)


def _set_ini(folder: Path, before: Ini | None, configuration: Configuration, others: str, report: Report) -> None:
    """Say ``enginegate = true`` where pytest's settings stand; in a new pytest.ini where they stand nowhere.

    ``others``: a test file that is not ours. Where there is none, a new pytest.ini has ``testpaths``.
    """
    from enginegate.config.ini import INI, INI_MODEL, Ini, with_keys
    from enginegate.core.errors import ConfigError
    from enginegate.core.files import write_atomically

    model = configuration.name
    ini, pyproject = before, folder / "pyproject.toml"
    if ini is None and pyproject.is_file():
        ini = Ini(pyproject, "tool.pytest.ini_options", {})
    if ini is None:
        tests = " ".join(_tested(configuration))
        made = f"[pytest]\n{INI} = true\n{INI_MODEL} = {model}\n"
        if others:
            theirs = others.partition("/")[0]
            report.to_do.append(
                f"pytest alone runs all tests, {others} as well as those of enginegate, which may take long; "
                f"to choose, add testpaths to pytest.ini, for example testpaths = {theirs} {tests}"
            )
        else:
            made += f"testpaths = {tests}\n"
        _write(folder, "pytest.ini", made, report)
        return
    name = ini.path.name
    wanted: dict[str, bool | str] = {INI: True, INI_MODEL: model}
    if INI in ini.values and not ini.on:
        report.to_do.append(f"set {INI} = true in [{ini.table}] of {name}")
    if ini.values.get(INI_MODEL, model) != model:
        there = ini.values[INI_MODEL]
        report.to_do.append(f"{name} says {INI_MODEL} = {there}: change it, or give --model {model} to pytest")
    missing = {key: value for key, value in wanted.items() if key not in ini.values}
    if not missing:
        return
    lines = "; ".join(ini.line(key, value) for key, value in missing.items())
    text = with_keys(ini, missing)
    if text is None:
        report.to_do.append(f"add to [{ini.table}] of {name}: {lines}")
        return
    try:
        write_atomically(ini.path.resolve(), text)  # resolve: a link stays one
    except OSError as error:
        raise ConfigError(f"{ini.path} cannot be written: {error.strerror}", "make it writable") from error
    report.wrote.append(f"{lines} in {name}")


def _tested(configuration: Configuration) -> tuple[str, ...]:
    """The folders that make sense of this model."""
    return FOLDERS[:1] if configuration.random_weights else FOLDERS


def _print(report: Report, folder: Path, configuration: Configuration) -> None:
    for title, lines in (("wrote", report.wrote), ("kept as it is", report.kept), ("to do", report.to_do)):
        for line in lines:
            say(f"{title}: {line}")
    if not (report.wrote or report.kept or report.to_do):
        say("everything is there already")
    if configuration.random_weights:
        say(f"{configuration.name} has random weights: its quality means nothing, and tests_quality refuses it")
    where = "" if folder == Path.cwd() else f"cd {folder} && "
    say(f"next: {where}pytest {' '.join(_tested(configuration))}")


def _template(name: str) -> str:
    return (resources.files(TEMPLATES) / f"{name}.txt").read_text(encoding="utf-8")
