"""The documentation site: what its pages are made of, and that it is built whole, without a warning and without others.

Sphinx is in the extra ``site``, which ``make test-all`` installs; the tests that need it are heavy.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_text import DOCS, NOTEBOOKS, REPOSITORY, code, read
from enginegate.cli import build_parser
from enginegate.config.schema import ConfigFile
from enginegate.core.records import RunRecord
from enginegate.plugin import hookspecs
from enginegate.pytest_options import OPTIONS
from test_docs_commands import subcommands
from test_docs_pages import keys

SITE = REPOSITORY / "scripts" / "site"


@pytest.fixture(scope="module")
def modules():
    """The site's own modules, which are no package."""
    names = ("check", "navigation", "reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        yield {name: __import__(name) for name in names}
        for name in names:
            del sys.modules[name]


@pytest.fixture(scope="module")
def pages(modules):
    """By file name, the reference's pages as Markdown."""
    return {name: make(REPOSITORY) for name, make in modules["reference"].PAGES.items()}


def test_the_navigation_has_every_page_once(modules):
    sections = modules["navigation"].read_navigation(REPOSITORY)
    assert [section.name for section in sections] == ["Tutorial", "How-to", "Reference", "Explanation"]
    named = [name for section in sections for name in section.pages]
    made = {f"docs/reference_{name}" for name in modules["reference"].PAGES}
    there = {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    assert sorted(named) == sorted(made | there | {*modules["navigation"].ROOT_PAGES})


def a_repository(folder: Path) -> Path:
    """A folder with this one's pages, and the pictures that they show."""
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("records"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def test_a_page_that_the_navigation_lacks_is_named(modules, tmp_path):
    folder = a_repository(tmp_path)
    (folder / "docs" / "new.md").write_text("# New\n", encoding="utf-8")
    (folder / "docs" / "gates.md").unlink()
    with pytest.raises(SystemExit) as caught:
        modules["navigation"].read_navigation(folder)
    assert str(caught.value).splitlines() == [
        "docs/navigation.yaml lacks docs/new.md: give it a line in its section",
        "docs/navigation.yaml names docs/gates.md, which is not there",
    ]


def test_every_subcommand_and_option_is_in_the_reference(pages):
    text = pages["command_line.md"]
    assert re.findall(r"^## enginegate (.+)$", text, re.MULTILINE) == subcommands(build_parser())
    assert "| `--batch-sizes N...`, `--batch_sizes N...` |" in text
    assert all(f"`{option.long}" in pages["pytest.md"] for option in OPTIONS)
    assert all(f"| `{name}` |" in pages["pytest.md"] for name in ("gate", "candidate", "enginegate_model"))


def test_every_key_is_in_the_reference_with_its_meaning(pages):
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| (.*?) ?\|$", pages["configuration.md"], re.MULTILINE))
    assert {key for key, _ in keys(ConfigFile)} <= rows.keys()
    assert rows["limits.max_input_len"] == "tokens of a prompt, at most"
    assert "[the sources](adding_a_model.md#the-sources)" in rows["model.source"]
    assert "| `gates.alpha` | number from 1e-09 below 0.5 | `0.01` |" in pages["configuration.md"]
    said = [meaning for meaning in rows.values() if meaning]
    assert len(said) > 0.9 * len(rows)  # the page on models leaves a cell empty where the row above says it


def test_every_model_and_field_of_a_record_is_in_the_reference(pages):
    schema = RunRecord.model_json_schema()
    models = {"RunRecord": schema, **schema["$defs"]}
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", pages["record.md"], re.MULTILINE | re.DOTALL))
    assert parts.keys() == models.keys()
    for name, model in models.items():
        assert re.findall(r"^\| `(\w+)` \|", parts[name], re.MULTILINE) == [*model["properties"]]
    assert (
        "| `role` | `candidate`, `reference`, `quality-reference` |  | what it was first loaded for. |"
        in parts["EngineEntry"]
    )


def test_hooks_and_exit_codes_are_in_the_reference(pages):
    hooks = [name for name in vars(hookspecs) if name.startswith("pytest_")]
    assert hooks
    assert all(f"### {name}\n" in pages["hooks.md"] for name in hooks)
    assert all(f"`{name}" in pages["hooks.md"] for name in ("generate", "capabilities", "enginegate.backends"))
    assert re.findall(r"^\| (\d+) \|", pages["exit_codes.md"], re.MULTILINE) == [*"012345", *"01234", "130"]


def test_the_tutorial_quotes_the_notebook():
    (quoted,) = [text.strip() for text in code(read("tutorial.md")) if text.strip().startswith("FAIL: ")]
    (notebook,) = NOTEBOOKS
    outputs = [each for cell in json.loads(notebook.read_text("utf-8"))["cells"] for each in cell.get("outputs", [])]
    assert any(quoted in "".join(each.get("text", [])) for each in outputs)
    for part in re.findall(r"^\| `(.+?)` \|", read("tutorial.md"), re.MULTILINE):
        assert part in quoted


WRONG = """<html><head><link rel="stylesheet" href="https://fonts.example.org/a.css">
<style>@import "//b.example.org/b"; </style>
<script src="//cdn.example.org/x.js"></script></head><body id="top">
<a href="none.html">gone</a> <a href="other.html#none">no place</a> <a href="../outside.html">up</a>
<img src="none.png">
<img srcset="https://c.example.org/c.png 2x"> <p style="background: url('http://d.example.org/d')"></p>
<a href="https://example.org">fine</a> <a href="other.html#here">fine</a> <a href="#top">fine</a></body></html>"""


def test_what_is_wrong_with_a_site_is_found(modules, tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "page.html").write_text(WRONG, encoding="utf-8")
    (tmp_path / "other.html").write_text('<a id="here"></a>', encoding="utf-8")
    (tmp_path / "_static" / "a.css").write_text(
        "@font-face { src: url(https://e.example.org/f.woff) }", encoding="utf-8"
    )
    (tmp_path / "_static" / "a.js").write_text('fetch("https://f.example.org/track"); a = "a//b.c"', encoding="utf-8")
    (tmp_path / "picture.svg").write_text("<svg><style>@import url('https://g.example.org/g')</style></svg>")
    found = modules["check"].faults(tmp_path)
    assert sorted(found) == [
        "_static/a.css: would fetch https://e.example.org/f.woff",
        "_static/a.js: may fetch https://f.example.org/track",
        "page.html: ../outside.html leads nowhere",
        "page.html: none.html leads nowhere",
        "page.html: none.png leads nowhere",
        "page.html: other.html#none leads to no such place",
        "page.html: would fetch //b.example.org/b",
        "page.html: would fetch //cdn.example.org/x.js",
        "page.html: would fetch http://d.example.org/d",
        "page.html: would fetch https://c.example.org/c.png",
        "page.html: would fetch https://fonts.example.org/a.css",
        "picture.svg: would fetch https://g.example.org/g",
    ]


def built(site: Path, repository: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, {str(SITE)!r}); import build; from pathlib import Path;"
    script += f"sys.exit(build.build(Path({str(site)!r}), Path({str(repository)!r})))"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "site"
    done = built(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.mark.heavy
def test_the_site_is_built_without_a_warning_and_without_a_fault(site, modules):
    """``build`` itself refuses what ``check`` finds; looked for once more, so that it cannot forget to."""
    assert modules["check"].faults(site) == []


@pytest.mark.heavy
def test_every_page_is_in_the_built_navigation(site):
    text = (site / "docs" / "gates.html").read_text(encoding="utf-8")
    sidebar = text.partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    listed = {*re.findall(r'class="reference internal" href="([^"#]+)"', sidebar)}
    there = {f"{page.stem}.html" for page in DOCS.glob("*.md")} - {"gates.html"}
    assert there | {"../README.html", "../CONTRIBUTING.html", "../CHANGELOG.html"} <= listed
    assert {f"{page.stem}.html" for page in (site / "docs").glob("reference_*.html")} <= listed
    assert sorted(re.findall(r'class="caption-text">([^<]+)<', sidebar)) == [
        "Explanation",
        "How-to",
        "Reference",
        "Tutorial",
    ]


@pytest.mark.heavy
def test_links_to_files_of_the_repository_lead_to_copies(site):
    page = (site / "docs" / "ci.html").read_text(encoding="utf-8")
    assert 'href="../files/action.yml"' in page
    assert (site / "files" / "action.yml").read_bytes() == (REPOSITORY / "action.yml").read_bytes()
    listing = (site / "files" / "docs" / "terminal" / "index.html").read_text(encoding="utf-8")
    assert {*re.findall(r'href="([^"]+)"', listing)} == {each.name for each in (DOCS / "terminal").iterdir()}
    schema = json.loads((site / "schemas" / "config.schema.json").read_text(encoding="utf-8"))
    assert schema["properties"]["model"]


@pytest.mark.heavy
def test_options_keep_their_dashes_and_words_are_found(site):
    assert "<code" in (site / "docs" / "ci.html").read_text(encoding="utf-8")
    assert "pytest --shard I/N" in (site / "docs" / "reference_command_line.html").read_text(encoding="utf-8")
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"{word}"' in index or f"{word}:" in index for word in ("inconclus", "perplex", "duet"))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gone](none.md)", "docs/glossary.md:3: WARNING: 'myst' cross-reference target not found: 'none.md'"),
        ("[gone](gates.md#none)", "docs/glossary.md:3: WARNING: local id not found in doc 'docs/gates': 'none'"),
        ('<img src="https://example.org/a.png">', "docs/glossary.html: would fetch https://example.org/a.png"),
    ],
)
def test_a_page_with_a_fault_fails_the_build(text, said, tmp_path):
    folder = a_repository(tmp_path / "repository")
    for name in ("action.yml", "templates", "docs/results/records", "docs/results/live/records"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    page = folder / "docs" / "glossary.md"
    page.write_text(page.read_text(encoding="utf-8").replace("\n", f"\n\n{text}\n", 1), encoding="utf-8")
    done = built(tmp_path / "site", folder)
    assert done.returncode == 1
    assert said in done.stderr
