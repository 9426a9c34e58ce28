"""tests_perf and tests_quality as a user runs them, on both backends over the fake, from a configuration in the names
of other projects: selected, built and loaded in processes of their own, timed, scored, weighed and recorded.

The fake decodes on the CPU, so the GPU is pretended to the two backends alone and everything is measured as on a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from enginegate.core.records import RunRecord
from enginegate.quality.measure import CHOICES
from enginegate.storage.runs import latest_record, load_record
from enginegate.testing import save_tiny_llama

from tests_harness.fakes.workspace import CHAT_TEMPLATE, CONFIG, REPOSITORY, make_workspace
from tests_harness.trtllm import fake_site

pytestmark = [pytest.mark.heavy, pytest.mark.version(None)]

GPU = """
from dataclasses import replace
from enginegate.engines.trtllm import gpu, precisions
real = precisions.capabilities
gpu.devices = lambda: [gpu.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)]
precisions.capabilities = lambda *arguments: replace(real(*arguments), device="cpu")
"""
ENGINES = {
    "trtllm-engine": {
        "precisions": ["int4_awq"],
        "quantization": {"awq_block_size": 32, "calibration": "data/calibration.jsonl", "calibration_samples": 8},
        "optimization": {"use_int8_kv_cache": True},
        "engine": {
            "max_batch_size": 4,
            "max_input_len": 256,
            "max_output_len": 32,
            "use_paged_kv_cache": True,
            "tokens_per_block": 64,
            "kv_cache_free_gpu_mem_fraction": 0.8,
            "max_tokens_in_paged_kv_cache": 2000,
            "use_inflight_batching": True,
        },
    },
    "trtllm-torch": {"precisions": ["full_prec"], "runtime": {"speculation": "ngram"}},
}
#: What is judged, and what is scored, of every engine; multiple choice is skipped where the reference only guesses.
METRICS = {"engine_size", "build_seconds", "speedup", "ttft", "itl", "loaded_memory", "peak_memory", "kv_budget"}
SCORED = {"similarity", "summaries", "divergence", "letters", "cloze", "perplexity", "determinism"}


def write_model(folder: Path) -> None:
    pytest.importorskip("torch")
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    save_tiny_llama(folder, vocab_size=len(tokenizer), max_position_embeddings=512)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    make_workspace(folder)
    write_model(folder / "checkpoint")
    for file in (folder / "data").iterdir():
        file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    passages = (REPOSITORY / "fixtures" / "data" / "calibration.jsonl").read_text(encoding="utf-8")
    (folder / "data" / "calibration.jsonl").write_text(passages, encoding="utf-8")
    reference = {"backend": "hf", "precision": "fp32"}
    quality = {**CONFIG["quality"], "reference": reference}
    own = {key: CONFIG[key] for key in ("schema", "model", "workload", "gates")}
    config = {**own, "engines": ENGINES, "default_engine": "trtllm-engine", "reference": reference, "quality": quality}
    (folder / "toy.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    site = fake_site.make_site(folder / "sites", "1.2.1")
    (site / "sitecustomize.py").write_text(GPU, encoding="utf-8")
    return folder


def environment_of(place: Path) -> dict[str, str]:
    """Of a session of its own in such a place."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    return environment | {
        "PYTHONPATH": os.pathsep.join([str(place / "sites" / "1.2.1"), str(REPOSITORY / "harness")]),
        "ENGINEGATE_CACHE": str(place / "cache"),
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture(scope="module")
def run(place) -> tuple[subprocess.CompletedProcess[str], RunRecord]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests_perf", "tests_quality", "--require-trtllm", "-k", "not audit"),
            *("-p", "no:cacheprovider", "--config", str(place / "toy.yaml"), "--engine", "trtllm-engine,trtllm-torch"),
            *("--batch-size", "2", "--time-budget", "8", "--runs", str(place / "runs")),
            *("--baselines", str(place / "baselines")),
        ],
        cwd=REPOSITORY,
        env=environment_of(place),
        capture_output=True,
        text=True,
    )
    return done, load_record(latest_record(place / "runs"))


def test_everything_runs_and_is_recorded(run):
    done, record = run
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    candidates = {entry.id for entry in record.engines if entry.role == "candidate"}
    assert candidates == {"toy-trtllm-engine-int4_awq", "toy-trtllm-torch-bf16"}
    for name in candidates:
        assert {entry.metric for entry in record.verdicts if entry.engine == name} >= METRICS
        scored = {entry.metric for entry in record.quality if entry.engine == name}
        assert scored | CHOICES.keys() == SCORED
    (arena,) = record.arenas
    assert set(arena.contestants) == {"toy-hf-fp32", *candidates}
    assert {entry.engine for entry in record.memory} >= set(candidates)


def test_what_other_projects_call_the_options_reached_the_engines(run):
    _, record = run
    for entry in record.engines:
        if entry.backend == "trtllm-engine":
            assert entry.effective["kv_precision"] == "int8"
            assert entry.effective["tokens_per_block"] == 64
            assert entry.spec["kv_precision"] == "int8"
            assert entry.runtime["kv_cache_fraction"] == 0.8
        elif entry.backend == "trtllm-torch":
            assert entry.effective["speculation"] == "ngram"
            assert entry.effective["details"]["ttft"]["accepted_draft_tokens"] > 0
        if entry.role == "candidate":
            clocks = entry.effective["details"]["ttft"]
            assert 0 < clocks["ttft_runtime_median"] < clocks["ttft_wall_median"]
            assert clocks["seen_before_made"] == 0
    budgets = {entry.engine: entry.kv_budget for entry in record.memory if "trtllm-engine" in entry.engine}
    assert set(budgets.values()) == {2000 // 64 * 64 * 2 * 2 * 2 * 16}
