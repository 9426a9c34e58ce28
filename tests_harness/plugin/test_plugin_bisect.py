"""``enginegate history bisect`` with real races of the fake engine, launched again and again."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from enginegate.cli import main
from enginegate.storage.runs import load_record
from workspace import CONFIG

pytest_plugins = ["pytester"]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.heavy
def test_the_commit_whose_configuration_is_slower_is_found(suite, monkeypatch, capsys):
    """Five commits, from the third on the engine takes twice as long; times are real, and the margins wide."""
    monkeypatch.setattr("enginegate.measure.arena.foreign_load", lambda *_: 0.0)
    suite.prepare(virtual=False)
    folder = suite.folder
    (folder / "configs").mkdir()
    for place in ("checkpoint", "data"):
        (folder / "configs" / place).symlink_to(suite.workspace.folder / place)
    (folder / ".gitignore").write_text("configs/checkpoint\nconfigs/data\nruns\n")
    git(folder, "init", "-q")
    for number in range(5):
        config = copy.deepcopy(CONFIG)
        config["engines"]["fake"]["runtime"] = {"slower": 2.0 if number >= 2 else 1.0}
        config["gates"]["live"] = {"pairs": 4}
        (folder / "configs" / "toy.yaml").write_text(f"# {number}\n{yaml.safe_dump(config)}", encoding="utf-8")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"change {number}")
    commits = git(folder, "rev-list", "--reverse", "HEAD").split()
    monkeypatch.chdir(folder)
    asked = ["--config=configs/toy.yaml", "--precision=int8_wo", "--batch-size=1", "--size=80%"]
    assert main(["history", "bisect", commits[0], "HEAD", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == commits[2]
    assert found["steps"][0]["answer"] == "bad"
    record = load_record(Path(found["steps"][0]["record"]))
    (verdict,) = record.verdicts
    assert verdict.inputs["policy"]["margin"] == pytest.approx(0.2)
    assert verdict.inputs["policy"]["looks"][-1] == 32
    assert verdict.alpha == pytest.approx(0.05 / 3, rel=1e-3)
    assert not (folder / "runs" / "history.sqlite").exists(), "runs of other commits are none of this checkout's"
