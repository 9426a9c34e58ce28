"""What is in the wheel, and that an editable install finds the same."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zipfile
from pathlib import Path

import pytest

from tests_harness.packaging.conftest import REPOSITORY, Environment, linked, pip

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
HARNESS = REPOSITORY / "harness"
#: Files that are not code, by the package that they belong to.
DATA = {"configs": "enginegate.configs", "fixtures": "enginegate.fixtures", "harness/enginegate": "enginegate"}
LISTING = """
import json
from importlib import resources
import enginegate, enginegate.fixtures.suite
assert (resources.files("enginegate.templates") / "workflow.yml.txt").is_file()

def files(folder, prefix=""):
    for entry in folder.iterdir():
        if entry.is_file():
            yield prefix + entry.name
        elif entry.name != "__pycache__":
            yield from files(entry, f"{prefix}{entry.name}/")

names = ("configs", "fixtures", "templates.tests_perf", "templates.tests_quality")
print(json.dumps({name: sorted(files(resources.files(f"enginegate.{name}"))) for name in names}))
print(enginegate.__file__)
"""


def test_packages_are_those_of_the_folders():
    """The list is explicit, since data folders are mapped into the package: a new room must not be left out of it."""
    rooms = {".".join(file.parent.relative_to(HARNESS).parts) for file in HARNESS.rglob("__init__.py")}
    for package, folder in SETTINGS["package-dir"].items():
        if package:
            inner = (REPOSITORY / folder).rglob("__init__.py")
            rooms |= {".".join((package, *file.parent.relative_to(REPOSITORY / folder).parts)) for file in inner}
    assert sorted(SETTINGS["packages"]) == sorted(rooms)


def test_every_file_is_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for folder, package in {**DATA, **{v: k for k, v in SETTINGS["package-dir"].items() if k}}.items():
        for file in (REPOSITORY / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and ".egg-info" not in str(file):
                expected.add(f"{package.replace('.', '/')}/{file.relative_to(REPOSITORY / folder).as_posix()}")
    assert expected - inside == set()
    assert {name for name in inside if ".dist-info/" not in name} - expected == set()


def test_templates_are_the_repositorys_own_tests(wheel):
    """One source: what ``init`` gives to others is what this repository runs."""
    with zipfile.ZipFile(wheel) as archive:
        for folder in ("tests_perf", "tests_quality"):
            for file in (REPOSITORY / folder).glob("*.py"):
                assert archive.read(f"enginegate/templates/{folder}/{file.name}") == file.read_bytes()


def test_nothing_of_the_machine_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith((".py", ".txt", ".yaml"))]
        assert [name for name in names if str(REPOSITORY).encode() in archive.read(name)] == []


@pytest.fixture
def editable(sources, tmp_path) -> Environment:
    environment = linked(tmp_path / "environment")
    pip("install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", sources, python=environment.python)
    return environment


def test_both_kinds_of_install_find_the_same_files(installed, editable, sources, tmp_path):
    """A data folder that is no package is in the wheel, but not found by an editable install."""
    script = tmp_path / "listing.py"
    script.write_text(LISTING, encoding="utf-8")
    found = {}
    for name, environment in (("wheel", installed), ("editable", editable)):
        done = environment.run(tmp_path, "listing")
        assert done.returncode == 0, done.stderr
        files, place = done.stdout.splitlines()
        found[name] = json.loads(files)
        root = environment.python.parents[1] if name == "wheel" else sources
        assert root in Path(place).parents
    assert found["wheel"] == found["editable"]
    assert "smollm2-135m.yaml" in found["wheel"]["configs"]
    assert {"data/facts/capitals.csv", "data/questions/test.jsonl"} <= set(found["wheel"]["fixtures"])


def test_entry_point_is_named_as_its_module():
    """Under another name pytest refuses it as registered twice beside ``pytest_plugins``."""
    (entry,) = {
        (entry.name, entry.value)
        for entry in importlib.metadata.entry_points(group="pytest11")
        if entry.value.startswith("enginegate")
    }
    assert entry[0] == entry[1]
