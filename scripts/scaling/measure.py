"""Takes what the tables of KV caches, scaling, cost and energy are made of; each part takes under five minutes.

    python scripts/scaling/measure.py cpu kv-quality     bytes, and what decode steps lose; any machine, busy or not
    python scripts/scaling/measure.py cpu kv-speed       on a quiet machine
    python scripts/scaling/measure.py cpu scaling        on a quiet machine
    python scripts/scaling/measure.py gpu smollm2-135m            vLLM: KV in fp8, and scaling
    python scripts/scaling/measure.py gpu tinyllama-1.1b-random   likewise, without quality: its weights are random

Records go to docs/results/scaling/records; ``scripts/scaling/page.py`` puts their tables into the page.
Further arguments go to pytest, such as ``--price-per-hour 2.5``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = Path("docs/results/scaling/records")
KV, SCALING = "tests_perf/test_kv_cache.py", "tests_perf/test_scaling.py"

#: By part, the arguments of pytest; the default model.
CPU = {
    "kv-quality": (KV, "-k", "bytes or perplexity or divergence", "--precision", "int8_wo"),
    "kv-speed": (KV, "-k", "bytes or speed", "--precision", "int8_wo", "--time-budget", "200"),
    "scaling": (SCALING, "--precision", "full_prec,int8_wo"),
}
#: What a card is asked otherwise than a CPU. The engine of the sweep is that with 16 bits, so that two are loaded.
GPU: dict[str, Any] = {
    "limits": {"max_batch_size": 64, "max_input_len": 1024, "max_output_len": 256},
    "kv_cache": {"precisions": ["fp8"], "batch_size": 64, "input_len": 1024, "output_len": 64},
    "scaling": {
        "batch_sizes": [1, 2, 4, 8, 16, 32, 64],
        "input_lens": [128, 256],
        "output_lens": [32, 64],
        "throughput": 1.3,
        "time_budget": 60.0,
    },
}
GPU_PRECISION = "bf16@kv16"  # with fp16 an H200 refuses an fp8 cache: its attention gives bf16 then


def main(arguments: list[str]) -> int:
    """Run one part; pytest's exit code."""
    device, part, *more = [*arguments, "", ""][: max(2, len(arguments))]
    if device == "cpu" and part in CPU:
        return _pytest(*CPU[part], *more)
    if device == "gpu" and (REPOSITORY / "configs" / f"{part}.yaml").is_file():
        configuration = _on_a_card(part)
        tests = [KV, SCALING, *(["-k", "not perplexity and not divergence"] if part.endswith("-random") else [])]
        return _pytest(*tests, "--config", str(configuration), "--engine", "vllm", "--precision", GPU_PRECISION, *more)
    print(__doc__)
    return 2


def _pytest(*arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments, "--runs", str(RECORDS)]
    print(*command, flush=True)
    return subprocess.run(command, cwd=REPOSITORY).returncode


def _on_a_card(model: str) -> Path:
    """The model's configuration with ``GPU`` in it, in a folder beside ``configs``, as its paths are relative."""
    content = yaml.safe_load((REPOSITORY / "configs" / f"{model}.yaml").read_text(encoding="utf-8"))
    content |= GPU
    content.pop("floors", None)
    content["workload"] = {**content.get("workload", {}), "batch_sizes": [1]}
    engine = content["engines"].setdefault("vllm", {})
    engine["precisions"] = ["bf16"]
    engine.setdefault("variants", {})["kv16"] = {"runtime": {"kv_precision": "auto"}}
    path = REPOSITORY / "runs" / f"{model}-scaling.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
