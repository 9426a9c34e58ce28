"""Thirty real sessions of the default engine in one history, with a slowdown planted at one commit, and its search.

    python scripts/history/sessions.py FOLDER prepare ENVIRONMENT   # a repository of nights, a slower environment
    python scripts/history/sessions.py FOLDER take SECONDS          # sessions until the time is up; again for more
    python scripts/history/sessions.py FOLDER blame                 # enginegate history blame
    python scripts/history/sessions.py FOLDER bisect                # enginegate history bisect, with live races

FOLDER/repository has a commit for each night. From one of them on its file ``slower`` says 0.1, and what runs that
commit is a copy of ENVIRONMENT whose OpenVINO GenAI takes 10 % longer for each step (scripts/live/plant.py). Sessions
are shortened: ``tests_perf/test_speedup.py`` and ``test_latency.py``, int8_wo, batch size 1, 20 seconds of rounds. A
session takes about a minute on 2 quiet cores; what is taken already stays.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "live"))
import plant

ROOT = Path(__file__).resolve().parents[2]
NIGHTS, PLANTED, SHARE = 32, 20, 0.10
SESSION = (
    "tests_perf/test_speedup.py", "tests_perf/test_latency.py", "--precision=int8_wo", "--batch-size=1",
    "--time-budget=20", "--no-require-baseline", "-q", "-p", "no:cacheprovider",
)  # fmt: skip
#: Runs the Python of a commit: the slower one where the commit's file ``slower`` says more than 0.
AT = """#!/bin/sh
# made by scripts/history/sessions.py: at.sh COMMIT ARGUMENTS... runs that commit's Python
commit=$1; shift
case $(git -C {repository} show "$commit:slower") in
0) exec {normal} "$@" ;;
*) exec {slower} "$@" ;;
esac
"""


def git(folder: Path, *arguments: str) -> str:
    """What git says in a repository."""
    person = ("-c", "user.name=nights", "-c", "user.email=nights@example.org")
    command = ["git", "-C", str(folder), *person, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def prepare(folder: Path, environment: Path) -> None:
    """The repository of nights, the slower copy of the environment, and what runs a commit."""
    repository, slower = folder / "repository", folder / "slower"
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "clone", "-q", str(ROOT), str(repository))
    for night in range(NIGHTS):
        (repository / "slower").write_text(f"{SHARE if night >= PLANTED else 0}\n", encoding="utf-8")
        git(repository, "add", "slower")
        git(repository, "commit", "-q", "--allow-empty", "-m", f"night {night}")
    plant.main(environment, slower, SHARE)
    text = AT.format(
        repository=shlex.quote(str(repository)),
        normal=shlex.quote(str(environment / "bin" / "python")),
        slower=shlex.quote(str(slower / "bin" / "python")),
    )
    (folder / "at.sh").write_text(text, encoding="utf-8")
    (folder / "at.sh").chmod(0o755)
    (folder / "python").write_text(f"{environment / 'bin' / 'python'}\n", encoding="utf-8")


def nights(folder: Path) -> list[str]:
    """The commits, oldest first."""
    return git(folder / "repository", "log", f"-{NIGHTS}", "--reverse", "--format=%H", "nights").split()


def take(folder: Path, seconds: float) -> None:
    """Sessions of the nights that have none yet, until the next one would likely end too late."""
    until, longest = time.monotonic() + seconds, 0.0
    for night, commit in enumerate(nights(folder)):
        done = folder / "done" / f"{night:02d}"
        if done.exists():
            continue
        if time.monotonic() + longest > until:
            print(f"{night} of {NIGHTS} nights taken; call again for the rest")
            return
        begun = time.monotonic()
        git(folder / "repository", "checkout", "-q", "--detach", commit)
        command = [str(folder / "at.sh"), commit, "-m", "pytest", *SESSION, f"--runs={folder / 'runs'}"]
        code = subprocess.run(command, cwd=folder / "repository", env=os.environ | {"CI": ""}).returncode
        longest = max(longest, time.monotonic() - begun)
        print(f"night {night}: exit {code} after {time.monotonic() - begun:.0f} s", flush=True)
        done.parent.mkdir(exist_ok=True)
        done.touch()
    print(f"all {NIGHTS} nights are taken")


def ask(folder: Path, *question: str) -> int:
    """One command of ``enginegate history``, in the repository of nights."""
    python = (folder / "python").read_text(encoding="utf-8").strip()
    command = [python, "-m", "enginegate", "history", *question, "--runs", str(folder / "runs")]
    print(shlex.join(["enginegate", *command[3:]]), flush=True)
    return subprocess.run(command, cwd=folder / "repository").returncode


def main(folder: Path, step: str, *more: str) -> int:
    """One step; the exit code."""
    if step == "prepare":
        prepare(folder, Path(more[0]).absolute())
        git(folder / "repository", "branch", "nights")
        return 0
    if step == "take":
        take(folder, float(more[0]))
        return 0
    if step == "blame":
        return ask(folder, "blame", "int8_wo", "--metric", "speedup")
    commits = nights(folder)
    side = f"exec:{shlex.quote(str(folder / 'at.sh'))} {{commit}}"
    chosen = ("--precision", "int8_wo", "--batch-size", "1", "--size", f"{100 * SHARE:g}%", "--time-budget", "240")
    return ask(folder, "bisect", commits[0], commits[-1], "--side", side, *chosen)


if __name__ == "__main__":
    wanted = {"prepare": 4, "take": 4, "blame": 3, "bisect": 3}
    if len(sys.argv) < 3 or wanted.get(sys.argv[2]) != len(sys.argv):
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
