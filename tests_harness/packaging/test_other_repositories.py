"""The plugin in repositories of other people: asleep where it is not used, and in nobody's way where it is."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from enginegate.storage.runs import latest_record, load_record

from tests_harness.packaging.conftest import FAKES, use_fake_engines

#: A project that has its own --model, perf, candidate and gate. It is not about language models.
CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--model", default="none", help="of car")
    parser.addoption("--strict-gates", action="store_true", help="garden gates")

def pytest_configure(config):
    config.addinivalue_line("markers", "perf: of an athlete")
    config.addinivalue_line("markers", "timed(seconds): by a watch")
    config.addinivalue_line("markers", "gates(n): in a slalom")

@pytest.fixture(params=["ann", "bob"])
def candidate(request):
    return request.param

@pytest.fixture
def gate():
    return "wooden"

@pytest.fixture
def batch_size():
    return 3

@pytest.fixture
def config(pytestconfig):
    return pytestconfig.getoption("--model")
"""
TESTS = """
import pytest

pytestmark = [pytest.mark.perf, pytest.mark.gates(2), pytest.mark.timed(9.8)]

def test_votes(candidate, gate, batch_size):
    assert candidate in ("ann", "bob")
    assert (gate, batch_size) == ("wooden", 3)

@pytest.mark.parametrize("candidate", [1, 2])
def test_numbers(candidate, config):
    assert candidate in (1, 2)
    assert config in ("none", "roadster")
"""
MODULES = """
import json, sys

def pytest_collection_finish(session):
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)
"""
QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--strict-markers")


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "theirs"
    (folder / "tests").mkdir(parents=True)
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "tests" / "test_elections.py").write_text(TESTS, encoding="utf-8")
    return folder


def modules(installed, folder, *arguments):
    (folder / "listing.py").write_text(MODULES, encoding="utf-8")
    done = installed.run(folder, "pytest", *QUIET, "-p", "listing", *arguments, path=(folder,))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, set(json.loads((folder / "modules.json").read_text(encoding="utf-8")))


def test_asleep_it_changes_nothing_and_imports_next_to_nothing(installed, theirs):
    """A test marked ``perf`` once resolved our default model, a ``candidate`` once ended the session, and a ``--model``
    of another plugin crashed pytest."""
    said, with_it = modules(installed, theirs, "--model=roadster", "-m", "perf")
    assert "4 passed" in said
    said, without = modules(installed, theirs, "--model=roadster", "-m", "perf", "-p", "no:enginegate.pytest_options")
    assert "4 passed" in said
    more = {name for name in with_it - without if name.partition(".")[0] not in sys.stdlib_module_names}
    assert more == {
        "enginegate",
        "enginegate.config",
        "enginegate.config.ini",
        "enginegate.config.project",
        "enginegate.core",
        "enginegate.core.errors",
        "enginegate.pytest_options",
    }
    assert not (theirs / "runs").exists()
    done = installed.run(theirs, "pytest", "--markers")
    assert "eg_" not in done.stdout


def test_asleep_its_short_names_are_unknown_and_its_long_ones_are_refused_with_the_hint(installed, theirs):
    done = installed.run(theirs, "pytest", *QUIET, "--precision=int8_wo")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --precision=int8_wo" in done.stderr
    done = installed.run(theirs, "pytest", *QUIET, "--eg-precision=int8_wo")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--eg-precision: no conftest.py of this project asks for enginegate's plugin" in done.stderr
    assert 'pytest_plugins = ["enginegate.plugin"]' in done.stderr


@pytest.fixture
def beside(installed, theirs, toy_files):
    """Their repository after ``init``, and after what it said was left to do."""
    shutil.copytree(toy_files / "checkpoint", theirs / "checkpoint")
    done = installed.run(theirs, "enginegate", "init", "--model", "path:checkpoint", "--engine", "fake", path=(FAKES,))
    assert done.returncode == 0, done.stderr
    line = 'pytest_plugins = ["enginegate.plugin"]'
    assert f"to do: add to conftest.py (or add the name to its list): {line}" in done.stdout
    (theirs / "conftest.py").write_text(f"{line}\n{CONFTEST}", encoding="utf-8")
    use_fake_engines(theirs, toy_files)
    return theirs


@pytest.mark.heavy
def test_beside_their_tests_both_are_green(installed, beside, tmp_path):
    """Each gets its own fixtures, and ``--model`` stays theirs; a path given without ``=`` is no test."""
    variables = {"ENGINEGATE_CACHE": str(tmp_path / "cache")}
    command = ("pytest", *QUIET, "-p", "virtual_time", "tests", "tests_perf", "tests_quality", "--model=roadster")
    done = installed.run(beside, *command, path=(FAKES,), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_record(latest_record(beside / "runs"))
    assert record.status == "complete", record.warnings
    assert {entry.metric for entry in record.verdicts} >= {"speedup", "ttft", "peak_memory", "bleu", "perplexity"}
    assert {entry.test.partition("/")[0] for entry in record.verdicts} == {"tests_perf", "tests_quality"}
    assert "passed" in done.stdout
    command = ("pytest", *QUIET, "--config", beside / "configs" / "checkpoint.yaml", "--collect-only", "--precision")
    done = installed.run(beside, *command, "int4_wo", path=(FAKES,), **variables)
    names = [line for line in done.stdout.splitlines() if "::" in line]
    assert "tests_perf/test_speedup.py::test_speedup[checkpoint-fake-int4_wo-b2]" in names
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"tests", "tests_perf", "tests_quality"}, "pytest alone still runs theirs"


@pytest.mark.heavy
def test_in_company_and_from_any_working_directory(installed, beside, tmp_path):
    """Other plugins, another import mode, no cache and no pytest-benchmark, from a folder elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = installed.run(
        elsewhere,
        *("pytest", beside, "-p", "virtual_time", "--import-mode=importlib", "-p", "no:cacheprovider"),
        *("-p", "no:benchmark", "-p", "randomly", "-p", "pytest_cov", "--cov", beside / "tests_perf"),
        *("--timeout=600", "--reruns=1", "--strict-markers", "-v", "-k", "speedup or engine_size or similarity"),
        path=(FAKES,),
        ENGINEGATE_CACHE=str(tmp_path / "cache"),
        COVERAGE_FILE=str(tmp_path / "coverage"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Using --randomly-seed" in done.stdout
    assert "rerun" not in done.stdout.splitlines()[-1]
    record = load_record(latest_record(beside / "runs"))
    assert record.status == "complete"
    tests = [entry.test for entry in record.verdicts]
    assert len(tests) == len(set(tests)) == 5
    assert not (elsewhere / "runs").exists()


CHOOSY = """
import argparse

FLAVOURS = {"mint": 1}

def pytest_addoption(parser):
    parser.addoption("--model", type=lambda value: FLAVOURS[value], default="mint")
    parser.getgroup("theirs").addoption("--runs", type=argparse.FileType("w"))
"""


def test_their_options_are_looked_up_and_not_tried_out(installed, theirs):
    """To see whether a name was taken, it was parsed with the value x: a KeyError at every start, and a file x."""
    (theirs / "conftest.py").write_text(CHOOSY, encoding="utf-8")
    (theirs / "tests" / "test_elections.py").write_text("def test_it(): pass\n", encoding="utf-8")
    (theirs / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    done = installed.run(theirs, "pytest", *QUIET, "--model=mint")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (theirs / "x").exists()


OWN_CONFIG = """
def pytest_addoption(parser):
    parser.addoption("--config")
"""


def test_a_project_below_with_settings_of_its_own_is_left_alone(installed, theirs):
    """Its --config was taken for ours, and its session refused, since the folder above uses enginegate."""
    (theirs / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    (theirs / "conftest.py").unlink()
    other = theirs / "other"
    other.mkdir()
    for name, text in (("pytest.ini", "[pytest]\n"), ("conftest.py", OWN_CONFIG), ("conf.yaml", "a: 1\n")):
        (other / name).write_text(text, encoding="utf-8")
    (other / "test_it.py").write_text("def test_it(pytestconfig): assert pytestconfig.getoption('config')\n")
    done = installed.run(other, "pytest", *QUIET, "test_it.py", "--config", "conf.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = installed.run(theirs / "tests", "pytest", *QUIET, "--config", other / "conf.yaml")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, "this is ours"


@pytest.mark.parametrize("name", ["--config", "--runs", "--baselines"])
def test_a_value_of_theirs_that_is_no_path_is_left_alone(installed, theirs, name):
    """Asking whether there is a file of so long a name ended in an INTERNALERROR."""
    (theirs / "conftest.py").write_text(OWN_CONFIG.replace("--config", name), encoding="utf-8")
    (theirs / "tests" / "test_elections.py").write_text("def test_it(): pass\n", encoding="utf-8")
    done = installed.run(theirs, "pytest", *QUIET, "tests", name, "x" * 300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_without_its_options_says_so(installed, theirs):
    (theirs / "conftest.py").write_text('pytest_plugins = ["enginegate.plugin"]\n', encoding="utf-8")
    done = installed.run(theirs, "pytest", *QUIET, "-p", "no:enginegate.pytest_options")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "hint: leave out -p no:enginegate.pytest_options" in done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_a_job_installs_what_its_engine_needs(installed, tmp_path):
    """Engine hf needs torch, and the job installed none."""
    pytest.importorskip("torch")
    for engine in ("hf", "hf-graph"):
        folder = tmp_path / engine
        folder.mkdir()
        done = installed.run(folder, "enginegate", "init", "--model", "random:tiny?seed=1", "--engine", engine)
        assert done.returncode == 0, done.stderr
        text = (folder / ".github/workflows/enginegate.yml").read_text(encoding="utf-8")
        assert 'install: "enginegate[hf]"' in text
