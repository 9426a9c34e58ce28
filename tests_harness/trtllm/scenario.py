"""One walk through everything that the adapters do with TensorRT-LLM, so that all their uses are recorded."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival
from enginegate.engines.effective import check_effective
from enginegate.engines.memory_law import memory_law, pool_bytes
from enginegate.engines.registry import load_backend
from enginegate.engines.serving import checked_events
from enginegate.engines.trtllm.options import built_spec
from enginegate.models.checkpoint import Checkpoint
from enginegate.testing import prompts

BLOCK = 64


def use(engine, *, quantized_kv: str = "") -> dict[str, object]:
    """Generate, stream, score and ask; returns what the engine says that it is."""
    batch = prompts(3, 12)
    answers = engine.generate(batch, SamplingParams(9))
    assert [len(answer.token_ids) for answer in answers] == [9, 9, 9]
    assert all(list(answer.token_times) == sorted(answer.token_times) for answer in answers)
    streamed = list(engine.stream(batch[0], SamplingParams(9)))
    assert tuple(event.token_id for event in streamed) == answers[0].token_ids
    arrivals = [Arrival(tuple(prompt), SamplingParams(9), 0.01 * number) for number, prompt in enumerate(batch)]
    events = list(checked_events("trtllm", engine.submit(arrivals), arrivals, 512))
    for number, answer in enumerate(answers):
        served = [token for event in events if event.request == number for token in event.token_ids]
        assert tuple(served) == answer.token_ids
    assert all(event.time >= arrivals[event.request].time for event in events)
    dropped = engine.stream(batch[1], SamplingParams(9))
    next(dropped)
    dropped.close()
    end = answers[0].token_ids[4]
    kept, engine._eos = engine._eos, frozenset([end, 509])
    stopped = engine.generate(batch[:1], SamplingParams(9, ignore_eos=False))[0]
    engine._eos = frozenset([0, end])
    also = engine.generate(batch[:1], SamplingParams(9, ignore_eos=False))[0]
    engine._eos = kept
    for answer in (stopped, also):
        assert answer.finish_reason == "stop"
        assert answer.token_ids == answers[0].token_ids[: answers[0].token_ids.index(end) + 1]
        assert len(answer.token_times) == len(answer.token_ids)
    sequence = [*batch[0], *answers[0].token_ids]
    one_pass, by_steps = (engine.score([sequence], prefill=prefill)[0] for prefill in (None, 15))
    assert max(abs(left - right) for left, right in zip(one_pass, by_steps, strict=True)) < 1e-3
    assert all(value < 0 for value in one_pass)
    assert math.exp(max(one_pass[len(batch[0]) - 1 :])) > 0.002  # greedy tokens beat 1 / vocabulary of 512
    memory = engine.memory()
    assert memory.kv_cache == memory.kv_budget == memory.kv_cache_predicted
    backend, kept = load_backend(engine.spec.backend), engine.effective().kv_precision
    law = memory_law(backend, engine.spec, engine.runtime, engine._shape, kept)
    assert pool_bytes(law.kv, engine.spec, engine.runtime) == memory.kv_budget
    per_token = 2 * 2 * 2 * 16 * (1 if quantized_kv else 2)
    assert memory.kv_budget == engine._llm._keywords["kv_cache_config"]._values["max_tokens"] * per_token
    found = engine.effective()
    check_effective(engine.spec, engine.runtime, found)
    assert (found.kv_pool_bytes, found.chunked_prefill) == (memory.kv_budget, engine.runtime.chunked_prefill)
    assert found.kv_blocks * found.tokens_per_block * per_token == found.kv_pool_bytes
    return {
        "kv": found.kv_precision,
        "precision": found.precision,
        "max_length": found.max_length,
        "tokens_per_block": found.tokens_per_block,
        "speculation": found.speculation,
        "scheduler_policy": found.scheduler_policy,
        **found.details,
    }


def engine_backend(workshop, folder: Path, precision: str, *, checkpoint: Checkpoint | None = None, **options: object):
    """Build and load one TensorRT engine with what is fixed at build time; returns it open."""
    runtime = RuntimeSpec(**options)
    plain = workshop.spec("trtllm-engine", precision)
    spec = built_spec(replace(plain, tensor_parallel=2), runtime)
    backend = load_backend("trtllm-engine")
    folder.mkdir()
    backend.build(spec, checkpoint or workshop.checkpoint, folder, lambda _: None)
    return backend.load(folder, spec, runtime)


def gptq_checkpoint(workshop, folder: Path) -> Checkpoint:
    """The tiny checkpoint as if it were quantized by GPTQ; the fake reads its plain weights."""
    shutil.copytree(workshop.checkpoint.path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": False}
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint(folder, "1" * 64, f"path:{folder}", random_weights=True)


def modelopt_checkpoint(workshop, folder: Path, algorithm: str, kv: str | None) -> Path:
    """The tiny checkpoint as if ModelOpt had quantized it."""
    shutil.copytree(workshop.checkpoint.path, folder)
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": kv, "group_size": 128}
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    return folder


def torch_backend(workshop, folder: Path, precision: str, **options: object):
    """Load one checkpoint with the PyTorch backend; returns it open."""
    spec: EngineSpec = replace(workshop.spec("trtllm-torch", precision), tensor_parallel=2)
    return load_backend("trtllm-torch").load(folder, spec, RuntimeSpec(**options))
