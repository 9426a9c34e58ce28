"""The Action, the component and the workflows of the page: schemas of the services, actionlint, pins, no injection."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests_harness.ci.rehearsal import ACTION, COMPONENT, REPOSITORY, SPEC, component
from tests_harness.docs.test_docs_ci import PIPELINES, WORKFLOWS

LOCAL = "./.github/actions/enginegate"


def check(schema: str, *files: Path) -> None:
    """By the schemas that come with check-jsonschema: nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the workflows of the page, and the Action in it."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for name, text in WORKFLOWS.items():
        (folder / f"{name}.yml").write_text(re.sub(r"OWNER/enginegate@v[\d.]+", LOCAL, text), encoding="utf-8")
    action = tmp_path / ".github" / "actions" / "enginegate" / "action.yml"
    action.parent.mkdir(parents=True)
    action.write_bytes((REPOSITORY / "action.yml").read_bytes())
    return tmp_path


def test_github_s_schemas_hold(repository):
    check("vendor.github-actions", REPOSITORY / "action.yml")
    check("vendor.github-workflows", *sorted((repository / ".github" / "workflows").iterdir()))


def test_gitlab_s_schema_holds(tmp_path):
    """The component's jobs as they are with every input at its default, and what people write to include it."""
    (tmp_path / "spec.yml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    for shards in (1, 3):
        text = yaml.safe_dump(component(shards=shards))
        (tmp_path / f"component-{shards}.yml").write_text(text, encoding="utf-8")
    for name, page in PIPELINES.items():
        (tmp_path / f"{name}.yml").write_text(page, encoding="utf-8")
    check("vendor.gitlab-ci", *sorted(tmp_path.glob("*.yml")))


def test_actions_of_others_are_pinned():
    text = (REPOSITORY / "action.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), "for people, and for whoever renews it"


def test_no_input_reaches_a_script_but_by_its_environment():
    """Whatever stands in ``${{ }}`` inside a script is put there as text, and run."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]
        assert "eval" not in step.get("run", "")
    for job in COMPONENT.values():
        scripts = [*job["before_script"], *job["script"], *job["after_script"]]
        assert not [script for script in scripts if "$[[" in script or "eval" in script]


def test_the_same_lines_install_and_test_on_both():
    """Two services, one way: what differs is where the base and the shard come from."""
    steps = {step["name"]: step["run"].splitlines() for step in ACTION["runs"]["steps"] if "run" in step}
    job, merging = COMPONENT.values()
    lock = 'if [ -f "$LOCK" ]; then set -- -r "$LOCK" "$@"; fi'
    tested = [line for line in steps["Speed, memory and quality"] if "pytest" in line]
    for line, script in (
        (lock, job["before_script"][0]),
        (lock, merging["before_script"][0]),
        (tested[0], job["script"][0]),
    ):
        theirs = re.sub(r"EG_(?=[A-Z])", "", script).splitlines()
        assert line in theirs
