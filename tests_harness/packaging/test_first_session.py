"""From a wheel to a first session: an empty folder, ``enginegate init``, ``pytest``, ``enginegate accept``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from enginegate.storage.runs import latest_record, load_record

from tests_harness.packaging.conftest import REPOSITORY, Environment, pip

COMMITTER = ("-c", "user.name=x", "-c", "user.email=x@example.com")


def first_session(environment: Environment, folder, cache) -> None:
    """Real engines of the tiny model; the work is shortened, since machines that test this do so beside other work."""
    pytest.importorskip("openvino_genai")
    folder.mkdir()
    done = environment.run(folder, "enginegate", "init", "--model", "tiny-random", "--engine", "openvino")
    assert done.returncode == 0, done.stderr
    file = folder / "configs" / "tiny-random.yaml"
    text = file.read_text(encoding="utf-8")
    for key, value in (
        ("precisions", "[int8_wo]"),
        ("batch_sizes", "[2]"),
        ("input_len", "16"),
        ("output_len", "8"),
        ("time_budget", "60"),
    ):
        text, changed = re.subn(rf"^( +{key}: ).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
        assert changed == 1, key
    file.write_text(f"{text}\ngates:\n  speed:\n    looks: [4]\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(["git", *COMMITTER, "commit", "-qm", "first"], cwd=folder, check=True)
    done = environment.run(folder, "pytest", ENGINEGATE_CACHE=str(cache))
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_record(latest_record(folder / "runs"))
    assert record.status == "complete"
    assert {entry.metric for entry in record.verdicts} >= {"speedup", "ttft", "itl", "peak_memory", "engine_size"}
    commit = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(commit, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert record.commit
    assert head.startswith(record.commit.removesuffix("-dirty")), "the commit of the repository under test, not of ours"
    done = environment.run(folder / "tests_perf", "enginegate", "accept", "latest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((folder / "baselines" / "perf").rglob("*.json")), "accepted from a folder within the repository"


@pytest.mark.heavy
def test_wheel_with_linked_libraries(installed, tmp_path):
    first_session(installed, tmp_path / "empty", tmp_path / "cache")


@pytest.mark.heavy
def test_wheel_with_its_dependencies(wheel, tmp_path):
    """A full install into an empty environment, as a user has it."""
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    environment = Environment(place / "bin" / "python")
    pip("install", "-q", "-c", REPOSITORY / "constraints-cpu.txt", f"{wheel}[openvino]", python=environment.python)
    first_session(environment, tmp_path / "empty", tmp_path / "cache")
