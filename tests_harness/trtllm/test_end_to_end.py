"""Speed, quality and memory measured through both adapters, over the fake that decodes for real."""

from __future__ import annotations

import math

import pytest
from enginegate.core.specs import Workload
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.latency import summarise_rounds
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import log_ratios
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality.data import Passage, Prompt
from enginegate.quality.determinism import evaluate_determinism
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.quality.similarity import evaluate_similarity, reference_answers
from enginegate.testing import prompts

pytest.importorskip("transformers")
pytestmark = pytest.mark.version("1.2.1")

PASSAGES = [
    Passage(id=f"p{number}", topic="rivers", text=f"{number} boats went down the river at noon") for number in range(4)
]
ASKED = [Prompt(id=f"a{number}", category="chat", text=f"Tell of {number} ships") for number in range(4)]
ENGINES = [("hf", "fp32"), ("trtllm-engine", "int8_wo"), ("trtllm-torch", "fp16")]


def test_speed_is_measured_in_one_arena_with_the_reference(shared_engine):
    contestants = {f"{backend}-{precision}": shared_engine(backend, precision) for backend, precision in ENGINES}
    workload = Workload(batch_size=2, input_len=12, output_len=8)
    pool = PromptPool.from_texts(prompts(4, 60), 12)
    arena = Arena(contestants, "hf-fp32", workload, pool, ArenaPolicy(warmup_rounds=1, retries=0, max_blocks=4))
    arena.run(lambda _blocks: False)
    assert len(arena.blocks) == 4
    for name in list(contestants)[1:]:
        ratios = log_ratios(arena.blocks, "hf-fp32", name)
        assert len(ratios) == 4
        assert all(math.isfinite(ratio) for ratio in ratios)
        found = summarise_rounds([each for block in arena.blocks for each in block.rounds if each.engine == name])
        assert all(value > 0 for value in found.values())


def test_quality_falls_with_the_bits_of_the_weights(workshop, shared_engine):
    tokenizer = Tokenizer.load(workshop.checkpoint.path, plain_prompts=True)
    reference = shared_engine("hf", "fp32")
    answers = reference_answers(reference, tokenizer, ASKED, 12)
    expected = evaluate_perplexity(reference, tokenizer, PASSAGES)
    distance, agreement = {}, {}
    for precision in ("fp16", "int8_wo", "int4_wo"):
        engine = shared_engine("trtllm-engine", precision)
        found = evaluate_perplexity(engine, tokenizer, PASSAGES)
        differences = [abs(row[0] - expected.items[key][0]) for key, row in found.items.items()]
        distance[precision] = sum(differences)
        agreement[precision] = evaluate_similarity(engine, tokenizer, ASKED, answers, 12).scores["bleu"]
    assert distance["fp16"] < distance["int8_wo"] < distance["int4_wo"]
    assert distance["fp16"] < 0.2
    assert agreement["fp16"] >= agreement["int4_wo"]
    assert agreement["fp16"] > 99


@pytest.mark.parametrize(("backend", "precision"), ENGINES[1:])
def test_answers_repeat_and_do_not_depend_on_the_batch(workshop, shared_engine, backend, precision):
    tokenizer = Tokenizer.load(workshop.checkpoint.path, plain_prompts=True)
    found = evaluate_determinism(shared_engine(backend, precision), tokenizer, ASKED, 8)
    assert all(value == 1 for value in found.scores.values())


@pytest.mark.parametrize(("backend", "precision"), ENGINES[1:])
def test_memory_of_weights_and_pool(shared_engine, backend, precision):
    engine = shared_engine(backend, precision)
    use = engine.memory()
    assert use.weights > 100_000
    assert use.kv_budget == use.kv_cache_predicted > 0
