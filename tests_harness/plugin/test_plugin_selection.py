"""What the options select, and what a wrong one is answered with."""

from __future__ import annotations

import subprocess
import sys

import pytest
from enginegate.plugin.ours import MARKERS

pytest_plugins = ["pytester"]


def collected(result):
    return [line for line in result.outlines if "::" in line]


def test_ids_name_model_engine_precision_and_batch_size(suite):
    result = suite.run("tests_perf", "tests_quality", "--collect-only", "-q")
    names = collected(result)
    assert "tests_perf/test_speedup.py::test_speedup[toy-fake-int8_wo-b2]" in names
    assert "tests_quality/test_multiple_choice.py::test_cloze[toy-fake-int4_wo]" in names
    assert result.ret == 0


def test_comma_lists_choose_engines_precisions_and_batch_sizes_and_two_configurations(suite):
    other = suite.workspace.variant("other", model={"name": "other", "source": "path:checkpoint"})
    result = suite.run(
        "tests_perf/test_speedup.py",
        "--collect-only",
        "-q",
        "--engine=fake",
        "--precision=bf16, int8_wo,bf16",
        "--batch-size=4,1",
        config=f"{suite.workspace.config},{other}",
    )
    expected = [
        f"tests_perf/test_speedup.py::test_speedup[{model}-fake-{precision}-b{size}]"
        for model in ("toy", "other")
        for precision in ("bf16", "int8_wo")
        for size in (4, 1)
    ]
    assert collected(result) == expected


def test_model_is_found_by_name_and_full_precision_is_the_native_half(suite):
    args = ["tests_quality/test_perplexity.py", "--collect-only", "-q", "--strict-markers", "--engine=fake"]
    result = suite.pytester.runpytest_inprocess(*args, "--model=smollm2-135m", "--precision=full_prec")
    assert collected(result) == ["tests_quality/test_perplexity.py::test_perplexity[smollm2-135m-fake-bf16]"]


def test_markers_are_registered_and_select(suite):
    result = suite.run("tests_perf", "tests_quality", "--collect-only", "-q", "-m", "eg_quality")
    assert collected(result)
    assert all(name.startswith("tests_quality/") for name in collected(result))
    for marker in ("eg_perf", "eg_quality", "eg_gpu", "eg_timed(metric)", "eg_audit", "eg_gates(n)"):
        assert any(line.startswith(f"{marker}:") for line in MARKERS)


WRONG = [
    (["--model=nosuch"], "unknown model 'nosuch'", "use one of"),
    (["--engine=nosuch"], "no backend called 'nosuch'", "known are"),
    (["--precision=int3"], "unknown precision 'int3'", "hint:"),
    (["--precision=int8_wo,nvfp4"], "no precision 'nvfp4'", "take one that works here"),
    (["--precision=fp8"], "nobody pretends fp8", "take one that works here"),
    (["--batch-size=0"], "--batch-size '0' is not a positive whole number", "for example"),
    (["--batch-size=1,01"], "--batch-size '01' is not a positive whole number", "for example"),
    ([f"--batch-size={'9' * 5000}"], "is not a positive whole number", "for example"),
    (["--precision=int8"], "unknown precision 'int8'", "did you mean 'int8_wo'?"),
    (["--engine=fakee"], "no backend called 'fakee'", "did you mean 'fake'?"),
    (["--batch-size=two"], "--batch-size 'two'", "for example"),
    (["--batch-size=99"], "batch size 99 is over limits.max_batch_size 4", "raise the limit"),
    (["--precision=,"], "--precision ',' names nothing", "leave it out"),
    (["--time-budget=-3"], "--time-budget '-3'", "for example"),
    (["--time-budget=nan"], "--time-budget 'nan'", "for example"),
    ([f"--runs={'x' * 300}"], "cannot be used: [Errno 36] File name too long", "name a folder"),
    (["--runs=conftest.py"], "is a file, not a folder", "name a folder"),
]


@pytest.mark.parametrize(
    ("args", "problem", "hint"), WRONG, ids=lambda value: value[0] if isinstance(value, list) else ""
)
def test_wrong_option_is_a_usage_error_with_reason_and_hint(suite, args, problem, hint):
    result = suite.run("tests_perf", *args)
    check_usage_error(result, problem, hint)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"workloads": {}}, "workloads: unknown key"),
        ({"gates": {"speed": {"shift": 0.01}}}, "gates.speed.shift: is a section, with keys of its own"),
        ({"workload": {"batch_sizes": [0]}}, "workload.batch_sizes.0"),
        ({"default_engine": "other"}, "default_engine 'other' is not under engines"),
    ],
)
def test_wrong_configuration_is_a_usage_error_that_names_file_and_key(suite, sections, problem):
    path = suite.workspace.variant("wrong", **sections)
    result = suite.run("tests_perf", config=path)
    check_usage_error(result, problem, "hint:")
    assert str(path) in result.stderr.str()


def test_wrong_option_is_a_usage_error_under_xdist_too(suite):
    result = suite.run_apart("tests_perf", "-n2", "--precision=int3")
    check_usage_error(result, "unknown precision 'int3'", "hint:")


@pytest.mark.parametrize("name", ["--config", "--eg-config"])
def test_a_path_that_pytest_takes_for_a_test_is_told(suite, name):
    """pytest looked for its root folder beside the configuration, found no ini, and knew no option of ours."""
    (suite.folder / "project").mkdir()
    for entry in ("pytest.ini", "conftest.py", "tests_perf"):
        (suite.folder / entry).rename(suite.folder / "project" / entry)
    suite.pytester.chdir()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only"]
    for given, code in (([name, str(suite.workspace.config)], 4), ([f"{name}={suite.workspace.config}"], 0)):
        done = subprocess.run([*command, *given], cwd=suite.folder / "project", capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        assert (f"hint: write {name}={suite.workspace.config}" in done.stderr) == (code == 4)


@pytest.mark.parametrize("selected", ["tests_perf", "tests_quality"])
def test_a_bad_default_fails_our_tests_and_no_others(suite, selected):
    """A typo in the ini's enginegate_model stopped every test of the session, with exit code 4."""
    (suite.folder / "pytest.ini").write_text("[pytest]\nenginegate = true\nenginegate_model = typo\n", encoding="utf-8")
    (suite.folder / "tests").mkdir()
    (suite.folder / "tests" / "test_theirs.py").write_text("def test_it(): pass\n", encoding="utf-8")
    result = suite.pytester.runpytest_inprocess(selected, "tests", "-pno:cacheprovider", "-pno:randomly", "-v")
    outcomes = result.parseoutcomes()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes["passed"] == 1, "theirs"
    assert outcomes["errors"] > 1
    result.stdout.fnmatch_lines(["*[[]nothing-selected[]] ERROR*"])
    shown = result.stdout.str()
    assert "unknown model 'typo'" in shown
    assert "hint: use one of" in shown
    assert "INTERNALERROR" not in shown
    result = suite.pytester.runpytest_inprocess(selected, "tests", "--model=typo", "-pno:cacheprovider")
    check_usage_error(result, "unknown model 'typo'", "use one of")


def test_fixtures_may_be_named_as_a_plugin_instead(suite):
    """One line for a repository in which nobody else has fixtures of these names."""
    (suite.folder / "conftest.py").write_text('pytest_plugins = ["enginegate.fixtures.suite"]\n', encoding="utf-8")
    (suite.folder / "tests_perf" / "conftest.py").unlink()
    result = suite.run("tests_perf/test_speedup.py", "--collect-only", "-q", "--precision=int8_wo", "--batch-size=2")
    assert collected(result) == ["tests_perf/test_speedup.py::test_speedup[toy-fake-int8_wo-b2]"]


def test_fixtures_without_the_plugin_say_what_is_missing(suite):
    (suite.folder / "conftest.py").unlink()
    result = suite.pytester.runpytest_inprocess("tests_perf/test_build.py", "-pno:cacheprovider")
    result.assert_outcomes(errors=2)
    assert 'put pytest_plugins = ["enginegate.plugin"] into' in result.stdout.str()


def check_usage_error(result, problem, hint):
    shown = result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert problem in shown
    assert hint in shown
    assert shown.count("ERROR:") == 1
    assert "Traceback" not in shown + result.stdout.str()
