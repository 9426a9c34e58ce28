"""Every command of every page is run, here or by the test that is named for it, or the page says that it is not run.

Blocks of commands are copied into a shell, in a copy of this repository whose engines and models are stand-ins
(``stage/stand_ins.py``). Commands within sentences are read by the parsers that would read them; every option and
subcommand that they may have is one that a named test runs.
"""

from __future__ import annotations

import argparse
import ast
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
from docs_commands import ELSEWHERE, OUTSIDE, Block, Command, calls, command_blocks, command_spans
from docs_text import PAGES, REPOSITORY, blocks, read
from enginegate.cli import build_parser
from enginegate.config.loading import find_config, load_config
from enginegate.core.specs import PRECISIONS
from enginegate.engines.registry import known_backends
from enginegate.plan.against import read_against
from enginegate.pytest_options import OPTIONS

pytest_plugins = ["pytester"]

TESTS = REPOSITORY / "tests_harness"
FAKES = TESTS / "fakes"
STAGE = Path(__file__).parent / "stage"

#: By option of the suite, a test that runs pytest with it.
OPTION_TESTS = {
    "model": "plugin/test_plugin_selection.py::test_model_is_found_by_name_and_full_precision_is_the_native_half",
    "config": "plugin/conftest.py::Suite",
    "engine": "trtllm/test_whole_suite.py::run",
    "precision": "plugin/test_plugin_selection.py"
    "::test_comma_lists_choose_engines_precisions_and_batch_sizes_and_two_configurations",
    "batch-size": "plugin/test_plugin_selection.py"
    "::test_comma_lists_choose_engines_precisions_and_batch_sizes_and_two_configurations",
    "baselines": "plugin/conftest.py::accepted",
    "against": "plugin/test_plugin_against.py::test_a_slower_head_fails_against_the_other_configuration",
    "require-baseline": "plugin/test_plugin_fail_closed.py::test_perf_baseline_of_another_machine_is_none",
    "no-require-baseline": "plugin/test_plugin_fail_closed.py"
    "::test_missing_baseline_fails_where_one_is_required_and_tells_how_to_record_it",
    "strict-gates": "plugin/test_plugin_fail_closed.py"
    "::test_inconclusive_is_an_outcome_of_its_own_and_fails_under_strict_gates",
    "time-budget": "plugin/test_plugin_session.py::test_time_budget_is_shared_by_the_arenas_and_kept",
    "runs": "plugin/test_plugin_fail_closed.py::test_records_that_cannot_be_written_are_told_and_the_exit_code_says_so",
    "history": "plugin/test_plugin_edges.py"
    "::test_history_that_makes_no_sense_is_a_usage_error_before_anything_is_measured",
    "shard": "plugin/test_plugin_shards.py::test_shards_run_their_engines_and_are_merged_into_the_session",
    "gate-audit": "plugin/test_plugin_audits.py::test_an_audit_lies_with_its_run_until_it_is_accepted",
    "require-gpu": "plugin/test_plugin_devices.py::test_require_gpu",
    "require-trtllm": "trtllm/test_require.py::test_skips_fail_where_it_is_required",
}
#: By subcommand, a test that runs it.
SUBCOMMAND_TESTS = {
    "init": "packaging/test_init.py::test_an_empty_folder_gets_everything_and_a_second_time_changes_nothing",
    "doctor": "cli/test_cli_engines_doctor.py::test_doctor_says_what_works_and_why_the_rest_does_not",
    "engines ls": "cli/test_cli_engines_doctor.py::test_ls_names_engines_and_sizes",
    "engines build": "plugin/test_plugin_edges.py::test_engines_are_built_before_any_session",
    "engines verify": "cli/test_cli_engines_doctor.py::test_verify_finds_a_flipped_byte",
    "engines prune": "cli/test_cli_engines_doctor.py::test_prune_keeps_what_fits",
    "duet": "plugin/test_plugin_against.py::test_duet_gives_the_same_verdicts_without_pytest",
    "accept": "cli/test_cli_accept_report.py::test_accept_prints_what_moves_and_writes",
    "merge": "session/test_shards.py::test_the_command_writes_what_a_session_writes",
    "report": "cli/test_cli_accept_report.py::test_report_prints_the_table_and_writes_beside_the_run",
    "compare": "cli/test_cli_compare.py::test_exit_codes",
    "power": "cli/test_cli_power.py::test_table_has_a_column_for_each_reference",
    "trtllm verify-contract": "trtllm/test_contract.py::test_whole_tree_has_nothing_missing",
}
#: Words that stand for something in a command of a sentence, and one of their kind.
STANDS_FOR = {"N": "2", "SECONDS": "60", "WHAT": "accepted", "COPY": "python:/opt/copy", "OLD": "python:/opt/old"}


def source_of(test: str) -> str:
    """The text of a test, or of what runs sessions for others. Raises KeyError where it does not exist."""
    file, _, name = test.partition("::")
    text = (TESTS / file).read_text(encoding="utf-8")
    named = {each.name: each for each in ast.parse(text).body if isinstance(each, (ast.FunctionDef, ast.ClassDef))}
    return ast.get_source_segment(text, named[name]) or ""


def subcommands(parser: argparse.ArgumentParser, above: str = "") -> list[str]:
    """Every subcommand of a parser, those that have some of their own with them."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found += subcommands(below, f"{above}{name} ") or [f"{above}{name}"]
    return found


def test_every_option_and_subcommand_is_run_by_a_test():
    assert OPTION_TESTS.keys() == {option.name for option in OPTIONS}
    assert sorted(SUBCOMMAND_TESTS) == sorted(subcommands(build_parser()))
    assert all(map(source_of, (*SUBCOMMAND_TESTS.values(), *ELSEWHERE.values())))
    for option, test in OPTION_TESTS.items():
        assert re.search(rf"--(eg-)?{option}\b", source_of(test)), option


def understood_by_pytest(arguments: list[str], pytester: pytest.Pytester) -> None:
    try:
        config = pytester.parseconfig(*arguments)
    except pytest.UsageError as error:
        # What a sentence leaves out is no mistake in it.
        if "expected one argument" not in str(error):
            raise
        return
    for folder in config.args:
        assert (REPOSITORY / folder.partition("::")[0]).exists() or folder == str(pytester.path), folder
    option = config.option
    backends = {*known_backends(), "bigram"}
    assert {each for each in option.eg_engine.split(",") if each} <= backends
    precisions = {*PRECISIONS, "full_prec"}
    assert {each.partition("@")[0] for each in option.eg_precision.split(",") if each} <= precisions
    assert all(size.isdigit() for size in option.eg_batch_size.split(",") if size)
    for name in filter(None, option.eg_model.split(",")):
        find_config(name)
    assert not option.eg_against or read_against(option.eg_against) is not None


def understood_by_enginegate(arguments: list[str]) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            build_parser().parse_args(arguments)
        except SystemExit:
            assert "the following arguments are required" in said.getvalue(), said.getvalue()


def understood(call: list[str], pytester: pytest.Pytester) -> None:
    """Fails where the program that is called would not take its arguments."""
    program, *arguments = (STANDS_FOR.get(word, word) for word in call)
    arguments = [re.sub(r"^(python|lock|config):[A-Z]+$", r"\1:/some/where", each) for each in arguments]
    match program:
        case "pytest":
            understood_by_pytest(arguments, pytester)
        case "enginegate":
            understood_by_enginegate(arguments)
        case "make":
            targets = [each for each in arguments if "=" not in each]
            done = subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        case "pip":
            extras = {extra for each in arguments for extra in re.findall(r"\[(\w+)\]", each) if "psycopg" not in each}
            project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
            assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
        case "python" | "python3" if arguments[0] == "-c":
            compile(arguments[1], program, "exec")
        case "python" | "python3" if arguments[0].startswith("-"):
            pass
        case "python" | "python3":
            understood_by_a_script(arguments)
        case "export" | "git" | "docker" | "cd" | "mkdir" | "pre-commit":
            pass
        case _ if program.endswith("/bin/pip"):
            pass
        case _ if program.startswith(("scripts/", "./scripts/")):
            understood_by_a_script([program, *arguments])
        case _:
            pytest.fail(f"say in {Path(__file__).name} who understands {program}")


def understood_by_a_script(arguments: list[str]) -> None:
    script = (REPOSITORY / arguments[0]).read_text(encoding="utf-8")
    options = [each for each in arguments[1:] if each.startswith("--")]
    assert [each for each in options if each not in script] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_is_understood(page, pytester):
    (pytester.path / "pytest.ini").write_text("[pytest]\nenginegate = true\n", encoding="utf-8")
    for folder in ("tests_perf", "tests_quality", "tests_trtllm"):
        shutil.copytree(
            REPOSITORY / folder, pytester.path / folder, ignore=shutil.ignore_patterns("*.pyc", "conftest.py")
        )
    text = page.read_text(encoding="utf-8")
    commands = [each.text for block in command_blocks(text) for each in block.commands]
    for command in [*commands, *command_spans(text)]:
        try:
            for call in calls(command):
                understood(call, pytester)
        except (Exception, pytest.fail.Exception) as error:
            raise AssertionError(f"{page.name}: `{command}`: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_fetches_something_is_run_by_its_own_test_or_marked(page):
    left = [line for block in command_blocks(page.read_text(encoding="utf-8")) for line in block.script]
    fetching = [line for line in left if OUTSIDE & {call[0] for call in calls(line)}]
    assert fetching == [], "name a test in docs_commands.ELSEWHERE, or say on the page that it is not run"


@pytest.mark.parametrize("target", ["bench", "test", "test-all", "format", "lint", "bench-trtllm"])
def test_what_make_does_is_run(target):
    """``make`` calls pytest and this command line alone, in forms that are run here and elsewhere."""
    done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = re.findall(r"-m (\w+)", done.stdout)
    assert modules
    assert set(modules) <= {"pytest", "enginegate", "ruff", "mypy"}
    if target == "bench":
        assert "-m pytest tests_perf tests_quality" in done.stdout


PAGE = """
    int8_wo b8: 2.31x, no command

Run it:

    pytest tests_perf --precision int8_wo    # fast
    enginegate doctor && \\
        git add .
    docker run IMAGE  # not run: it needs Docker

This is not run here. It needs a network:

    pip install x

The next one was not run:

```sh
$ make bench
made
```

```sh
unknown --program
```

- an item whose text goes on with
    pytest in an indented line, which is no code

`pytest` alone, `enginegate engines ls|prune`, `pytest
-n 2`, `enginegate = true`, `RUN`.
"""


def test_commands_are_found_and_marks_are_seen():
    found = [[(each.text, each.marked) for each in block.commands] for block in command_blocks(PAGE)]
    assert found == [
        [
            ("pytest tests_perf --precision int8_wo", False),
            ("enginegate doctor && git add .", False),
            ("docker run IMAGE", True),
        ],
        [("pip install x", False)],
        [("make bench", True)],
        [("unknown --program", False)],
    ]
    assert command_spans(PAGE) == ["enginegate engines ls", "enginegate engines prune", "pytest -n 2"]
    (first, *_) = command_blocks(PAGE)
    assert first.script == ["pytest tests_perf --precision int8_wo", "enginegate doctor && git add ."]
    assert Command("make bench", False).elsewhere


# What follows runs the blocks.

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
}


def _whole(command: str) -> bool:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            build_parser().parse_args(calls(command)[0][1:])
        except SystemExit:
            return False
    return True


#: Subcommands that need what the stage has not (a wheel of TensorRT-LLM), or has in a block alone (shards).
ELSEWHERE_ALONE = {"trtllm", "merge"}
#: Commands of sentences that are whole once their reader has filled them in, each once.
FILLED = sorted(
    {
        " ".join(FILLED_IN.get(word, word) for word in command.split())
        for page in PAGES
        for command in command_spans(page.read_text(encoding="utf-8"))
        if command.startswith("enginegate ") and command.split()[1] not in ELSEWHERE_ALONE and _whole(command)
    }
)


@pytest.mark.heavy
@pytest.mark.parametrize("command", FILLED, ids=lambda command: command.replace(sys.executable, "PYTHON"))
def test_a_whole_command_of_a_sentence_runs(command, theatre, tmp_path):
    folder = tmp_path / "stage"
    shutil.copytree(theatre.prepared, folder, symlinks=True)
    theatre.run(command, folder)
