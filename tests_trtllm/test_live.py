"""What a real TensorRT-LLM must do with both adapters. NOT RUN without a GPU and its wheels; see conftest.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.core.specs import SamplingParams
from enginegate.engines.effective import check_effective
from enginegate.engines.trtllm.source_check import check, find_package

from tests_trtllm.conftest import require

CASES = [
    pytest.param("trtllm-engine", "fp16", id="engine-fp16"),
    pytest.param("trtllm-engine", "int8_wo", id="engine-int8_wo"),
    pytest.param("trtllm-engine", "int4_awq", id="engine-int4_awq"),
    pytest.param("trtllm-torch", "fp16", id="torch-fp16"),
    pytest.param("trtllm-torch", "int4_awq", id="torch-int4_awq"),
    pytest.param("trtllm-torch", "fp8", id="torch-fp8"),
]


def prompts(count: int, length: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(10, 5000, size=(count, length)).tolist()


def test_installed_source_has_every_name_of_the_table(record):
    require("trtllm-torch", "fp16")
    report = check(find_package(None))
    record["missing"] = [vars(finding) for finding in report.missing]
    assert not report.missing


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_build_load_generate_stream_score(record, load, backend, precision):
    engine = load(backend, precision)
    batch, work = prompts(2, 32), SamplingParams(16)
    answers = engine.generate(batch, work)
    assert [len(answer.token_ids) for answer in answers] == [16, 16]
    assert engine.generate(batch, work)[0].token_ids == answers[0].token_ids, "greedy decoding must repeat itself"
    events = list(engine.stream(batch[0], work))
    assert len(events) == 16
    assert events[0].time > 0
    assert [event.time for event in events] == sorted(event.time for event in events)
    sequence = [*batch[0], *answers[0].token_ids]
    scores = engine.score([sequence])[0]
    assert len(scores) == len(sequence) - 1
    assert all(math.isfinite(value) and value <= 0 for value in scores)
    greedy, random = np.mean(scores[31:]), np.mean(scores[:31])
    assert greedy > random, "tokens that the engine chose must be likelier than random ones"
    found = engine.effective()
    record[f"{backend}-{precision}"] = {
        "effective": vars(found),
        "memory": vars(engine.memory()),
        "ttft": answers[0].token_times[0],
        "token_times": list(answers[0].token_times),
        "greedy_logprob": float(greedy),
        "random_logprob": float(random),
    }
    check_effective(engine.spec, engine.runtime, found)
    assert found.details["ttft"]["seen_before_made"] == 0, "the caller's clock and the runtime's disagree"


@pytest.mark.parametrize("backend", ["trtllm-engine", "trtllm-torch"])
def test_scores_are_those_of_transformers(record, load, checkpoint, live_config, backend):
    """The oracle: the half-precision engine against Transformers in float32, on the same tokens."""
    engine = load(backend, "fp16")
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    sequences = prompts(4, 48)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    with torch.inference_mode():
        logits = torch.log_softmax(model(torch.tensor(sequences)).logits[:, :-1].double(), -1)
    targets = torch.tensor(sequences)[:, 1:, None]
    expected = logits.gather(-1, targets).squeeze(-1).numpy()
    difference = np.abs(np.array(engine.score(sequences)) - expected)
    record[f"{backend}-score-difference"] = {"mean": float(difference.mean()), "largest": float(difference.max())}
    # Half precision moves a log-probability by about 1e-2; a wrong alignment or vocabulary by whole units.
    assert difference.mean() < 0.1
    del live_config
