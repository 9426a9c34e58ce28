"""KV caches of TensorRT-LLM's PyTorch backend beside 16 bits of the same engine, over the fake."""

from __future__ import annotations

import subprocess
import sys

import pytest
from enginegate.storage.runs import latest_record, load_record

from tests_harness.fakes.workspace import REPOSITORY
from tests_harness.trtllm.test_whole_suite import environment_of, place

__all__ = ["place"]

pytestmark = [pytest.mark.heavy, pytest.mark.version(None)]


def test_fp8_halves_the_pool_and_is_timed_and_scored(place):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests_perf/test_kv_cache.py", "-p", "no:cacheprovider"),
            *("--config", str(place / "toy.yaml"), "--engine", "trtllm-torch", "--precision", "bf16"),
            *("--time-budget", "8", "--runs", str(place / "kv")),
        ],
        cwd=REPOSITORY,
        env=environment_of(place),
        capture_output=True,
        text=True,
    )
    record = load_record(latest_record(place / "kv"))
    found = {entry.metric: entry for entry in record.verdicts if entry.engine == "toy-trtllm-torch-bf16@kvfp8"}
    assert {"kv_bytes", "kv_speed", "perplexity"} <= found.keys(), done.stdout[-4000:]
    assert (found["kv_bytes"].status, found["kv_bytes"].estimate) == ("PASS", 0.5)
    caches = {entry.variant: entry.effective["kv_precision"] for entry in record.engines if "trtllm" in entry.id}
    assert caches == {"kv16": "bf16", "kvfp8": "fp8"}
    assert "has no int8 KV cache" in done.stdout
