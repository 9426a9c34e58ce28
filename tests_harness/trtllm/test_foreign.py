"""TensorRT-LLM in two other Pythons, none here: built, loaded, asked and raced there, each in its own version."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from enginegate.cli import main
from enginegate.core.specs import SamplingParams, Workload
from enginegate.engines.process.foreign import ForeignBackend
from enginegate.engines.process.interpreter import Interpreter
from enginegate.engines.trtllm import engine_backend, torch_backend
from enginegate.measure import memory
from enginegate.storage.runs import latest_record, load_record
from enginegate.testing import save_tiny_llama

from tests_harness.fakes.workspace import CONFIG, make_workspace
from tests_harness.trtllm import fake_site

pytestmark = [pytest.mark.heavy, pytest.mark.version(None), pytest.mark.child]

OLD, NEW = "1.1.0", "1.2.1"
GPU = """
from enginegate.engines.trtllm import gpu
gpu.devices = lambda: [gpu.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A workspace with a model that is small and whole, and a site for each version."""
    pytest.importorskip("torch")
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("foreign")
    make_workspace(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "checkpoint")
    save_tiny_llama(folder / "checkpoint", vocab_size=len(tokenizer), max_position_embeddings=512)
    config = copy.deepcopy(CONFIG)
    config["engines"] = {"trtllm-torch": {"precisions": ["fp16"]}, "trtllm-engine": {"precisions": ["fp16"]}}
    for section in config["engines"].values():
        section["quantization"] = {"calibration": "data/passages.jsonl"}
    config["default_engine"] = "trtllm-torch"
    config["reference"] = config["quality"]["reference"] = {"backend": "hf", "precision": "fp32"}
    config["gates"]["live"] = {"looks": [4], "margin": 0.2, "tolerated": 0.9, "pairs": 4, "tokens": 8}
    del config["floors"]
    (folder / "toy.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for version in (OLD, NEW):
        site = fake_site.make_site(folder / "sites", version)
        (site / "sitecustomize.py").write_text(GPU, encoding="utf-8")
    return folder


def python_with(place: Path, version: str) -> str:
    """A command whose Python has that version; the suite's code is sent to it."""
    return f"env PYTHONPATH={place / 'sites' / version} {sys.executable}"


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """The fake decodes on the CPU: there is no card to look at."""
    real = engine_backend.capabilities
    for module in (engine_backend, torch_backend):
        monkeypatch.setattr(module, "capabilities", lambda *arguments: replace(real(*arguments), device="cpu"))


@pytest.mark.parametrize("name", ["trtllm-engine", "trtllm-torch"])
def test_each_version_builds_loads_and_answers_in_its_own_python(place, name, tmp_path):
    from enginegate.config.loading import load_config
    from enginegate.engines.registry import load_backend
    from enginegate.models.sources import resolve

    config = load_config(place / "toy.yaml")
    spec, runtime = config.spec(name, "fp16"), config.runtime(name)
    checkpoint = resolve(f"path:{place / 'checkpoint'}", cache=place / "cache", progress=lambda _: None)
    for version in (OLD, NEW):
        interpreter = Interpreter(tuple(python_with(place, version).split()), elsewhere=True)
        backend = ForeignBackend(load_backend(name), interpreter)
        assert f"tensorrt_llm {version}" in backend.version()
        assert backend.why_not_built(spec, runtime, checkpoint.path, tmp_path) == ""
        out = tmp_path / version
        out.mkdir()
        backend.build(spec, checkpoint, out, lambda _: None)
        engine = backend.load(out, spec, runtime)
        try:
            answers = engine.generate([[5, 6, 7], [8, 9, 10]], SamplingParams(4))
            assert [len(answer.token_ids) for answer in answers] == [4, 4]
            assert engine.effective().precision == "fp16"
            assert f"tensorrt_llm {version}" in engine.versions()
            assert (engine.memory().weights or 0) > 100_000
        finally:
            engine.close()
        found = memory.measure_memory(out, 1, spec, runtime, [[5, 6, 7]], Workload(1, 3, 2), interpreter=interpreter)
        assert found.loaded > 0


def test_two_versions_race_from_a_session_that_has_none(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ENGINEGATE_CACHE", str(place / "cache"))
    monkeypatch.chdir(tmp_path)
    code = main(
        [
            *("duet", f"--base=exec:{python_with(place, OLD)}", f"--head=exec:{python_with(place, NEW)}"),
            *(f"--config={place / 'toy.yaml'}", "--batch-size=1", f"--runs={tmp_path / 'runs'}"),
        ]
    )
    said = capsys.readouterr()
    assert code in (0, 1), said.out + said.err
    (race,) = load_record(latest_record(tmp_path / "runs")).races
    assert f"tensorrt_llm {NEW}" in race.head.versions
    assert f"tensorrt_llm {OLD}" in race.base.versions
    assert len(race.launches) == 4
    assert f"tensorrt_llm {NEW}" in said.out
    assert f"@base (tensorrt_llm {OLD}" in said.out
