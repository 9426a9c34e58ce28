"""Which precision of the reference is the fastest: measured once for a machine, a checkpoint and a library version."""

from __future__ import annotations

import pytest
from enginegate.config.loading import load_config
from enginegate.machine.fingerprint import fingerprint
from enginegate.session import references
from enginegate.session.bench import ModelBench

from tests_harness.fakes.workspace import FAKES, make_workspace


class Library:
    """A backend that measures its precisions, in some version."""

    def __init__(self, version: str, fastest: str, asked: list[str]) -> None:
        self._version, self._fastest, self._asked = version, fastest, asked

    def version(self) -> str:
        return self._version

    def fastest_precision(self, checkpoint: object) -> tuple[str, dict[str, list[float]]]:
        del checkpoint
        self._asked.append(self._version)
        return self._fastest, {"fp32": [2.0], "bf16": [1.0]}


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """The reference that a process with the given library would choose; all processes share one cache."""
    workspace = make_workspace(tmp_path)
    monkeypatch.syspath_prepend(str(FAKES))
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    config = load_config(workspace.variant("auto", reference={"backend": "fake", "precision": "auto"}))
    machine = fingerprint()

    def choice(library: Library) -> str:
        bench = ModelBench.of(config, machine, tmp_path / "cache", lambda _: None)
        monkeypatch.setattr(references, "load_backend", lambda _: library)
        return bench.speed_reference.spec().precision

    return choice


def test_it_is_measured_once(choose):
    asked: list[str] = []
    assert [choose(Library("1", "fp32", asked)) for _ in range(3)] == ["fp32"] * 3
    assert asked == ["1"]


def test_two_versions_do_not_take_each_others_choice_away(choose):
    """The later one used to remove the file, so that two processes could judge by different references."""
    asked: list[str] = []
    old, new = Library("1", "fp32", asked), Library("2", "int8_wo", asked)
    assert [choose(library) for library in (old, new, old, new)] == ["fp32", "int8_wo", "fp32", "int8_wo"]
    assert asked == ["1", "2"]
