"""The house's rules, held against the imports themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from enginegate.engines.registry import BUILT_IN

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import architecture  # noqa: E402

ORDER = {name: number for number, name in enumerate(architecture.ROOMS)}
EDGES = architecture.edges()
HEAVY = {
    "torch", "openvino", "openvino_genai", "transformers", "optimum", "nncf", "vllm", "tensorrt_llm", "matplotlib",
    "evaluate", "sqlalchemy", "modelopt", "llmcompressor", "lm_eval",
}  # fmt: skip


def outside(name: str) -> set[tuple[str, bool]]:
    """Top-level names of what a module imports from elsewhere, and whether at import time."""
    path = architecture.modules()[name]
    found = {(imported.partition(".")[0], at_once) for imported, at_once in architecture.imports(path)}
    return {(top, at_once) for top, at_once in found if top != "enginegate" and top not in sys.stdlib_module_names}


def test_every_module_has_a_room():
    homeless = [name for name in EDGES if not architecture.room(name)]
    assert homeless == ["enginegate", "enginegate.__main__", "enginegate.pytest_options", "enginegate.templates"]
    assert {architecture.room(name) for name in EDGES} - {""} == set(ORDER)


def test_a_room_imports_only_rooms_before_it():
    back = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if architecture.room(name) and architecture.room(target)
        if ORDER[architecture.room(target)] > ORDER[architecture.room(name)]
    ]
    assert back == []


def test_no_modules_import_each_other_in_a_circle():
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != "open", f"a circle: {' -> '.join((*path[path.index(name) :], name))}"
        if name in state:
            return
        state[name] = "open"
        for target in EDGES[name]:
            visit(target, (*path, name))
        state[name] = "done"

    for name in EDGES:
        visit(name, ())


def test_gates_are_pure_statistics():
    for name in EDGES:
        if architecture.room(name) == "gates":
            assert {top for top, _ in outside(name)} <= {"numpy", "scipy"}, name
            ours = {target for target in EDGES[name] if architecture.room(target) != "gates"}
            assert ours <= {"enginegate.core.errors", "enginegate.core"}, name


@pytest.mark.parametrize(
    ("room", "others"),
    [
        ("engines", {"measure", "config", "quality"}),
        ("config", {"measure", "quality"}),
        ("report", {"session", "engines", "plan"}),
        ("storage", {"verdicts", "engines", "config", "gates.audit"}),
        ("verdicts", {"engines.process", "measure.arena"}),
    ],
)
def test_what_a_room_must_not_know(room, others):
    for name, targets in EDGES.items():
        if architecture.room(name) == room:
            known = {other for other in others for target in targets if f"{target}.".startswith(f"enginegate.{other}.")}
            assert known == set(), name


def test_the_configuration_knows_no_backend():
    backends = {f"enginegate.engines.{name}" for name in ("hf", "openvino", "vllm", "trtllm")}
    for name, targets in EDGES.items():
        if architecture.room(name) in ("config", "core", "measure", "storage", "verdicts", "plan", "session", "report"):
            assert not [each for each in targets for backend in backends if f"{each}.".startswith(f"{backend}.")], name


def test_nothing_heavy_is_imported_before_it_is_used():
    """Neither by what pytest and the command line load at once, nor by any backend's class."""
    backends = {target.partition(":")[0] for target in BUILT_IN.values()}
    reached, waiting = set(), {"enginegate.plugin", "enginegate.cli", *backends}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= {target for target, at_once in EDGES[name].items() if at_once} - reached
    for name in reached:
        assert not {top for top, at_once in outside(name) if at_once} & HEAVY, name


def test_the_picture_is_up_to_date():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "architecture.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_step_back_up_and_a_circle_would_be_seen(tmp_path, monkeypatch):
    """The reader of imports itself: within functions, under TYPE_CHECKING, names of modules and of their contents."""
    (tmp_path / "enginegate" / "core").mkdir(parents=True)
    text = "from enginegate.cli import main\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    text += "def late():\n    import openvino\n"
    (tmp_path / "enginegate" / "core" / "bad.py").write_text(text)
    found = set(architecture.imports(tmp_path / "enginegate" / "core" / "bad.py"))
    assert found == {("enginegate.cli.main", True), ("typing.TYPE_CHECKING", True), ("openvino", False)}
    assert architecture.module_of("enginegate.cli.main", architecture.modules()) == "enginegate.cli"
    assert architecture.module_of("numpy.array", architecture.modules()) == ""
