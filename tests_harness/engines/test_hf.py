from __future__ import annotations

import os

import numpy as np
import pytest
from enginegate.config.loading import load_config
from enginegate.config.project import own_folder
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.effective import check_effective
from enginegate.engines.hf.backend import dominant_precision
from enginegate.engines.hf.graph import check_capturable
from enginegate.engines.reference import fastest_precision
from enginegate.engines.registry import load_backend
from enginegate.models.checkpoint import Checkpoint
from enginegate.testing import SHAPE, Conformance, prompts

torch = pytest.importorskip("torch")


class TestFp32(Conformance):
    backend, precision, exact = "hf", "fp32", True


class TestBf16(Conformance):
    backend, precision, exact = "hf", "bf16", False


class TestGraphFp32(Conformance):
    """On a CPU: the fixed buffers, masks and positions, run without being captured."""

    backend, precision, exact = "hf-graph", "fp32", True


def test_bf16_scores_by_logits_of_float32_and_answers_by_its_own(workshop):
    """Else two letters of one question are often equally likely; see docs/gates.md."""
    engine = workshop.load("hf", "bf16")
    head = engine._model.get_output_embeddings()
    (found,) = engine.distributions(prompts(1, 20), cells=64)
    steps = found.values - found.values.max(1, keepdims=True)
    assert len(np.unique(steps.round(6))) > 0.95 * steps.size, "few values: the logits were rounded"
    assert "forward" not in vars(head)
    with torch.inference_mode():
        assert engine._model(input_ids=torch.tensor(prompts(1, 4))).logits.dtype == torch.bfloat16
    engine.close()


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Both engines of one architecture."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PhiConfig

    shapes = {
        "llama": lambda: LlamaConfig(**SHAPE),
        "gpt2": lambda: GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=4, initializer_range=0.3),
        "phi": lambda: PhiConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
        ),
    }

    def load(name):
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(shapes[name]()).save_pretrained(folder)
        specs = [
            EngineSpec("tiny", backend, "fp32", max_batch_size=4, max_input_len=64, max_output_len=32)
            for backend in ("hf", "hf-graph")
        ]
        return [load_backend(spec.backend).load(folder, spec, RuntimeSpec()) for spec in specs]

    return load


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi"])
def test_passes_over_fixed_buffers_give_what_the_eager_loop_gives(family, name):
    eager, graph = family(name)
    for lengths in ((20, 20, 20), (3, 40, 17), (20, 20, 20)):
        batch = [prompts(1, length, seed)[0] for seed, length in enumerate(lengths)]
        params = SamplingParams(24, ignore_eos=True)
        answers = [[answer.token_ids for answer in engine.generate(batch, params)] for engine in (eager, graph)]
        assert answers[0] == answers[1]
        assert len(set(answers[0][0])) > 1, "an answer of one token throughout would compare nothing"


@pytest.mark.parametrize(("cap", "attention"), [(0.5, "eager"), (None, "sdpa")])
def test_a_cap_of_attention_scores_is_not_left_out(cap, attention, tmp_path):
    """Torch's own function knows none; Gemma 2 was trained with one."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    torch.manual_seed(0)
    caps = {"attn_logit_softcapping": cap, "final_logit_softcapping": None}
    config = Gemma2Config(**{**SHAPE, "head_dim": 16, "tie_word_embeddings": False, **caps})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path)
    spec = EngineSpec("tiny", "hf", "fp32", max_batch_size=4, max_input_len=64, max_output_len=32)
    engine = load_backend("hf").load(tmp_path, spec, RuntimeSpec())
    assert engine.effective().details["attention"] == attention
    prompt = prompts(1, 20)[0]
    with torch.inference_mode():
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
    answer = list(engine.generate([prompt], SamplingParams(16, ignore_eos=True))[0].token_ids)
    assert answer == expected[0, 20:].tolist()
    assert len(set(answer)) > 1, "an answer of one token throughout would compare nothing"


def test_fixed_buffers_are_counted_and_kept_for_few_shapes(family):
    _, graph = family("llama")
    assert graph.memory().kv_cache == 0
    for length in range(10, 22):
        graph.generate(prompts(1, length), SamplingParams(2))
    lengths = range(14, 22)  # the last eight
    elements = 2 * SHAPE["num_hidden_layers"] * SHAPE["num_key_value_heads"] * 16
    assert graph.memory().kv_cache == sum(length + 32 for length in lengths) * elements * 4
    assert graph.effective().details["cuda_graphs"] == 0
    graph.close()
    with pytest.raises(EngineError, match="closed"):
        graph.memory()


def test_two_streams_in_the_same_buffers_are_refused(family):
    _, graph = family("llama")
    first = graph.stream([5, 6, 7], SamplingParams(4))
    next(first)
    second = graph.stream([8, 9, 10], SamplingParams(4))
    next(second)
    with pytest.raises(EngineError, match="another answer of the same shape has begun"):
        next(first)
    assert len(list(second)) == 3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"sliding_window": 64}, "slides over 64 tokens"),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, "slides over 64 tokens"),
        ({"rope_scaling": {"type": "longrope"}}, "longrope rotary embeddings"),
        ({"rope_parameters": {"full_attention": {"rope_type": "dynamic"}}}, "dynamic rotary embeddings"),
    ],
)
def test_what_one_graph_would_answer_differently_is_refused(config, words):
    with pytest.raises(CapabilityError, match=words):
        check_capturable(config, 96, "m")


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": None},
        {"sliding_window": 96},
        {"sliding_window": 64, "layer_types": ["full_attention"]},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ],
)
def test_what_a_graph_answers_alike_is_not_refused(config):
    check_capturable(config, 96, "m")


def test_loop_gives_what_model_generate_gives(shared_engine):
    engine = shared_engine("hf", "fp32")
    batch = prompts(3, 20)
    output = engine._model.generate(
        torch.tensor(batch),
        attention_mask=torch.ones(3, 20, dtype=torch.long),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
    )
    answers = engine.generate(batch, SamplingParams(24))
    assert [list(answer.token_ids) for answer in answers] == output[:, 20:].tolist()


@pytest.mark.parametrize("prefill", [None, 5])
def test_score_is_the_log_softmax_of_the_model(shared_engine, prefill):
    engine = shared_engine("hf", "fp32")
    sequences = [prompts(1, length, seed)[0] for seed, length in enumerate((7, 22, 40))]
    for sequence, scores in zip(sequences, engine.score(sequences, prefill=prefill), strict=True):
        with torch.no_grad():
            logits = engine._model(torch.tensor([sequence])).logits[0].double()
        expected = torch.log_softmax(logits, -1)[torch.arange(len(sequence) - 1), torch.tensor(sequence[1:])]
        np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


def test_generation_leaves_inference_mode_to_the_caller(shared_engine):
    stream = shared_engine("hf", "fp32").stream([5, 6], SamplingParams(4))
    next(stream)
    assert not torch.is_inference_mode_enabled()


def test_threads_are_the_engines_own(workshop):
    engine = workshop.load("hf", "fp32", RuntimeSpec(threads=1))
    torch.set_num_threads(2)
    engine.generate([[5]], SamplingParams(1))
    assert engine.effective().threads == 1
    engine.close()


def test_build_links_the_checkpoint_and_survives_its_removal(workshop, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for file in workshop.checkpoint.path.iterdir():
        os.link(file, source / file.name)
    backend, spec = load_backend("hf"), workshop.spec("hf", "fp32")
    out = tmp_path / "engine"
    out.mkdir()
    backend.build(spec, Checkpoint(source, "0" * 64, "path"), out, lambda _: None)
    for file in source.iterdir():
        file.unlink()
    backend.load(out, spec, RuntimeSpec()).close()


def test_folder_that_is_no_checkpoint_is_refused(workshop, tmp_path):
    backend, spec = load_backend("hf"), workshop.spec("hf", "fp32")
    with pytest.raises(EngineError, match=r"config\.json"):
        backend.build(spec, Checkpoint(tmp_path, "0" * 64, "path"), tmp_path, lambda _: None)
    with pytest.raises(EngineError, match="cannot be loaded"):
        backend.load(tmp_path, spec, RuntimeSpec())


@pytest.mark.parametrize("runtime", [RuntimeSpec(kv_precision="int8"), RuntimeSpec(activation_precision="bf16")])
def test_what_transformers_cannot_be_told_is_refused(workshop, runtime):
    with pytest.raises(CapabilityError, match="fp32"):
        workshop.load("hf", "fp32", runtime)


@pytest.mark.parametrize("backend", ["hf", "hf-static", "hf-graph"])
@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (RuntimeSpec(speculation="ngram"), "speculation ngram"),
        (RuntimeSpec(chunked_prefill=True), "chunked_prefill"),
        (RuntimeSpec(kv_cache_bytes=1 << 20), "kv_cache_bytes 1048576"),
        (RuntimeSpec(tokens_per_block=64), "tokens_per_block 64"),
    ],
)
def test_what_it_would_have_dropped_in_silence_is_refused(backend, runtime, said):
    """An engine was loaded without it, and reported under the name of one that has it."""
    with pytest.raises(CapabilityError, match=f"backend {backend} has no {said}") as refused:
        load_backend(backend).check_loadable(EngineSpec("tiny", backend, "fp32"), runtime)
    assert f"engines.{backend}.runtime" in refused.value.hint


def test_batches_run_to_their_end_and_it_says_so(shared_engine):
    engine = shared_engine("hf", "fp32")
    found = engine.effective()
    check_effective(engine.spec, RuntimeSpec(scheduler_policy="static"), found)
    assert (found.chunked_prefill, found.speculation) == (False, "none")


def test_every_committed_configuration_can_still_be_loaded():
    """References take the runtime of their own backend's section, and of no other."""
    for file in sorted(own_folder("enginegate.configs").glob("*.yaml")):
        config = load_config(file)
        for section in (config.file.reference, config.file.quality.reference):
            backend = load_backend(section.backend)
            backend.check_loadable(config.spec(section.backend, "fp32"), config.runtime(section.backend))


def test_precision_of_mixed_weights_is_reported():
    assert dominant_precision({"bf16": 1000, "fp32": 5}) == "bf16"
    assert dominant_precision({"bf16": 600, "fp32": 400}) == "mixed: bf16 60%, fp32 40%"


def test_fastest_precision_is_the_one_with_the_lowest_median(workshop):
    winner, seconds = load_backend("hf").fastest_precision(workshop.checkpoint)
    assert set(seconds) >= {winner, "fp32"}
    medians = {precision: np.median(times) for precision, times in seconds.items()}
    assert medians[winner] == min(medians.values())


class _Timed:
    """An engine whose rounds take the given seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def generate(self, batch, _params):
        from enginegate.engines.base import Generation

        return [Generation((0,), (self.seconds,), "length") for _ in batch]

    def close(self):
        self.seconds = None


def test_fastest_precision_reads_the_times_and_closes_engines(workshop):
    engines = []

    class Backend:
        name = "timed"

        def load(self, _folder, spec: EngineSpec, _runtime):
            engines.append(_Timed({"fp32": 2.0, "bf16": 3.0}[spec.precision]))
            return engines[-1]

    winner, seconds = fastest_precision(Backend(), workshop.checkpoint, ("bf16", "fp32"), rounds=2)
    assert (winner, seconds) == ("fp32", {"bf16": (3.0, 3.0), "fp32": (2.0, 2.0)})
    assert [engine.seconds for engine in engines] == [None, None]
