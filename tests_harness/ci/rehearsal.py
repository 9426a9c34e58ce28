"""The steps of the GitHub Action and the script of the GitLab component, run as a runner's shell would run them.

What the services themselves do is stood in for: expressions are evaluated here, ``python -m pip`` and ``gh`` only note
that they were called, artifacts are folders. All else is real: bash or sh, git, the command line, and pytest, where its
results are not prepared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from enginegate.core.records import RunRecord
from enginegate.storage.runs import save_record

REPOSITORY = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
SPEC, COMPONENT = yaml.safe_load_all((REPOSITORY / "templates" / "enginegate.yml").read_text(encoding="utf-8"))

PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then echo "$@" >> "{log}"; exit 0; fi
if [ "$1 $2" = "-m pytest" ] && [ -d "$REHEARSAL/prepared" ]; then
    shift 2
    printf '%s\n' "$@" > "$REHEARSAL/pytest.log"
    for word; do case $word in --eg-runs=*) runs=${{word#*=}} ;; esac; done
    mkdir -p "$runs"
    cp -r "$REHEARSAL/prepared/." "$runs"
    exit "$(cat "$REHEARSAL/code")"
fi
exec "{python}" "$@"
"""
#: Lists the comments that are there, and notes what was written with its body.
GH = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
log = pathlib.Path(os.environ["REHEARSAL"], "gh.json")
calls = json.loads(log.read_text()) if log.exists() else []
if "--jq" in words:
    assert os.environ["MARK"] and "$ENV.MARK" in words[-1]
    print("\\n".join(str(number) for number, call in enumerate(calls, 1) if "POST" in call["words"]))
else:
    (body,) = [word.removeprefix("body=@") for word in words if word.startswith("body=@")]
    if os.environ.get("GH_REFUSES"):
        sys.exit("HTTP 403: Resource not accessible by integration")
    calls.append({{"words": words, "body": pathlib.Path(body).read_text()}})
    log.write_text(json.dumps(calls))
"""


@dataclass
class Project:
    """A repository with a pull request, cloned as a runner clones it, and the machine's own folders.

    Attributes:
        folder: the checkout.
        place: where the rehearsal keeps its things: programs, artifacts, logs.
        environment: what every step sees.
        base, head: the commit that the change was merged into, and the one that is checked out.
    """

    folder: Path
    place: Path
    environment: Mapping[str, str]
    base: str
    head: str

    def __post_init__(self) -> None:
        programs = self.place / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        for name, text in (("python", PYTHON), ("gh", GH)):
            (programs / name).write_text(text.format(python=sys.executable, log=self.place / "pip.log"))
            (programs / name).chmod(0o755)

    @property
    def installed(self) -> str:
        """What pip was asked for."""
        log = self.place / "pip.log"
        return log.read_text() if log.exists() else ""

    def prepare(self, record: RunRecord, code: int) -> None:
        """Have pytest note its arguments, leave this record and end with this code."""
        save_record(record, self.place / "prepared")
        (self.place / "code").write_text(str(code))

    @property
    def arguments(self) -> list[str]:
        """What pytest was asked for, where its results were prepared."""
        return (self.place / "pytest.log").read_text().splitlines()

    @property
    def comments(self) -> list[dict[str, Any]]:
        """What was written by ``gh``: its words, and the body."""
        log = self.place / "gh.json"
        return json.loads(log.read_text()) if log.exists() else []

    def shell(self, command: list[str], script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a script as one step."""
        path = os.pathsep.join([str(self.place / "bin"), os.environ["PATH"]])
        environment = {**self.environment, "PATH": path, "REHEARSAL": str(self.place), "CI": "true", **more}
        file = self.place / "step.sh"
        file.write_text(script)
        return subprocess.run(
            [*command, str(file)], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600
        )


@dataclass
class Job:
    """What a job left: whether it succeeded, what it printed, its step summary, the Actions it used, its files."""

    log: str = ""
    failed: bool = False
    summary: str = ""
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    files: Path = Path()


def github(project: Project, event: Mapping[str, Any] | None = None, **inputs: str) -> Job:
    """Run the Action's steps. ``event``: the payload; without, that of a pull request."""
    if event is None:
        event = {"pull_request": {"number": 7, "base": {"sha": project.base}}}
    assert inputs.keys() <= ACTION["inputs"].keys()
    temporary = project.place / "temporary"
    shutil.rmtree(temporary, ignore_errors=True)  # each job has a runner of its own
    temporary.mkdir()
    contexts: dict[str, Any] = {
        "inputs": {name: inputs.get(name, each["default"]) for name, each in ACTION["inputs"].items()},
        "github": {"event": event, "token": "secret"},
        "runner": {"os": "Linux", "arch": "X64"},
        "env": {},
        "steps": {},
    }
    job, summary = Job(), project.place / "summary.md"
    summary.write_text("")
    for number, step in enumerate(ACTION["runs"]["steps"]):
        wanted = str(step.get("if", "success()"))
        if (job.failed and "always()" not in wanted) or not _value(wanted, contexts):
            continue
        if "uses" in step:
            given = {name: _filled(value, contexts) for name, value in step["with"].items()}
            outputs = _use(step["uses"].partition("@")[0], given, project)
            job.used[step["name"]] = given
        else:
            file = project.place / f"output-{number}"
            file.write_text("")
            done = project.shell(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
                step["run"],
                GITHUB_OUTPUT=str(file),
                GITHUB_STEP_SUMMARY=str(summary),
                GITHUB_SHA=project.head,
                GITHUB_REPOSITORY="somebody/project",
                RUNNER_TEMP=str(temporary),
                **{name: str(_filled(value, contexts)) for name, value in step.get("env", {}).items()},
            )
            job.log += f"--- {step['name']}: {done.returncode}\n{done.stdout}{done.stderr}"
            job.failed |= done.returncode != 0
            outputs = dict(line.split("=", 1) for line in file.read_text().splitlines())
        if "id" in step:
            contexts["steps"][step["id"]] = {"outputs": outputs}
    job.summary = summary.read_text()
    job.files = Path(_filled(ACTION["outputs"]["runs"]["value"], contexts))
    return job


def _use(action: str, given: Mapping[str, str], project: Project) -> dict[str, str]:
    """What an Action of others does here: artifacts are folders, a cache is never found."""
    artifacts = project.place / "artifacts"
    if action == "actions/upload-artifact":
        shutil.copytree(given["path"], artifacts / given["name"], dirs_exist_ok=True)
    elif action == "actions/download-artifact":
        for folder in artifacts.iterdir():
            if fnmatch(folder.name, given["pattern"]):
                shutil.copytree(folder, Path(given["path"]) / folder.name)
    elif action == "actions/cache/restore":
        return {"cache-primary-key": given["key"]}
    else:
        assert action in {"actions/setup-python", "actions/cache/save"}
    return {}


def component(**inputs: object) -> dict[str, Any]:
    """The component's jobs, with its inputs put in as GitLab does: what is nothing but an input keeps its type."""
    known = SPEC["spec"]["inputs"]
    assert inputs.keys() <= known.keys()
    values = {name: inputs.get(name, each["default"]) for name, each in known.items()}
    mark = re.compile(r"\$\[\[ inputs\.(\w+) \]\]")

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {filled(key): filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        if not isinstance(value, str):
            return value
        alone = mark.fullmatch(value)
        return values[alone[1]] if alone else mark.sub(lambda found: str(values[found[1]]), value)

    jobs: dict[str, Any] = filled(COMPONENT)
    return jobs


def gitlab(project: Project, part: str = "", node: int = 1, **inputs: object) -> Job:
    """Run the component's job, or its merging one (``part="-merge"``)."""
    jobs = component(**inputs)
    job = jobs[f"{next(iter(jobs))}{part}"]
    nodes = {"CI_NODE_INDEX": str(node), "CI_NODE_TOTAL": str(job.get("parallel", ""))}
    predefined = {"CI_PROJECT_DIR": str(project.folder), "CI_MERGE_REQUEST_DIFF_BASE_SHA": project.base, **nodes}
    variables = {name: str(value) for name, value in job["variables"].items() if name != "ENGINEGATE_CACHE"}
    left = Job(files=project.folder)
    lines = [*job["before_script"], *job["script"]]
    for script in ("\n".join(lines), "\n".join(job["after_script"])):
        done = project.shell(["sh", "-e"], script, **predefined, **variables)
        left.log += f"--- {done.returncode}\n{done.stdout}{done.stderr}"
        left.failed |= done.returncode != 0
    return left


def _filled(value: object, contexts: Mapping[str, Any]) -> Any:
    """A value with its expressions evaluated; one that is nothing else keeps its type."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{\{(.+?)\}\}", lambda found: _text(_value(found[1], contexts)), value)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _value(expression: str, contexts: Mapping[str, Any]) -> Any:
    """An expression of GitHub's, as far as the Action needs them: both of its operators give one of their operands."""
    pieces = re.split(r"('(?:[^']|'')*')", expression.strip().removeprefix("${{").removesuffix("}}"))
    for place in range(0, len(pieces), 2):
        text = pieces[place].replace("&&", " and ").replace("||", " or ")
        pieces[place] = re.sub(
            r"(?<![\w.])(?!and\b|or\b)([a-z]\w*(?:\.[\w-]+)+)", lambda found: f"look({found[1]!r})", text
        )

    def look(name: str) -> Any:
        found: Any = contexts
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    functions = {"look": look, "always": lambda: True, "success": lambda: True, "hashFiles": lambda *_: "0123"}
    return eval("".join(pieces).strip(), {"__builtins__": {}}, functions)
