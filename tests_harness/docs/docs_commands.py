"""The commands that the pages give, and what becomes of each: run, run by another test, or marked as not run.

A block of commands is run word for word in a shell (``test_docs_run``), but for the lines that another test runs
(``ELSEWHERE``) and those marked ``not run``: in a comment of their own, or in the last sentence before the block.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from docs_text import FENCED, indented, spans

#: Programs that a line of a block, or a code span, is a command of.
PROGRAMS = frozenset({
    "actionlint", "bash", "cat", "cd", "cp", "curl", "docker", "enginegate", "export", "git", "jupyter", "make",
    "mkdir", "nvidia-smi", "pip", "pipx", "pytest", "python", "python3", "rm", "sh", "tmux", "uv", "wget",
})  # fmt: skip
#: Those that fetch something, or need what a test has not.
OUTSIDE = frozenset({"curl", "docker", "pip", "pipx", "uv", "wget"})
#: Languages of fenced blocks of commands.
SHELLS = frozenset({"sh", "bash", "shell", "console"})

#: Commands that other tests run: a pattern for the whole line, and the tests.
ELSEWHERE = {
    r"make site": "docs/test_site.py::test_the_site_is_built_without_a_warning_and_without_a_fault",
    r"make (bench|test|test-all|format|lint)": "docs/test_docs_commands.py::test_what_make_does_is_run",
    r"pip install '?(enginegate|PATH)\[openvino\]'?": (
        "packaging/test_first_session.py::test_wheel_with_its_dependencies"
    ),
    r"enginegate (report latest|history) --html .*": (
        "report/test_dashboard_browser.py::test_the_commands_write_what_the_browser_shows"
    ),
    r"pip install -e '?\.(\[openvino\])?'?": "packaging/test_wheel.py::test_both_kinds_of_install_find_the_same_files",
    r"scripts/setup_tensorrt_llm\.sh --check": "trtllm/test_require.py::test_setup_script_explains_a_missing_driver",
    r"pytest tests_perf(/test_kv_cache\.py --precision int8_wo| -m kv_cache)": (
        "plugin/test_plugin_kv_cache.py::test_bytes_speed_and_quality_of_each_cache"
    ),
    r"pytest tests_perf(/test_scaling\.py --precision int8_wo| -m scaling)": (
        "plugin/test_plugin_scaling.py::test_the_shape_is_judged_recorded_and_drawn"
    ),
    r"pytest tests_perf/test_speedup\.py --price-per-hour 2\.5": (
        "plugin/test_plugin_scaling.py::test_cost_and_energy_stand_in_the_table_of_the_session"
    ),
    # They read the configuration of a real model, and a pretended one has none.
    r"enginegate memory --config configs/\S+ .*": "cli/test_cli_memory.py::test_the_seeds_command_as_it_is",
    r"enginegate memory --model some-folder/config\.json .*": "cli/test_cli_memory.py::test_kv_formats_of_an_engine",
    # The memory pass opens a CUDA context, so that a pretended GPU serves the timed tests alone.
    r"pytest tests_perf tests_quality --engine vllm --require-gpu": "plugin/test_plugin_devices.py::test_require_gpu",
    r"pytest tests_perf\S* \S* ?-n 2 --dist loadgroup --engine vllm .*": (
        "plugin/test_plugin_devices.py::test_each_worker_has_a_card_and_each_arena_one_worker"
    ),
}


@dataclass(frozen=True)
class Command:
    """One command. ``marked``: the page says that it is not run."""

    text: str
    marked: bool

    @property
    def elsewhere(self) -> str:
        """The test that runs it; empty where that is the block's own."""
        return next((test for pattern, test in ELSEWHERE.items() if re.fullmatch(pattern, self.text)), "")


@dataclass(frozen=True)
class Block:
    """Commands that stand together. ``line``: of its first one in the page."""

    line: int
    commands: tuple[Command, ...]

    @property
    def script(self) -> list[str]:
        """What is left to be run here."""
        return [each.text for each in self.commands if not each.marked and not each.elsewhere]


def is_command(line: str) -> bool:
    """Whether a line of code calls one of ``PROGRAMS`` or a script of ours, perhaps behind variables for it."""
    words = line.split()
    while words and re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
        words = words[1:]
    return bool(words) and (words[0] in PROGRAMS or re.fullmatch(r"(\./)?scripts/\S+\.(py|sh)", words[0]) is not None)


def command_blocks(text: str) -> Iterator[Block]:
    """Every block of commands, in the order of the page.

    Those are fenced blocks in a shell's language, and others in which a line is a command: then all lines are, or those
    behind a prompt where there is one.
    """
    found = [(first, "", "\n".join(line.strip() for line in lines)) for first, lines in indented(text)]
    for match in FENCED.finditer(text):
        if match["language"] in SHELLS or not match["language"]:
            found.append((text.count("\n", 0, match.start()) + 2, match["language"], match["text"]))
    for first, language, content in sorted(found):
        lines = [line for line in re.sub(r"\\\n\s*", "", content).splitlines() if line and not line.startswith("#")]
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
        if language in SHELLS or any(map(is_command, lines)):
            marked = _marked_before(text, first)
            yield Block(first, tuple(_command(line, marked) for line in lines))


def _command(line: str, marked: bool) -> Command:
    text, _, comment = line.partition(" # ")
    if comment and text.count("'") % 2 + text.count('"') % 2:  # within a text
        text, comment = line, ""
    return Command(" ".join(text.split()), marked or "not run" in comment.lower())


def _marked_before(text: str, first: int) -> bool:
    """Whether the last sentence before a block says that it is not run."""
    above = "\n".join(text.splitlines()[: first - 1]).removesuffix("```").rstrip()
    above = re.sub(r"\n```\w*\s*$", "", above)
    paragraph = " ".join(above.rsplit("\n\n", 1)[-1].split())
    return "not run" in re.split(r"(?<=[.!?])\s", paragraph)[-1].lower()


def command_spans(text: str) -> list[str]:
    """Code spans that are commands with arguments, not the mere name of a program; alternatives as one command each."""
    found = []
    for span in spans(text):
        if is_command(span) and len(span.split()) > 1 and " = " not in span:
            (alternatives,) = re.findall(r" (\w+(?:\|\w+)+)", span)[:1] or [""]
            found += [span.replace(alternatives, each) for each in alternatives.split("|")]
    return found


def calls(command: str) -> list[list[str]]:
    """The programs that a line calls one after the other, each with its arguments, without variables before it."""
    found = []
    for part in re.split(r" (?:&&|\|\|) ", command):
        words = shlex.split(re.split(r" [|>] ", part)[0])
        while re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
            words = words[1:]
        found.append(words)
    return found
