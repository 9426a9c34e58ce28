from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).resolve().parents[1] / "fakes"
if str(FAKES) not in sys.path:
    sys.path.insert(0, str(FAKES))

from enginegate.core.records import RunRecord  # noqa: E402
from enginegate.plugin.progress import TerminalProgress  # noqa: E402
from enginegate.storage.runs import latest_record, load_record  # noqa: E402
from workspace import REPOSITORY, Workspace, make_workspace  # noqa: E402

CONFTEST = """
pytest_plugins = ["enginegate.plugin"{more}]
"""
SABOTAGE = """
import sabotage

def pytest_enginegate_engine_loaded(engine):
    return sabotage.{name}(engine) if engine.spec.precision == "{precision}" else None
"""
VARIABLES_OF_THE_OUTSIDE = (
    "CI",
    "BUILD_NUMBER",
    "ENGINEGATE_HISTORY",
    "PYTEST_ADDOPTS",
    "PYTEST_XDIST_WORKER",
    "PYTEST_XDIST_WORKER_COUNT",
)


def copy_tests(folder: Path, more: str = "", virtual: bool = True) -> None:
    """The suite's own tests, with a conftest.py and an ini that make them work anywhere."""
    (folder / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    for name in ("tests_perf", "tests_quality"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore, dirs_exist_ok=True)
    plugins = ', "virtual_time"' if virtual else ""
    (folder / "conftest.py").write_text(CONFTEST.format(more=plugins) + more, encoding="utf-8")


def clean_environment(workspace: Workspace, **more: str) -> dict[str, str]:
    """The environment of an inner session in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES_OF_THE_OUTSIDE}
    return {**kept, **workspace.environment, **more}


class Suite:
    """Runs the suite's tests against the fake backend, in a folder of their own.

    ``told``: all progress of sessions in this process; of fast ones a screen shows the least part.
    """

    def __init__(self, pytester: pytest.Pytester, workspace: Workspace) -> None:
        self.pytester = pytester
        self.workspace = workspace
        self.folder = pytester.path
        self.told: list[str] = []
        self.prepare()

    def prepare(self, sabotage: str = "", precision: str = "int8_wo", more: str = "", virtual: bool = True) -> None:
        if sabotage:
            more += SABOTAGE.format(name=sabotage, precision=precision)
        copy_tests(self.folder, more, virtual)

    def arguments(self, *args: object, config: Path | None = None) -> list[str]:
        return [
            *(str(arg) for arg in args),
            f"--config={config or self.workspace.config}",
            "--baselines=baselines",
            "-pno:cacheprovider",
            "-pno:randomly",
            "-pno:rerunfailures",
            "--strict-markers",
        ]

    def run(self, *args: object, config: Path | None = None) -> pytest.RunResult:
        """In this process: fast, for what needs no process of its own."""
        return self.pytester.runpytest_inprocess(*self.arguments(*args, config=config))

    def run_apart(self, *args: object, config: Path | None = None) -> pytest.RunResult:
        """In a process of its own."""
        return self.pytester.runpytest_subprocess(*self.arguments(*args, config=config))

    def record(self) -> RunRecord:
        """The record that was written last."""
        return load_record(latest_record(self.folder / "runs"))

    def take_baselines(self, accepted: Accepted) -> None:
        shutil.copytree(accepted.folder / "baselines", self.folder / "baselines")


class Accepted:
    """A complete session of its own process whose run was accepted."""

    def __init__(self, folder: Path, output: str, returncode: int) -> None:
        self.folder = folder
        self.output = output
        self.returncode = returncode

    @property
    def record(self) -> RunRecord:
        return load_record(latest_record(self.folder / "runs"))

    @property
    def benchmarks(self) -> dict[str, object]:
        return json.loads((self.folder / "benchmarks.json").read_text(encoding="utf-8"))

    @property
    def baseline_files(self) -> list[Path]:
        return sorted((self.folder / "baselines").rglob("*.json"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Workspace:
    from enginegate.models.tokenizer import Tokenizer

    made = make_workspace(tmp_path_factory.mktemp("workspace"))
    # Inner sessions of this process forget what they imported; these libraries do not bear being imported twice.
    Tokenizer.load(made.folder / "checkpoint")
    for module in (
        "enginegate_fake",
        "enginegate.cli",
        "enginegate.storage.history.store",
        "enginegate.report.plot",
        "enginegate.quality.measure",
        "enginegate.models.pypi",
    ):
        importlib.import_module(module)
    return made


@pytest.fixture(scope="session")
def accepted(workspace, tmp_path_factory) -> Accepted:
    from enginegate.cli import main

    folder = tmp_path_factory.mktemp("accepted")
    copy_tests(folder)
    command = [sys.executable, "-m", "pytest", "tests_perf", "tests_quality", "--precision=int8_wo", "-v", "-rA"]
    files = ["--benchmark-json=benchmarks.json", "--junitxml=junit.xml", "--baselines=baselines", "--strict-markers"]
    done = subprocess.run(
        [*command, *files, f"--config={workspace.config}", "-pno:cacheprovider", "-pno:randomly", "-pno:rerunfailures"],
        cwd=folder,
        env=clean_environment(workspace),
        capture_output=True,
        text=True,
        timeout=300,
    )
    result = Accepted(folder, done.stdout + done.stderr, done.returncode)
    code = main(["accept", str(folder / "runs" / result.record.id), f"--baselines={folder / 'baselines'}"])
    assert code == 0, result.output
    return result


@pytest.fixture
def suite(workspace, pytester, monkeypatch) -> Suite:
    for name in VARIABLES_OF_THE_OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    # Drawing takes longer than all the rest of an inner session; the accepted one, in a process of its own, draws.
    monkeypatch.setattr("enginegate.report.plot.save_plot", lambda *_: None)
    made = Suite(pytester, workspace)
    shown = TerminalProgress.__call__

    def told(progress: TerminalProgress, text: str) -> None:
        made.told.append(text)
        shown(progress, text)

    monkeypatch.setattr(TerminalProgress, "__call__", told)
    return made
