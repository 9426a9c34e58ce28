"""``--eg-require-trtllm``, and the setup script on a machine without a driver."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

pytest_plugins = ["pytester"]
REPOSITORY = Path(__file__).resolve().parents[2]


def run(pytester, *arguments):
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly", *arguments)


def test_skips_fail_where_it_is_required(pytester):
    pytester.makepyfile(
        """
        import pytest

        def test_runs(): pass

        def test_skips(): pytest.skip("no GPU here")

        @pytest.mark.skip(reason="not today")
        def test_marked(): pass

        @pytest.mark.xfail(reason="known", strict=True)
        def test_expected(): assert False
        """
    )
    run(pytester).assert_outcomes(passed=1, skipped=2, xfailed=1)
    result = run(pytester, "--eg-require-trtllm")
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed") == 1
    assert outcomes.get("xfailed") == 1
    assert "skipped" not in outcomes
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*no GPU here*", "*--eg-require-trtllm is given*"])


def test_module_that_skips_itself_fails_where_it_is_required(pytester):
    pytester.makepyfile("import pytest\npytest.importorskip('no_such_module_here')\ndef test_never(): pass\n")
    assert run(pytester).ret == 5
    result = run(pytester, "--eg-require-trtllm")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*no_such_module_here*"])


def test_setup_script_explains_a_missing_driver(tmp_path):
    script = REPOSITORY / "scripts" / "setup_tensorrt_llm.sh"
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", str(script), "--check"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "nvidia-smi" in done.stderr


def test_setup_script_checks_gpu_and_driver(tmp_path):
    script = REPOSITORY / "scripts" / "setup_tensorrt_llm.sh"
    tool = tmp_path / "nvidia-smi"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python3"}
    for row, code, said in (
        ("NVIDIA H100 80GB HBM3, 9.0, 575.57.08, 81559", 0, "checks passed"),
        ("Tesla T4, 7.5, 575.57.08, 15360", 1, "compute capability 7.5"),
        ("NVIDIA H100 80GB HBM3, 9.0, 535.104.05, 81559", 1, "driver 535"),
    ):
        tool.write_text(f"#!/bin/sh\necho '{row}'\n")
        tool.chmod(0o755)
        done = subprocess.run(
            ["bash", str(script), "--check"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert said in done.stdout + done.stderr
