"""What is imported when: collecting the suite and importing the package load no heavy library."""

from __future__ import annotations

import subprocess
import sys

from workspace import REPOSITORY

HEAVY = (
    "torch",
    "openvino",
    "openvino_genai",
    "transformers",
    "optimum",
    "nncf",
    "matplotlib",
    "evaluate",
    "sqlalchemy",
    "scipy.stats",  # most of a second, which scipy itself puts off until it is used
)

COLLECT = """
import sys, pytest
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests_perf", "tests_quality"])
print("HEAVY", sorted(set(sys.modules) & set(sys.argv[1:])))
sys.exit(code)
"""
IMPORT = """
import sys
before = set(sys.modules)
import enginegate
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(added - set(sys.stdlib_module_names)))
"""
LIGHT = """
import sys
import enginegate.core.specs, enginegate.engines.base, enginegate.core.errors
print("HEAVY", sorted(set(sys.modules) & set(sys.argv[1:])))
"""


def python(program):
    command = [sys.executable, "-c", program, *HEAVY]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_collecting_the_real_suite_imports_no_heavy_library():
    output = python(COLLECT)
    assert output.strip().endswith("HEAVY []")
    assert "test_speedup[smollm2-135m-openvino-" in output


def test_importing_the_package_imports_nothing_else():
    assert python(IMPORT).strip() == "['enginegate']"


def test_the_types_between_rooms_are_light():
    assert python(LIGHT).strip() == "HEAVY []"
