"""What the adapters tell TensorRT-LLM and make of what it says, over the strict fake in every version line."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import RuntimeSpec, SamplingParams
from enginegate.engines.options import build_spec
from enginegate.engines.registry import load_backend
from enginegate.engines.requests import eos_token_ids
from enginegate.engines.trtllm import contract
from enginegate.engines.trtllm.options import BuiltSpec, TensorRtRuntime, built_spec
from enginegate.testing import prompts

from tests_harness.trtllm import fake_site, scenario

pytest.importorskip("transformers")


def fake_keywords(engine):
    """What the engine's LLM was constructed with."""
    return engine._llm._keywords


@pytest.mark.version("1.2.1")
@pytest.mark.parametrize(
    ("precision", "algorithm", "options"),
    [
        ("fp16", None, {"kv_precision": "int8", "tokens_per_block": scenario.BLOCK, "scheduler_policy": "static"}),
        ("bf16", None, {}),
        ("int8_wo", "W8A16", {"chunked_prefill": True}),
        ("int4_wo", "W4A16", {"activation_precision": "bf16"}),
        ("int4_awq", "W4A16_AWQ", {"kv_precision": "fp8"}),
        ("w8a8_sq", "W8A8_SQ_PER_CHANNEL", {"kv_precision": "int8"}),
        ("fp8", "FP8", {"kv_precision": "fp8", "speculation": "lookahead"}),
    ],
)
def test_engine_is_built_and_is_what_was_asked(workshop, tmp_path, precision, algorithm, options):
    engine = scenario.engine_backend(workshop, tmp_path / "engine", precision, **options)
    found = scenario.use(engine, quantized_kv=str(options.get("kv_precision", "")))
    keywords = fake_keywords(engine)
    assert keywords["trust_remote_code"] is False
    engine.close()
    assert found["algorithm"] == algorithm
    assert found["precision"] == precision
    assert found["kv"] == options.get(
        "kv_precision", "bf16" if "bf16" in (precision, options.get("activation_precision")) else "fp16"
    )
    assert found["tokens_per_block"] == found["kv_pool"]["tokens_per_block"] == options.get("tokens_per_block", 32)
    assert found["speculation"] == options.get("speculation", "none")
    assert found["scheduler_policy"] == options.get("scheduler_policy", "inflight")
    assert found["group_size"] == (32 if precision == "int4_awq" else 128)
    assert found["max_batch_size"] == 4
    assert found["max_input_len"] == found["max_length"] == 80
    assert found["max_num_tokens"] == 8192
    assert found["ttft"]["source"].startswith("request_perf_metrics")
    assert 0 < found["ttft"]["ttft_runtime_median"] <= found["ttft"]["ttft_wall_median"]
    assert found["ttft"]["seen_before_made"] == 0
    assert (found["ttft"]["draft_tokens"] > found["ttft"]["accepted_draft_tokens"] > 0) == ("speculation" in options)
    assert keywords["tensor_parallel_size"] == 2
    assert keywords["enable_chunked_prefill"] is bool(options.get("chunked_prefill"))
    static = options.get("scheduler_policy") == "static"
    assert keywords["batching_type"] == ("STATIC" if static else "INFLIGHT")
    policy = keywords["scheduler_config"]._values["capacity_scheduler_policy"]
    assert policy == ("STATIC_BATCH" if static else "GUARANTEED_NO_EVICT")
    cache = keywords["kv_cache_config"]._values
    assert cache["free_gpu_memory_fraction"] == 0.95
    assert cache["max_tokens"] == 4 * (-(-80 // found["tokens_per_block"]) + 1) * found["tokens_per_block"]
    if "speculation" in options:
        assert keywords["speculative_config"]._values == dict.fromkeys(
            ("max_window_size", "max_ngram_size", "max_verification_set_size"), 4
        )


@pytest.mark.version("1.2.1")
def test_gptq_is_read_from_a_checkpoint_that_has_it(workshop, tmp_path):
    checkpoint = scenario.gptq_checkpoint(workshop, tmp_path / "gptq")
    engine = scenario.engine_backend(workshop, tmp_path / "engine", "int4_gptq", checkpoint=checkpoint)
    found = scenario.use(engine)
    engine.close()
    assert (found["precision"], found["group_size"]) == ("int4_gptq", 64)


@pytest.mark.version("1.2.1")
def test_engine_folder_keeps_the_end_tokens(workshop, tmp_path):
    engine = workshop.load("trtllm-engine", "int8_wo")
    kept = engine._eos
    engine.close()
    assert kept == eos_token_ids(workshop.checkpoint.path) == {2}
    source = tmp_path / "model"
    shutil.copytree(workshop.checkpoint.path, source)
    (source / "generation_config.json").unlink()
    out = tmp_path / "engine"
    out.mkdir()
    checkpoint = replace(workshop.checkpoint, path=source)
    load_backend("trtllm-engine").build(workshop.spec("trtllm-engine", "int8_wo"), checkpoint, out, lambda _: None)
    assert eos_token_ids(out) == {2}


@pytest.mark.version("1.2.1")
def test_calibration_is_the_suites_own_and_the_seed_is_fixed(workshop, tmp_path, monkeypatch):
    seen = []
    make = contract.Api.make

    def spy(self, name, **keywords):
        seen.append((name, keywords))
        return make(self, name, **keywords)

    monkeypatch.setattr(contract.Api, "make", spy)
    scenario.engine_backend(workshop, tmp_path / "engine", "int4_awq").close()
    given = dict(seen)["CalibConfig"]
    folder = given.pop("calib_dataset")
    assert folder.endswith("passages")
    assert given == {"calib_batches": 4, "calib_batch_size": 1, "calib_max_seq_length": 512, "random_seed": 0}
    build = next(keywords for name, keywords in seen if name == "BuildConfig")
    assert build == {
        "max_batch_size": 4,
        "max_input_len": 80,
        "max_seq_len": 80,
        "max_num_tokens": 8192,
        "gather_context_logits": True,
    }
    pool = next(keywords for name, keywords in seen if name == "KvCacheConfig")
    assert pool == {"enable_block_reuse": False, "max_tokens": 80 + 128}
    first = next(keywords for name, keywords in seen if name == "LLM")
    assert first["kv_cache_config"]._values["max_tokens"] == 80 + 128
    assert first["dtype"] == "auto"
    assert first["tensor_parallel_size"] == 2
    zero = next(keywords for name, keywords in seen if name == "QuantConfig")
    assert zero == {"quant_algo": "W4A16_AWQ", "group_size": 32}


@pytest.mark.parametrize(
    "version", [pytest.param(v, marks=pytest.mark.version(v)) for v in ("1.0.0", "1.2.1", "1.4.0rc1")]
)
@pytest.mark.parametrize(
    ("precision", "algorithm", "kv", "options"),
    [
        ("fp16", None, None, {"speculation": "ngram"}),
        ("fp8", "FP8", None, {"kv_precision": "fp8", "chunked_prefill": True}),
        ("nvfp4", "NVFP4", "FP8", {}),
        ("int4_awq", "W4A16_AWQ", None, {"speculation": "draft"}),
        ("w4a8_awq", "W4A8_AWQ", None, {}),
    ],
)
def test_torch_checkpoint_is_what_was_asked(
    workshop, tmp_path, monkeypatch, version, precision, algorithm, kv, options
):
    monkeypatch.setenv("ENGINEGATE_DRAFT_MODEL", "/draft")
    folder = workshop.checkpoint.path
    if algorithm:
        folder = scenario.modelopt_checkpoint(workshop, tmp_path / "checkpoint", algorithm, kv)
    engine = scenario.torch_backend(workshop, folder, precision, **options)
    kv_quantized = kv or options.get("kv_precision", "")
    found = scenario.use(engine, quantized_kv=kv_quantized)
    keywords = fake_keywords(engine)
    assert keywords["trust_remote_code"] is False
    engine.close()
    assert (found["precision"], found["algorithm"]) == (precision, algorithm)
    assert found["speculation"] == options.get("speculation", "none")
    assert found["kv"] == ("fp8" if kv_quantized else "fp16")
    assert found["stream_interval"] == 1
    assert found["max_batch_size"] == 4
    assert found["max_num_tokens"] == 8192
    assert found["max_length"] == keywords["max_input_len"] == keywords["max_seq_len"] == 80
    assert found["kv_pool"]["most"] == 4 * 4 * 32
    assert found["ttft"]["source"].startswith("wall clock" if version == "1.0.0" else "request_perf_metrics")
    assert keywords["tensor_parallel_size"] == 2
    assert keywords["kv_cache_config"]._values["free_gpu_memory_fraction"] == 0.95
    assert ("tokens_per_block" in keywords["kv_cache_config"]._values) is True
    assert keywords.get("disable_overlap_scheduler", False) is ("speculation" in options)
    speculative = keywords["speculative_config"]._values if "speculation" in options else {}
    assert (
        speculative
        == {
            "ngram": {"max_draft_len": 5, "max_matching_ngram_size": 3},
            "draft": {"max_draft_len": 5, "speculative_model_dir": "/draft"},
            None: {},
        }[options.get("speculation")]
    )


@pytest.mark.version("1.2.1")
def test_disagreement_between_files_and_arguments_is_shown(workshop, tmp_path):
    folder = scenario.modelopt_checkpoint(workshop, tmp_path / "checkpoint", "FP8", None)
    engine = scenario.torch_backend(workshop, folder, "fp8")
    engine._llm.args._values["quant_config"]._values["quant_algo"] = "W4A16_AWQ"
    precision = engine.effective().precision
    engine.close()
    assert precision == "fp8 on disk, int4_awq loaded"


def test_every_row_of_the_table_is_used_and_nothing_else(workshop, tmp_path, sites, monkeypatch):
    """Layer one: what was recorded while both adapters did everything, against the table."""
    monkeypatch.setenv("ENGINEGATE_DRAFT_MODEL", "/draft")
    walks = {
        "1.2.1": [
            ("engine", "fp16", {"kv_precision": "int8", "tokens_per_block": 64, "scheduler_policy": "static"}),
            ("engine", "bf16", {}),
            ("engine", "int8_wo", {}),
            ("engine", "int4_wo", {}),
            ("engine", "int4_awq", {}),
            ("engine", "int4_gptq", {}),
            ("engine", "w8a8_sq", {}),
            ("engine", "fp8", {"kv_precision": "fp8", "speculation": "lookahead"}),
            ("torch", "fp16", {"speculation": "ngram"}),
            ("torch", "fp16", {"speculation": "draft"}),
        ]
    }
    for version, steps in walks.items():
        fake_site.install(sites, version)
        for number, (backend, precision, options) in enumerate(steps):
            if backend == "torch":
                engine = scenario.torch_backend(workshop, workshop.checkpoint.path, precision, **options)
            else:
                source = None
                if precision == "int4_gptq":
                    source = scenario.gptq_checkpoint(workshop, tmp_path / "gptq")
                engine = scenario.engine_backend(
                    workshop, tmp_path / f"{version}-{number}", precision, checkpoint=source, **options
                )
            scenario.use(engine, quantized_kv=options.get("kv_precision", ""))
            engine.close()
        table = {(fact.thing, fact.kind, fact.name) for fact in contract.facts(version)}
        used = fake_site.RECORDED[version]
        assert used <= table
        assert table - used == set()


@pytest.mark.version("1.2.1")
@pytest.mark.parametrize(
    ("precision", "runtime", "said"),
    [
        (
            "int8_wo",
            RuntimeSpec(kv_precision="int8"),
            "kv_precision int8 was asked, but the engine was compiled with fp16",
        ),
        ("int8_wo", RuntimeSpec(tokens_per_block=128), "tokens_per_block 128 was asked"),
        ("int8_wo", RuntimeSpec(speculation="ngram"), "speculation ngram was asked"),
        ("int8_wo", RuntimeSpec(activation_precision="bf16"), "activation_precision bf16 was asked"),
        ("int8_wo", RuntimeSpec(queue_order="sjf"), "queue_order sjf"),
        ("int8_wo", RuntimeSpec(prefix_caching=True), "prefix_caching"),
    ],
)
def test_engine_refuses_at_loading_what_it_was_not_compiled_with(workshop, precision, runtime, said):
    with pytest.raises(CapabilityError, match=said):
        workshop.load("trtllm-engine", precision, runtime)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (RuntimeSpec(kv_precision="int8"), "int8 is trtllm-engine's"),
        (RuntimeSpec(scheduler_policy="static"), "scheduler_policy static"),
        (RuntimeSpec(speculation="lookahead"), "speculation lookahead"),
        (RuntimeSpec(activation_precision="fp16"), "activation_precision fp16"),
        (RuntimeSpec(speculation="draft"), "ENGINEGATE_DRAFT_MODEL"),
        (RuntimeSpec(queue_order="priority"), "queue_order priority"),
        (RuntimeSpec(prefix_caching=True), "prefix_caching"),
        pytest.param(RuntimeSpec(tokens_per_block=64), "fixes it at 32", marks=pytest.mark.version("1.0.0")),
    ],
)
def test_torch_backend_refuses_what_it_cannot_be_told(workshop, monkeypatch, runtime, said):
    monkeypatch.delenv("ENGINEGATE_DRAFT_MODEL", raising=False)
    with pytest.raises(CapabilityError, match=said):
        workshop.load("trtllm-torch", "fp16", runtime)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "int4_gptq"}, "does not quantize by GPTQ itself"),
        ({"precision": "nvfp4"}, "no precision 'nvfp4'"),
        ({"speculation": "draft"}, "no speculation 'draft'"),
        ({"tokens_per_block": 48}, "no power of two"),
        ({"activation_precision": "bf16"}, "activation_precision bf16 of fp16 weights"),
    ],
)
def test_engine_refuses_to_build_what_upstream_cannot(workshop, tmp_path, change, said):
    spec = replace(built_spec(workshop.spec("trtllm-engine", "fp16"), RuntimeSpec()), **change)
    with pytest.raises(CapabilityError, match=said):
        load_backend("trtllm-engine").build(spec, workshop.checkpoint, tmp_path, lambda _: None)


def test_quantized_checkpoint_is_not_quantized_again(workshop, tmp_path):
    checkpoint = scenario.gptq_checkpoint(workshop, tmp_path / "gptq")
    with pytest.raises(CapabilityError, match="already quantized"):
        load_backend("trtllm-engine").build(
            workshop.spec("trtllm-engine", "fp16"), checkpoint, tmp_path, lambda _: None
        )


@pytest.mark.version("1.3.0rc5")
def test_engine_backend_after_its_removal_names_the_way_out(workshop, tmp_path):
    for call in (
        lambda: load_backend("trtllm-engine").build(
            workshop.spec("trtllm-engine", "fp16"), workshop.checkpoint, tmp_path, lambda _: None
        ),
        lambda: contract.Api("trtllm-engine"),
    ):
        with pytest.raises(CapabilityError, match=r"removed upstream.*trtllm-torch.*1\.2\.1"):
            call()


def test_kv_budget_is_kept_in_whole_blocks(workshop):
    per_block = 32 * 2 * 2 * 2 * 16 * 2
    engine = workshop.load("trtllm-torch", "fp16", RuntimeSpec(kv_cache_bytes=9 * per_block + 5))
    engine.generate(prompts(1, 4), SamplingParams(2))
    budget = engine.memory().kv_budget
    engine.close()
    assert budget == 9 * per_block
    with pytest.raises(EngineError, match="96 tokens holds 3 blocks, one sequence needs 4"):
        workshop.load("trtllm-torch", "fp16", RuntimeSpec(kv_cache_bytes=3 * per_block))


def test_kv_pool_in_tokens_and_its_share_of_free_memory(workshop):
    engine = workshop.load("trtllm-torch", "fp16", TensorRtRuntime(kv_cache_tokens=300, kv_cache_fraction=0.5))
    cache = fake_keywords(engine)["kv_cache_config"]._values
    engine.close()
    assert (cache["max_tokens"], cache["free_gpu_memory_fraction"]) == (288, 0.5)


def test_failure_of_the_runtime_says_what_to_look_at(workshop, monkeypatch):
    import tensorrt_llm

    def explode(*_args, **_keywords):
        raise RuntimeError("CUDA out of memory: tried to allocate 2 GiB")

    monkeypatch.setattr(tensorrt_llm, "LLM", explode)
    with pytest.raises(EngineError, match="out of memory") as caught:
        workshop.load("trtllm-torch", "fp16")
    assert "lower max_batch_size" in caught.value.hint


def test_refused_request_is_an_engine_error(shared_engine, monkeypatch):
    engine = shared_engine("trtllm-torch", "fp16")
    monkeypatch.setitem(engine._llm._keywords, "max_num_tokens", 5)
    with pytest.raises(EngineError, match="refused a request of 12 tokens"):
        engine.generate(prompts(1, 12), SamplingParams(2))


def test_missing_context_logits_are_an_error_and_never_a_score(shared_engine, monkeypatch):
    engine = shared_engine("trtllm-engine", "int8_wo")
    monkeypatch.setitem(engine._llm._build_config, "gather_context_logits", False)
    with pytest.raises(EngineError, match="no context logits"):
        engine.score([[5, 6, 7]])


def test_reused_blocks_are_found_out(workshop):
    engine = workshop.load("trtllm-torch", "fp16")
    engine._llm._decoder.reuse = True
    sequence = prompts(1, 40)[0]
    engine.score([sequence])
    with pytest.raises(EngineError, match="reuse should be off"):
        engine.score([sequence])
    engine.close()


def test_cancelled_request_is_an_error(shared_engine, monkeypatch):
    engine = shared_engine("trtllm-torch", "fp16")
    monkeypatch.setattr(engine._llm._decoder, "_step", _cancelled)
    with pytest.raises(EngineError, match="ended with 'cancelled'"):
        list(engine.stream(prompts(1, 4)[0], SamplingParams(3)))


def _cancelled(request):
    request._put({"tokens": [7], "finished": True, "finish_reason": "cancelled"})
    return True


def test_works_inside_a_running_event_loop(shared_engine):
    import asyncio

    engine = shared_engine("trtllm-torch", "fp16")

    async def notebook():
        return engine.generate(prompts(1, 4), SamplingParams(3))

    assert asyncio.run(notebook())[0].token_ids == engine.generate(prompts(1, 4), SamplingParams(3))[0].token_ids


def test_built_options_are_part_of_the_spec_only_where_they_are_built(workshop):
    runtime = RuntimeSpec(kv_precision="int8", tokens_per_block=64, speculation="lookahead")
    for other in ("hf", "trtllm-torch"):
        plain = workshop.spec(other, "fp16")
        assert build_spec(load_backend(other), plain, runtime) is plain
    spec = build_spec(load_backend("trtllm-engine"), workshop.spec("trtllm-engine", "fp16"), runtime)
    assert isinstance(spec, BuiltSpec)
    assert (spec.kv_precision, spec.tokens_per_block, spec.speculation) == ("int8", 64, "lookahead")
    assert built_spec(spec, RuntimeSpec()) is spec


@pytest.mark.version("1.2.1")
def test_fake_has_the_traps_that_upstream_has(shared_engine):
    """What the adapters step around must hurt whoever steps into it, or the fake proves nothing."""
    from tensorrt_llm import SamplingParams as Params
    from tensorrt_llm import llmapi

    llm = shared_engine("trtllm-engine", "int8_wo")._llm
    greedy = Params(end_id=2, detokenize=False, top_k=1, ignore_eos=True)
    assert len(llm.generate_async([5, 6, 7], greedy).result().outputs[0].token_ids) == 32, "max_tokens defaults to 32"
    with pytest.raises(TypeError, match="list of int"):
        llm.generate_async([[5, 6], [7, 8]], greedy)
    with pytest.raises(ValueError, match="end_id"):
        llm.generate_async([5], Params(detokenize=False, top_k=1))
    with pytest.raises(ValueError, match="should not exceed 80"):
        llm.generate_async([5] * 60, greedy)
    with pytest.raises(TypeError):
        llmapi.QuantConfig(llmapi.QuantAlgo.FP8)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        llmapi.KvCacheConfig(quant_algo=llmapi.QuantAlgo.FP8)
