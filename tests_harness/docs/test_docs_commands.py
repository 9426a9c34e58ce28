"""Every command of every page is run, here or by the test that is named for it, or the page says that it is not run.

Blocks of commands are run in ``test_docs_run``. Commands within sentences are read by the parsers that would read them;
every option and subcommand that they may have is one that a named test runs.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from docs_commands import ELSEWHERE, OUTSIDE, Command, calls, command_blocks, command_spans
from docs_text import PAGES, REPOSITORY
from enginegate.cli import build_parser
from enginegate.config.loading import find_config
from enginegate.core.specs import PRECISIONS
from enginegate.engines.registry import known_backends
from enginegate.plan.against import read_against
from enginegate.pytest_options import OPTIONS

pytest_plugins = ["pytester"]

TESTS = REPOSITORY / "tests_harness"

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
    "serving": "plugin/test_plugin_serving.py::test_serving_is_left_out_until_it_is_asked_for",
    "techniques": "plugin/test_plugin_techniques.py::test_techniques_are_left_out_until_they_are_asked_for",
    "gate-audit": "plugin/test_plugin_audits.py::test_an_audit_lies_with_its_run_until_it_is_accepted",
    "price-per-hour": "plugin/test_plugin_scaling.py::test_the_shape_is_judged_recorded_and_drawn",
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
    "memory": "cli/test_cli_memory.py::test_the_seeds_command_as_it_is",
    "duet": "plugin/test_plugin_against.py::test_duet_gives_the_same_verdicts_without_pytest",
    "accept": "cli/test_cli_accept_report.py::test_accept_prints_what_moves_and_writes",
    "merge": "session/test_shards.py::test_the_command_writes_what_a_session_writes",
    "report": "cli/test_cli_accept_report.py::test_report_prints_the_table_and_writes_beside_the_run",
    "texts": "cli/test_cli_texts.py::test_texts_shows_where_two_engines_differ_most",
    "compare": "cli/test_cli_compare.py::test_exit_codes",
    "power": "cli/test_cli_power.py::test_table_has_a_column_for_each_reference",
    "serve": "plugin/test_plugin_serving.py::test_serve_prints_the_curve_and_writes_it",
    "schema": "cli/test_cli_schema.py::test_a_schema_is_printed_as_json",
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
        case "." | "export" | "git" | "docker" | "cd" | "mkdir" | "pre-commit" | "sed":
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
    modules = re.findall(r"python3? -m (\w+)", done.stdout)
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
