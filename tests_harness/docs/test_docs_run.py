"""Blocks of commands are copied from the pages into a shell, on a stage where engines and models only pretend.

The stage is a copy of this repository; what stands in for what, ``stage/stand_ins.py`` says.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docs_commands import Block, calls, command_blocks, command_spans
from docs_text import PAGES, REPOSITORY, blocks, read
from enginegate.cli import build_parser
from enginegate.config.loading import load_config

FAKES = REPOSITORY / "tests_harness" / "fakes"
STAGE = Path(__file__).parent / "stage"

#: What a command names that only its reader has, and what the stage has in its place.
HAVE = {
    "runs/<id>": '"$(ls -d runs/2* | tail -1)"',
    "path/to/runs/RUN": '"$(ls -d runs/2* | tail -1)"',
    "RUN-OF-1": '"$(ls -d runs/2* | tail -2 | head -1)"',
    "RUN-OF-2": '"$(ls -d runs/2* | tail -1)"',
    "python:/opt/old/bin/python": f"python:{sys.executable}",
    "python:COPY": f"python:{sys.executable}",
    '"OLD"': '"../checkpoint"',
    '"NEW"': '"new"',
}
#: Exit codes that a command of a page may end with besides 0.
ENDS = {r"enginegate compare .*--strict": 3}
#: Pages whose engine keeps the machine's own time.
REAL_TIME = {"adding_a_backend.md"}

#: Every block with something to run, each text once.
RUNNABLE = {
    tuple(block.script): pytest.param(page, block, id=f"{page.relative_to(REPOSITORY)}-{block.line}")
    for page in PAGES
    for block in command_blocks(page.read_text(encoding="utf-8"))
    if block.script
}


def _program(folder: Path, name: str, call: str) -> None:
    file = folder / name
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n', encoding="utf-8")
    file.chmod(0o755)


class Theatre:
    """A stage for each block: a repository like this one, with a run that nobody has accepted yet."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.prepared = place / "prepared"
        self.programs = place / "bin"
        self.programs.mkdir()
        for name, call in (
            ("pytest", "-m pytest"),
            ("enginegate", "-m enginegate"),
            ("python", ""),
            ("python3", ""),
            ("uv", f'"{STAGE / "uv.py"}"'),
        ):
            _program(self.programs, name, call)
        site = place / "site"
        site.mkdir()
        (site / "enginegate_bigram.py").write_text(
            blocks(read("adding_a_backend.md"), "python", "enginegate_bigram.py")[0], encoding="utf-8"
        )
        metadata = site / "enginegate_bigram-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: enginegate-bigram\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(
            "[enginegate.backends]\nbigram = enginegate_bigram:BigramBackend\n", encoding="utf-8"
        )
        self._repository()

    def _repository(self) -> None:
        from workspace import make_workspace

        sys.path.insert(0, str(STAGE))
        try:
            import stand_ins
        finally:
            sys.path.remove(str(STAGE))
        (self.place / "workspace").mkdir()
        folder = make_workspace(self.place / "workspace").folder
        os.environ[stand_ins.PLACE] = str(folder)  # the fixture takes it away again
        here = self.prepared
        here.mkdir()
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("tests_perf", "tests_quality"):
            shutil.copytree(REPOSITORY / name, here / name, ignore=ignore)
        shutil.copy(REPOSITORY / "pyproject.toml", here)
        (here / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        (here / ".gitignore").write_text("runs/\n.pytest_cache/\n", encoding="utf-8")
        (here / "configs").mkdir()
        for file in sorted((REPOSITORY / "configs").glob("*.yaml")):
            config = load_config(file)
            engines = {name: section.precisions for name, section in config.file.engines.items()}
            content = stand_ins.configuration(config.name, engines, config.file.default_engine)
            (here / "configs" / file.name).write_text(yaml.safe_dump(content), encoding="utf-8")
        shutil.copy(here / "configs" / "smollm2-135m.yaml", here / "my-model.yaml")
        shutil.copytree(folder / "checkpoint", self.place / "checkpoint")
        for name, seconds in (("monday", 1.0), ("tuesday", 1.01), ("today", 1.005)):
            data = [seconds * (1 + 0.001 * index) for index in range(8)]
            content = {"benchmarks": [{"fullname": "test_a", "stats": {"data": data}}]}
            (here / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        for command in (
            "git init -q",
            "git add .",
            "git commit -qm first",
            "git update-ref refs/remotes/origin/main HEAD",
        ):
            self.run(command, here)
        self.run("pytest -q tests_perf tests_quality --precision int8_wo --batch-size 1", here)

    @property
    def environment(self) -> dict[str, str]:
        outside = ("CI", "BUILD_NUMBER", "PYTHONPATH", "COLUMNS")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in outside and not name.startswith(("PYTEST_", "GIT_", "ENGINEGATE_"))
        }
        path = (STAGE, FAKES, self.place / "site", REPOSITORY / "harness")
        person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return (
            kept
            | person
            | {
                "HOME": str(self.place),
                "PATH": f"{self.programs}{os.pathsep}{kept['PATH']}",
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HF_HUB_OFFLINE": "1",
                "ENGINEGATE_CACHE": str(self.place / "workspace" / "cache"),
                "ENGINEGATE_STAGE": str(self.place / "workspace"),
                "GIT_EDITOR": "sh -c 'echo written by a test > \"$0\"'",
                "MPLBACKEND": "agg",
            }
        )

    def run(self, script: str, folder: Path, **more: str) -> str:
        """What a shell says to the script, both streams as one. Fails where it does not end with 0."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout


CONFTEST = """
import os

pytest_plugins = ["enginegate.plugin", *([] if "REAL_TIME" in os.environ else ["virtual_time"])]
"""


@pytest.fixture(scope="module")
def theatre(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINEGATE_STAGE", "")
        return Theatre(tmp_path_factory.mktemp("theatre"))


def script_of(block: Block) -> str:
    lines = []
    for line in block.script:
        command = line
        for named, there in HAVE.items():
            command = command.replace(named, there)
        code = next((code for pattern, code in ENDS.items() if re.fullmatch(pattern, line)), 0)
        lines.append(f"{command} || [ $? = {code} ]" if code else command)
        if line.startswith("enginegate init"):
            # The model that it names would be fetched.
            lines += ["python -m stand_ins configs/*.yaml", "cat ../prepared/conftest.py > conftest.py"]
    return "\n".join(lines)


@pytest.mark.heavy
@pytest.mark.parametrize(("page", "block"), RUNNABLE.values())
def test_a_block_runs_as_it_stands(page, block, theatre):
    folder = theatre.place / f"{page.stem}-{block.line}"
    if any(line.startswith("enginegate init") for line in block.script):
        folder.mkdir()
        theatre.run("git init -q", folder)
    else:
        shutil.copytree(theatre.prepared, folder, symlinks=True)
    more = {"REAL_TIME": "1"} if page.name in REAL_TIME else {}
    theatre.run(script_of(block), folder, **more)


#: Words of commands in sentences that are their reader's to fill in, and what the stage has for them.
FILLED_IN = {
    "BASE...": "monday.json tuesday.json",
    "OLD_RUN": "monday.json",
    "NEW_RUN": "today.json",
    "NEW": "today.json",
    "RUN": "latest",
    "WHAT": f"python:{sys.executable}",
    "python:COPY": f"python:{sys.executable}",
    "python:OLD": f"python:{sys.executable}",
    "ENGINE": "int8_wo",
    "SERIES": """$(enginegate history ls --json | grep -om1 '[0-9a-f]\\{16\\}')""",
    "RUN-A": "latest",
    "RUN-B": "latest",
}


def _whole(command: str) -> bool:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            build_parser().parse_args(calls(command)[0][1:])
        except SystemExit:
            return False
    return True


#: Commands that need what the stage has not (a wheel of TensorRT-LLM, a real model, a history with a slower commit), or
#: has in a block alone (shards).
ELSEWHERE_ALONE = ("trtllm", "merge", "memory", "history bisect")
#: Commands of sentences that are whole once their reader has filled them in, each once.
FILLED = sorted(
    {
        " ".join(FILLED_IN.get(word, word) for word in command.split())
        for page in PAGES
        for command in command_spans(page.read_text(encoding="utf-8"))
        if re.match(rf"enginegate (?!({'|'.join(ELSEWHERE_ALONE)})\b)", command) and _whole(command)
    }
)


@pytest.mark.heavy
@pytest.mark.parametrize("command", FILLED, ids=lambda command: command.replace(sys.executable, "PYTHON"))
def test_a_whole_command_of_a_sentence_runs(command, theatre, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(theatre.prepared, folder, symlinks=True)
    theatre.run(command, folder)
