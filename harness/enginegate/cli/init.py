"""``enginegate init``: what a repository needs to be tested, written into it; nothing that is there is overwritten."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, command

if TYPE_CHECKING:
    from enginegate.cli.init_configuration import Configuration
    from enginegate.config.ini import Ini

#: Folders of tests, whose files become the repository's own.
FOLDERS = ("tests_perf", "tests_quality")
TEMPLATES = "enginegate.templates"


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
        help="a configuration that comes with enginegate, by name, or a source: hub:ORG/NAME@COMMIT, path:FOLDER, ...",
    )
    parser.add_argument("--engine", required=True, help="the backend (see `enginegate doctor`)")
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="the repository (default: this one)")
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
    if reason := why_not_here(backend):
        report.to_do.append(f"engine {backend.name} does not work on this machine: {reason}")
    plugin = _template("conftest.py")
    _write(folder, "conftest.py", plugin, report, unless="enginegate.plugin", hint=_add_line(plugin, "conftest.py"))
    for name in FOLDERS:
        for source in sorted(resources.files(f"{TEMPLATES}.{name}").iterdir(), key=lambda each: each.name):
            if source.name.endswith(".py"):
                _write(folder, f"{name}/{source.name}", source.read_text(encoding="utf-8"), report)
    _write(folder, f"configs/{configuration.name}.yaml", configuration.text, report)
    _write(folder, "baselines/README.md", _template("baselines.md"), report)
    workflow = _template("workflow.yml")
    _write(
        folder,
        ".github/workflows/enginegate.yml",
        workflow.replace("@requirement@", _requirement(backend.name)),
        report,
    )
    _set_ini(folder, before, configuration, report)
    _print(report, folder, configuration)
    return 0


def _requirement(engine: str) -> str:
    """What a CI job has to install for an engine."""
    from enginegate.engines.registry import BUILT_IN, GROUP

    if engine in BUILT_IN:
        extras = metadata.metadata("enginegate").get_all("Provides-Extra") or []
        return f"enginegate[{engine}]" if engine in extras else "enginegate"
    found = [entry.dist for entry in metadata.entry_points(group=GROUP) if entry.name == engine and entry.dist]
    return found[0].name if found else "enginegate"


def _check_ways(folder: Path, configuration: Configuration) -> None:
    """Raise ConfigError where something stands in the way, so that nothing is written by halves."""
    from enginegate.core.errors import ConfigError

    own = f"configs/{configuration.name}.yaml"
    for name in (*FOLDERS, "configs", "baselines", ".github/workflows", "."):
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


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _write(folder: Path, name: str, text: str, report: Report, *, unless: str = "", hint: str = "") -> None:
    """Write a file that is not there. Where one is, and does not hold ``unless``, ``hint`` is left to do."""
    from enginegate.core.errors import ConfigError

    path = folder / name
    try:
        if path.exists():
            there = path.read_text(encoding="utf-8", errors="replace")
            if there != text:
                report.kept.append(name)
                if unless and unless not in there:
                    report.to_do.append(hint)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "give another --folder") from error
    report.wrote.append(name)


def _add_line(text: str, name: str) -> str:
    line = next(line for line in text.splitlines() if line.startswith("pytest_plugins"))
    return f"add to {name} (or add the name to its list): {line}"


def _set_ini(folder: Path, before: Ini | None, configuration: Configuration, report: Report) -> None:
    """Say ``enginegate = true`` where pytest's settings stand; in a new pytest.ini where they stand nowhere."""
    from enginegate.config.ini import INI, INI_MODEL, Ini, with_keys
    from enginegate.core.errors import ConfigError

    model = configuration.name
    ini, pyproject = before, folder / "pyproject.toml"
    if ini is None and pyproject.is_file():
        ini = Ini(pyproject, "tool.pytest.ini_options", {})
    if ini is None:
        made = f"[pytest]\n{INI} = true\n{INI_MODEL} = {model}\ntestpaths = {' '.join(_tested(configuration))}\n"
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
        ini.path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{ini.path} cannot be written: {error.strerror}", "make it writable") from error
    report.wrote.append(f"{lines} in {name}")


def _tested(configuration: Configuration) -> tuple[str, ...]:
    """The folders that make sense of this model."""
    return FOLDERS[:1] if configuration.random_weights else FOLDERS


def _print(report: Report, folder: Path, configuration: Configuration) -> None:
    for title, lines in (("wrote", report.wrote), ("kept as it is", report.kept), ("to do", report.to_do)):
        for line in lines:
            print(f"{title}: {line}")
    if not (report.wrote or report.kept or report.to_do):
        print("everything is there already")
    if configuration.random_weights:
        print(f"{configuration.name} has random weights: its quality means nothing, and tests_quality refuses it")
    where = "" if folder == Path.cwd() else f"cd {folder} && "
    print(f"next: {where}pytest {' '.join(_tested(configuration))}")


def _template(name: str) -> str:
    return (resources.files(TEMPLATES) / f"{name}.txt").read_text(encoding="utf-8")
