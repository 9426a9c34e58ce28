"""Live acceptance of the TensorRT-LLM backends on a GPU: ``make bench-trtllm``. NOT RUN by this project's own CI.

The tests build a real engine, load it and ask it everything that the suite needs. What they saw goes to
``runs/trtllm-acceptance.json``, made to be sent back.

$ENGINEGATE_LIVE_CONFIG   configuration file (default configs/tinyllama_int8.yaml, which needs the Hugging Face Hub)
$ENGINEGATE_LIVE_SOURCE   a model source in place of the file's, e.g. random:tinyllama-1.1b?seed=0 without a hub
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from enginegate.config.loading import load_config
from enginegate.config.project import own_folder
from enginegate.core.cache import cache_folder
from enginegate.core.errors import CapabilityError
from enginegate.engines.process.child_engine import load_engine
from enginegate.engines.registry import check_precision, load_backend
from enginegate.engines.store import EngineStore
from enginegate.engines.trtllm import gpu
from enginegate.engines.trtllm.contract import installed_version, version_problem
from enginegate.models.sources import resolve

RECORD = Path("runs") / "trtllm-acceptance.json"


@pytest.fixture(scope="session")
def record():
    """What the tests saw; written at the end whatever happened."""
    found: dict[str, Any] = {
        "tensorrt_llm": installed_version(),
        "gpus": [vars(device) for device in gpu.devices()],
    }
    yield found
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"\nwrote {RECORD}")


@pytest.fixture(scope="session")
def live_config():
    return load_config(
        Path(os.environ.get("ENGINEGATE_LIVE_CONFIG", own_folder("enginegate.configs") / "tinyllama_int8.yaml"))
    )


@pytest.fixture(scope="session")
def checkpoint(live_config):
    model = live_config.file.model
    source = os.environ.get("ENGINEGATE_LIVE_SOURCE", "")
    sha256 = "" if source else model.sha256
    return resolve(source or model.source, cache=cache_folder(), sha256=sha256, progress=print)


def require(backend: str, precision: str) -> None:
    """Skip with the reason where this machine cannot; ``--require-trtllm`` makes that a failure."""
    problem = version_problem(backend, installed_version()) or gpu.driver_problem(gpu.devices())
    if problem:
        pytest.skip(f"NOT RUN: {problem}")
    try:
        check_precision(load_backend(backend), precision)
    except CapabilityError as error:
        pytest.skip(f"NOT RUN: {error}")


@pytest.fixture
def load(live_config, checkpoint):
    """Build (once, in the engine store) and load; closes what it loaded."""
    opened = []
    store = EngineStore(cache_folder())

    def open_engine(backend: str, precision: str):
        require(backend, precision)
        runtime, spec = live_config.runtime(backend), live_config.spec(backend, precision)
        entry = store.get(spec, checkpoint, load_backend(backend), progress=print)
        opened.append(load_engine(load_backend(backend), entry.path, spec, runtime))
        return opened[-1]

    yield open_engine
    for engine in opened:
        engine.close()
    store.close()
