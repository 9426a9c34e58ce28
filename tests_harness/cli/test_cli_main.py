from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.cli import COMMANDS, build_parser, main
from enginegate.cli.common import columns, fraction, print_json, show_bytes, size
from enginegate.storage.runs import save_record

from tests_harness.storage.factory import run_record

SUBCOMMANDS = [["doctor"], ["engines"], ["engines", "ls"], ["engines", "prune"], ["engines", "verify"], ["accept"],
               ["report"], ["compare"]]  # fmt: skip


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert "example: enginegate " + words[0] in capsys.readouterr().out


def test_every_command_is_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(module.__name__.rpartition(".")[2] in out for module in COMMANDS)
    assert main(["--version"]) == 0
    assert build_parser().prog == "enginegate"


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["report"], ["engines", "prune"], ["engines", "prune", "--keep", "lots"]]
)
def test_bad_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage" in capsys.readouterr().err


def test_an_error_is_one_message_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("enginegate: there is no run record at ")
    assert "hint: " in error
    assert "Traceback" not in error


def test_the_start_imports_nothing_heavy() -> None:
    code = (
        "import sys; from enginegate.cli import main; main(['--help']); heavy = {'torch', 'transformers', 'openvino',"
        " 'matplotlib', 'sqlalchemy', 'scipy', 'numpy', 'pydantic', 'rich', 'evaluate'} & set(sys.modules);"
        " print(heavy); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:]


def test_python_dash_m_harness_is_the_command_and_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "enginegate", "report", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no run record" in done.stderr
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        listing = subprocess.run(
            [sys.executable, "-m", "enginegate", "engines", "ls"], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (listing.returncode, listing.stderr) == (0, "")


@pytest.mark.parametrize(
    ("redirection", "code", "said"), [(">&-", 0, ""), (">/dev/full", 2, "free some space"), (">&- 2>&-", 0, "")]
)
def test_output_that_goes_nowhere(redirection: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m enginegate engines ls {redirection}', sys.executable], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "count"), [("20GB", 20 * 10**9), ("1.5GiB", 3 * 2**29), ("500mb", 5 * 10**8), ("0", 0), ("12 k", 12_000)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("2.5%", 0.025), ("0.05", 0.05), ("0", 0.0)])
def test_shares(text: str, value: float) -> None:
    assert fraction(text) == pytest.approx(value)


def test_small_helpers(capsys: pytest.CaptureFixture[str]) -> None:
    assert [show_bytes(count) for count in (12, 1500, 2_500_000, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert columns([["a", "bb", "c"], ["aaa", "b", "cc"]]) == ["a    bb  c", "aaa  b   cc"]
    print_json({"a": [float("nan"), float("inf"), 1.5], "b": (1,)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [1]}


class Left(io.TextIOBase):
    """A pipe whose reader has left."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        if text:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return 0


UNREAD = [
    ["doctor"],
    ["doctor", "--json"],
    ["engines", "ls"],
    ["engines", "prune", "--keep", "1GB"],
    ["engines", "verify"],
    ["accept", "RUN", "--dry-run", "--baselines", "DIR"],
    ["report", "RUN"],
    ["report", "RUN", "--verdicts"],
    ["power", "RUN"],
    ["init", "--model", "tiny-random", "--engine", "openvino", "--folder", "DIR"],
]


@pytest.mark.parametrize("words", UNREAD, ids=" ".join)
def test_a_reader_that_has_left_changes_no_exit_code(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command prints by ``say``: a broken pipe elsewhere is an error, one of its own stdout is none."""
    monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / "cache"))
    places = {"RUN": str(save_record(run_record(), tmp_path / "runs")), "DIR": str(tmp_path / "there")}
    argv = [places.get(word, word) for word in words]
    read = main(argv)
    for stdout in (Left(), None):  # None: closed by whoever called
        shutil.rmtree(tmp_path / "there", ignore_errors=True)
        capsys.readouterr()
        with contextlib.redirect_stdout(stdout):
            assert main(argv) == read
        assert capsys.readouterr().err == ""
    assert read in (0, 1)
