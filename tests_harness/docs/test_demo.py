"""docs/demo.ipynb: what is committed was executed as it stands, it names what exists, and it runs on real engines."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from docs_text import DOCS, REPOSITORY, anchors
from enginegate.cli import build_parser
from enginegate.config.loading import load_config
from enginegate.plan.against import read_against
from enginegate.storage.runs import latest_record, load_record

nbformat = pytest.importorskip("nbformat")
pytest_plugins = ["pytester"]

NOTEBOOK = nbformat.read(DOCS / "demo.ipynb", as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
TEXT = "\n\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
#: The cell that shows the regression's verdicts.
CAUGHT = "verdicts"
#: An absolute path, which follows no letter ("tokens/s") and no other part of a path.
ABSOLUTE = re.compile(r"(?<![\w./<*])/[A-Za-z_.][\w.-]*(?:/[\w.-]+)+")
#: Where the committed outputs were made: a clone at a place that is nobody's home.
NEUTRAL = "/tmp/enginegate/"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """scripts/demo.py."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    import demo

    yield demo
    sys.modules.pop("demo", None)


def kinds(notebook: nbformat.NotebookNode) -> dict[str, set[str]]:
    """By code cell, the kinds of what it put out: MIME types, and ``stdout``. Progress may go to stderr or not."""
    found: dict[str, set[str]] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            found[cell.id] = {kind for output in outputs for kind in output.get("data", [output.get("name")])}
    return found


def said(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    """What a cell printed."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.get("text", "") for output in cell.outputs)


def commands() -> Iterator[list[str]]:
    """The commands of the cells of bash, each in words; redirections and what follows ``||`` are the shell's."""
    for cell in CODE:
        magic, _, text = cell.source.partition("\n")
        if magic != "%%bash":
            continue
        lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if not set(word) <= set("|&<>"):
                words.append(word)
            elif words and words[0] != "/dev/null":
                yield words
                words = []
            else:
                words = []


def test_it_is_a_notebook_that_was_executed_from_top_to_bottom(demo):
    nbformat.validate(NOTEBOOK)
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    assert not [cell.id for cell in CODE for output in cell.outputs if output.output_type == "error"]
    assert NOTEBOOK.metadata["executed"] == demo.digest(NOTEBOOK), "renew its outputs: python scripts/demo.py --write"


def test_its_outputs_are_of_no_machine_in_particular():
    for cell in NOTEBOOK.cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            texts += [output.get("text", ""), *(shown[kind] for kind in shown if kind.startswith("text/"))]
        for text in texts[:1] if cell.cell_type == "markdown" else texts:
            assert "\x1b" not in text, cell.id
            paths = [path for path in ABSOLUTE.findall(text) if path != "/dev/null"]
            assert not [path for path in paths if not path.startswith(NEUTRAL)], cell.id


def test_it_shows_engines_figures_and_a_regression():
    found = kinds(NOTEBOOK)
    assert "image/png" in found["compare"]
    for cell in ("build", "measure", "unchanged", "change", "regression", CAUGHT):
        assert found[cell] == {"stdout"}, cell
    lines = said(NOTEBOOK, CAUGHT).splitlines()
    assert lines
    assert all(line.startswith("FAIL: ") for line in lines)


def test_its_commands_are_understood(pytester):
    """By pytest with the suite's options, and by the command line; the files and tests that they name are there."""
    (pytester.path / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    seen = []
    for program, *words in commands():
        seen.append(program)
        if program == "pytest":
            tests = [word for word in words if word.startswith("tests_")]
            for test in tests:
                path, _, name = test.partition("::")
                assert (REPOSITORY / path).exists(), test
                assert not name or f"def {name}(" in (REPOSITORY / path).read_text(encoding="utf-8"), test
                (pytester.path / path).parent.mkdir(exist_ok=True)
                (pytester.path / path).touch() if path.endswith(".py") else (pytester.path / path).mkdir(exist_ok=True)
            config = pytester.parseconfig(*words)
            assert config.args == tests
            bases = [config.option.eg_against]
        elif program == "enginegate":
            bases = [getattr(build_parser().parse_args(words), "base", "")]
        else:
            assert program == "test"
            continue
        for base in filter(None, map(read_against, bases)):
            assert load_config(REPOSITORY / base.value).name == "smollm2-135m"
    assert {"pytest", "enginegate"} <= set(seen)


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (DOCS / path).is_file(), target
        assert not anchor or anchor in anchors(DOCS / path), target


@pytest.mark.heavy
@pytest.mark.alone
def test_it_runs_from_top_to_bottom_and_catches_the_regression(demo, tmp_path, monkeypatch):
    """On the default engine, with the engines and the reference's scores of the user's own cache."""
    pytest.importorskip("openvino_genai")
    copy = tmp_path / "enginegate"
    ignored = shutil.ignore_patterns(".*", "runs", "__pycache__", "*.egg-info", "harness", "tests_harness")
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    for name in [name for name in os.environ if name == "CI" or name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    notebook, problem = demo.execute(copy / "docs" / "demo.ipynb")
    assert not problem
    assert kinds(notebook) == kinds(NOTEBOOK)
    record = load_record(latest_record(copy / "runs"))
    told = [f"{verdict.status}: {verdict.explanation}" for verdict in record.verdicts]
    assert said(notebook, CAUGHT).splitlines() == told
    assert not [line for line in said(notebook, "unchanged").splitlines() if line.startswith("FAIL")]
    disturbed = [line for line in told if line.startswith("INCONCLUSIVE") and "other work disturbed" in line]
    if disturbed:
        pytest.skip(f"the machine is busy: {disturbed[0]}")
    assert {verdict.status for verdict in record.verdicts} == {"FAIL"}
