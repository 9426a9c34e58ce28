"""``enginegate history bisect``: over a repository of commits, with races that are played, and with real ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from enginegate.cli import main
from enginegate.core.errors import EngineError

from tests_harness.storage.factory import verdict_entry


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> SimpleNamespace:
    """Twelve commits; ``commits`` are those after the first."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    for number in range(12):
        git(folder, "commit", "-q", "--allow-empty", "-m", f"change {number}")
    commits = git(folder, "rev-list", "--reverse", "HEAD").split()
    return SimpleNamespace(folder=folder, good=commits[0], commits=commits[1:])


@pytest.fixture
def played(monkeypatch, repository):
    """Races whose verdict is known: FAIL from a commit on; what was asked of each."""
    asked = []

    def play(first: int, odd=lambda _: None):
        def race(arguments):
            asked.append(arguments)
            place = next(place for place, commit in enumerate(repository.commits) if commit in arguments.head)
            broken = odd(place)
            if isinstance(broken, Exception):
                raise broken
            status = broken or ("FAIL" if place >= first else "PASS")
            judged = status not in ("BROKEN", "NONE")
            said = f"{status.lower()} at {place}"
            verdicts = [verdict_entry("e", status=status, explanation=said, change=0.06)] if judged else []
            record = SimpleNamespace(verdicts=verdicts)
            session = SimpleNamespace(saved=[(record, Path("runs/x/run.json"))])
            return session, ["e: it broke off"] if status == "BROKEN" else [], []

        monkeypatch.setattr("enginegate.cli.duet.race", race)
        return asked

    return play


def ask(repository, *more: str) -> int:
    place = ["--repository", str(repository.folder)]
    return main(["history", "bisect", repository.good, repository.commits[-1], *place, *more])


def test_the_commit_is_found_and_every_step_told(repository, played, capsys):
    asked = played(7)
    assert ask(repository, "--size", "4%", "--precision", "int8_wo", "--batch-size", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("11 commits, about 5 steps: a slowdown of 4 %, alpha and beta 1 % each, margin 1 %")
    assert said[1].startswith(f"{repository.commits[-1][:12]}  bad ")
    assert said[-1].startswith("first slower commit: ")
    assert said[-1].endswith("change 8; fail at 7")
    assert len(asked) <= 5
    first = asked[0]
    assert (first.base, first.precision, first.batch_size) == (f"git:{repository.good}", "int8_wo", "1")
    assert (first.margin, first.tolerated, first.alpha) == (0.01, pytest.approx(0.03), pytest.approx(0.01))
    assert first.looks == "4,6,8,10,12,16,24,32"


def test_a_last_commit_that_is_not_slower_ends_the_search(repository, played, capsys):
    asked = played(99)
    assert ask(repository) == 1
    assert "is not slower than" in capsys.readouterr().out
    assert len(asked) == 1


def odd_at(*places, what):
    return lambda place: what if place in places else None


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("INCONCLUSIVE", "inconclusive at 7"),
        (EngineError("no such engine"), "not raced: no such engine"),
        ("BROKEN", "not judged: e: it broke off"),
        ("NONE", "not judged: 0 verdicts in place of one"),
    ],
)
def test_what_decides_nothing_is_skipped(repository, played, capsys, what, told):
    played(7, odd_at(7, what=what))
    assert ask(repository, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["first"] is None
    assert found["among"] == repository.commits[7:9]
    (skipped,) = [step for step in found["steps"] if step["answer"] == "skip"]
    assert skipped["said"].startswith(told)


def test_an_end_that_decides_nothing_ends_the_search(repository, played, capsys):
    played(7, odd_at(10, what="INCONCLUSIVE"))
    assert ask(repository) == 3
    assert "cannot be told from" in capsys.readouterr().out
    assert ask(repository, "--trust-ends") == 0


def test_a_side_is_what_runs_a_commit(repository, played):
    asked = played(0)
    assert ask(repository, "--side", "exec:run {commit} python3") == 0
    assert asked[0].base == f"exec:run {repository.good} python3"
    assert asked[0].head == f"exec:run {repository.commits[-1]} python3"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["HEAD", "nowhere"], "there is no commit 'nowhere'"),
        (["HEAD", "HEAD~3"], "is not before HEAD~3"),
        (["HEAD~3", "HEAD", "--size", "0"], "--size 0 is no slowdown"),
        (["HEAD~3", "HEAD", "--side", "git:main"], "has no {commit}"),
    ],
)
def test_what_cannot_be_searched_is_told(repository, capsys, arguments, reason):
    assert main(["history", "bisect", *arguments, "--repository", str(repository.folder)]) == 2
    assert reason in capsys.readouterr().err
