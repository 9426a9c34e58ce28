"""Backends of others that raise while a configuration is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from enginegate.config import loading, names
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.engines.base import Backend, Capabilities
from enginegate.engines.registry import load_backend

TEXT = """
schema: 1
model: {name: toy, source: "random:tiny?seed=0"}
default_engine: hf
engines: {hf: {precisions: [fp32]}, openvino: {precisions: [fp32]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "toy.yaml"
    made.write_text(TEXT, encoding="utf-8")
    return made


def replaced(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    """Give the backend ``openvino`` other parts while configurations are read."""

    def load(name: str) -> Backend:
        backend = load_backend(name)
        if name == "openvino":
            for part, value in parts.items():
                monkeypatch.setattr(backend, part, value, raising=False)
        return backend

    monkeypatch.setattr(names, "load_backend", load)
    monkeypatch.setattr(loading, "load_backend", load)


def raising(error: Exception) -> Any:
    def raise_it(*_: object) -> Capabilities:
        raise error

    return raise_it


def test_a_backend_that_cannot_say_what_it_can_do_stops_nobody_who_does_not_select_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (raising(RuntimeError("no driver")), lambda: None):
        replaced(monkeypatch, capabilities=answer)
        assert load_config(file).name == "toy"


def test_a_backend_that_fails_over_a_model_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, check_model=raising(KeyError("num_heads")))
    with pytest.raises(ConfigError, match=r"engines.openvino.precisions.0: backend openvino cannot say .*num_heads"):
        load_config(file)
