"""The wheel of this checkout, environments that have it, and repositories of other people to use it in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FAKES = REPOSITORY / "tests_harness" / "fakes"
#: What a wheel is made of.
SOURCES = ("harness", "configs", "fixtures", "tests_perf", "tests_quality", "pyproject.toml", "README.md", "LICENSE")
OF_THE_OUTSIDE = ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS", "PYTHONPATH", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")


def pip(*arguments: object, python: Path | None = None) -> None:
    """Run this environment's pip, on another environment where ``python`` is one's."""
    where = ["--python", str(python)] if python else []
    command = [sys.executable, "-m", "pip", *where, "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """A copy of what a wheel is made of, so that nothing is built inside the checkout."""
    folder = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def wheel(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, sources)
    (found,) = folder.glob("*.whl")
    return found


@dataclass(frozen=True)
class Environment:
    """An environment of its own that enginegate is installed into."""

    python: Path

    def run(
        self, folder: Path, *command: object, path: tuple[Path, ...] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        """``python -m COMMAND...`` in ``folder``, with the fakes and the like of ``path`` to be imported."""
        kept = {name: value for name, value in os.environ.items() if name not in OF_THE_OUTSIDE}
        kept |= {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}
        if path:
            kept["PYTHONPATH"] = os.pathsep.join(map(str, path))
        arguments = [str(self.python), "-m", *map(str, command)]
        return subprocess.run(arguments, cwd=folder, env=kept, capture_output=True, text=True, timeout=900)


def linked(folder: Path) -> Environment:
    """An environment that sees the libraries of this one, but not what is installed in it in editable form."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [each for each in sys.path if each.endswith(("site-packages", "dist-packages"))]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return Environment(python)


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Environment:
    """An environment with the wheel."""
    environment = linked(tmp_path_factory.mktemp("installed") / "environment")
    pip("install", "-q", "--no-deps", "--no-index", "--force-reinstall", wheel, python=environment.python)
    return environment


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory) -> Path:
    """A checkpoint and data for the fake engines."""
    from tests_harness.fakes.workspace import make_workspace

    return make_workspace(tmp_path_factory.mktemp("toy")).folder


def use_fake_engines(folder: Path, toy_files: Path) -> None:
    """Turn what ``init --model path:checkpoint --engine fake`` wrote into a configuration for fake engines."""
    from tests_harness.fakes.workspace import CONFIG

    shutil.copytree(toy_files / "data", folder / "data")
    text = json.loads(json.dumps(CONFIG).replace('"data/', '"../data/'))
    text["model"] = {"name": "checkpoint", "source": "path:../checkpoint"}
    text["engines"] = {"fake": {"precisions": ["int8_wo"]}}
    text["workload"]["batch_sizes"] = [2]
    text["floors"] = {}
    (folder / "configs" / "checkpoint.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")
