"""The contract table. Every row says where it was read; nothing here was found out by running TensorRT-LLM.

Sources name a file of github.com/NVIDIA/TensorRT-LLM and the version that the text read belongs to ("1.0 line" means
the file as it was between the 1.0 and 1.1 releases). ``deduced`` marks a row that follows from several texts.
"""

from __future__ import annotations

from enginegate.engines.trtllm.facts import ENGINE_REMOVED, FIRST, Fact, Thing

_ARGS, _LLM = "llmapi/llm_args.py", "llmapi/llm.py"
_ARGS_READ = f"{_ARGS}, 1.0, 1.2 and 1.3rc lines"
_LLM_READ = f"{_LLM}, 1.2 line"


def _thing(
    name: str, module: str, defined: tuple[tuple[str, str], ...], source: str, since: str = FIRST, before: str = ""
) -> Thing:
    return Thing(name, module, defined, since, before, source)


def _facts(thing: str, kind: str, names: str, source: str, since: str = FIRST, before: str = "") -> tuple[Fact, ...]:
    return tuple(Fact(thing, kind, name, since, before, source) for name in names.split())


THINGS: tuple[Thing, ...] = (
    _thing(
        "engine.LLM",
        "tensorrt_llm._tensorrt_engine",
        ((_ARGS, "TrtLlmArgs"), (_LLM, "_TrtLLM")),
        f"_tensorrt_engine/__init__.py, 1.1 line; {_LLM_READ}; removed by pull request 15918",
        before=ENGINE_REMOVED,
    ),
    _thing("torch.LLM", "tensorrt_llm", ((_ARGS, "TorchLlmArgs"), (_LLM, "_TorchLLM")), _LLM_READ),
    _thing("SamplingParams", "tensorrt_llm", (("sampling_params.py", "SamplingParams"),), "sampling_params.py, 1.0rc"),
    _thing("KvCacheConfig", "tensorrt_llm.llmapi", ((_ARGS, "KvCacheConfig"),), _ARGS_READ),
    _thing("SchedulerConfig", "tensorrt_llm.llmapi", ((_ARGS, "SchedulerConfig"),), _ARGS_READ),
    _thing("CapacitySchedulerPolicy", "tensorrt_llm.llmapi", ((_ARGS, "CapacitySchedulerPolicy"),), _ARGS_READ),
    _thing("NGramDecodingConfig", "tensorrt_llm.llmapi", ((_ARGS, "NGramDecodingConfig"),), _ARGS_READ),
    _thing("DraftTargetDecodingConfig", "tensorrt_llm.llmapi", ((_ARGS, "DraftTargetDecodingConfig"),), _ARGS_READ),
    _thing(
        "BatchingType",
        "tensorrt_llm.llmapi",
        ((_ARGS, "BatchingType"),),
        _ARGS_READ,
        before=ENGINE_REMOVED,
    ),
    _thing(
        "LookaheadDecodingConfig",
        "tensorrt_llm.llmapi",
        ((_ARGS, "LookaheadDecodingConfig"),),
        _ARGS_READ,
        before=ENGINE_REMOVED,
    ),
    _thing("CalibConfig", "tensorrt_llm.llmapi", ((_ARGS, "CalibConfig"),), _ARGS_READ, before=ENGINE_REMOVED),
    _thing(
        "BuildConfig",
        "tensorrt_llm.llmapi",
        (("builder.py", "BuildConfig"),),
        "builder.py, 1.1 line; removed by pull request 15918",
        before=ENGINE_REMOVED,
    ),
    _thing(
        "PluginConfig",
        "",
        (("plugin/plugin.py", "PluginConfig"),),
        "plugin/plugin.py, 1.0 line",
        before=ENGINE_REMOVED,
    ),
    _thing(
        "QuantConfig",
        "tensorrt_llm.llmapi",
        (("models/modeling_utils.py", "QuantConfig"),),
        "tests/unittest/api_stability/references/quant_config.yaml, 1.0 and 1.2 lines",
        before=ENGINE_REMOVED,
    ),
    _thing(
        "QuantAlgo",
        "tensorrt_llm.llmapi",
        (("quantization/mode.py", "QuantAlgo"),),
        "quantization/mode.py, 1.1 and 1.2 lines",
        before=ENGINE_REMOVED,
    ),
    _thing(
        "RequestOutput",
        "",
        ((_LLM, "RequestOutput"), ("executor/result.py", "GenerationResult")),
        "executor/result.py, 1.0 line; api_stability/references/request_output.yaml",
    ),
    _thing(
        "CompletionOutput", "", (("executor/result.py", "CompletionOutput"),), "executor/result.py, 1.0 and 1.1 lines"
    ),
    _thing("RequestPerfMetrics", "", (), "C++ class; test_llm_perf_metrics of the upstream tests, 1.0 line"),
    _thing("TimingMetrics", "", (), "C++ class; test_llm_perf_metrics of the upstream tests, 1.0 line"),
    _thing("SpeculativeMetrics", "", (), "C++ class; test_request_perf_metrics_pickle of the upstream tests"),
    _thing("engine.args", "", ((_ARGS, "TrtLlmArgs"),), _ARGS_READ, before=ENGINE_REMOVED),
    _thing("torch.args", "", ((_ARGS, "TorchLlmArgs"),), _ARGS_READ),
    _thing("args.quant_config", "", (("models/modeling_utils.py", "QuantConfig"),), _ARGS_READ),
    _thing("stats", "", (), "dictionary; NVIDIA/TensorRT-LLM issue 3376 and llm.py get_stats"),
    _thing("kvCacheStats", "", (), "dictionary; NVIDIA/TensorRT-LLM issue 3376"),
)

_COMMON_ARGUMENTS = (
    "model skip_tokenizer_init tensor_parallel_size dtype kv_cache_config scheduler_config enable_chunked_prefill "
    "max_batch_size max_num_tokens speculative_config gather_generation_logits"
)
_REFERENCE_READ = "documentation, llm-api/reference, 0.19, 0.21, 1.1, 1.3 and 1.4 lines"
_RESULT_READ = "executor/result.py, 1.0 and 1.1 lines"

FACTS: tuple[Fact, ...] = (
    *_facts("engine.LLM", "keyword", _COMMON_ARGUMENTS, _ARGS_READ),
    *_facts("engine.LLM", "keyword", "quant_config calib_config build_config batching_type", _ARGS_READ),
    *_facts("engine.LLM", "keyword", "trust_remote_code", _REFERENCE_READ),
    *_facts("engine.LLM", "attribute", "args", _LLM_READ),
    *_facts("engine.LLM", "method", "save shutdown generate_async get_stats", _LLM_READ),
    *_facts("engine.LLM", "parameter", "generate_async.sampling_params generate_async.streaming", _LLM_READ),
    *_facts("torch.LLM", "keyword", _COMMON_ARGUMENTS, _ARGS_READ),
    *_facts("torch.LLM", "keyword", "max_input_len max_seq_len stream_interval enable_iter_perf_stats", _ARGS_READ),
    *_facts("torch.LLM", "keyword", "disable_overlap_scheduler", _ARGS_READ),
    *_facts("torch.LLM", "keyword", "trust_remote_code", _REFERENCE_READ),
    *_facts("torch.LLM", "attribute", "args", _LLM_READ),
    *_facts("torch.LLM", "method", "shutdown generate_async get_stats", _LLM_READ),
    *_facts("torch.LLM", "parameter", "generate_async.sampling_params generate_async.streaming", _LLM_READ),
    *_facts(
        "SamplingParams",
        "keyword",
        "max_tokens end_id ignore_eos stop_token_ids include_stop_str_in_output detokenize top_k "
        "return_context_logits return_generation_logits return_perf_metrics",
        "sampling_params.py, 1.0rc; api_stability/references_committed/sampling_params.yaml",
    ),
    *_facts("KvCacheConfig", "keyword", "enable_block_reuse max_tokens free_gpu_memory_fraction", _ARGS_READ),
    *_facts("KvCacheConfig", "keyword", "dtype", f"{_ARGS_READ}; refused by the engine backend"),
    *_facts("KvCacheConfig", "keyword", "tokens_per_block", f"{_ARGS}, 1.2 line; not in the 1.0 line", since="1.2"),
    *_facts("SchedulerConfig", "keyword", "capacity_scheduler_policy", _ARGS_READ),
    *_facts("CapacitySchedulerPolicy", "member", "GUARANTEED_NO_EVICT STATIC_BATCH", _ARGS_READ),
    *_facts("BatchingType", "member", "INFLIGHT STATIC", _ARGS_READ),
    *_facts(
        "LookaheadDecodingConfig", "keyword", "max_window_size max_ngram_size max_verification_set_size", _ARGS_READ
    ),
    *_facts("NGramDecodingConfig", "keyword", "max_draft_len max_matching_ngram_size", _ARGS_READ),
    *_facts(
        "DraftTargetDecodingConfig",
        "keyword",
        "max_draft_len speculative_model_dir",
        f"{_ARGS_READ}; an alias of speculative_model since the 1.3rc line",
    ),
    *_facts(
        "CalibConfig",
        "keyword",
        "calib_dataset calib_batches calib_batch_size calib_max_seq_length random_seed",
        _ARGS_READ,
    ),
    *_facts(
        "BuildConfig",
        "keyword",
        "max_batch_size max_input_len max_seq_len max_num_tokens gather_context_logits",
        "builder.py, 1.1 line",
    ),
    *_facts("BuildConfig", "attribute", "plugin_config", f"builder.py, 1.1 line; {_ARGS}, 1.2 line"),
    *_facts("PluginConfig", "attribute", "tokens_per_block", "plugin/plugin.py, 1.0 line"),
    *_facts(
        "QuantConfig",
        "keyword",
        "quant_algo kv_cache_quant_algo group_size has_zero_point",
        "api_stability/references/quant_config.yaml; positional use broke when it became a pydantic model",
    ),
    *_facts(
        "QuantAlgo",
        "member",
        "W8A16 W4A16 W4A16_AWQ W4A16_GPTQ W8A8_SQ_PER_CHANNEL FP8 INT8",
        "quantization/mode.py, 1.1 and 1.2 lines",
    ),
    *_facts("RequestOutput", "attribute", "outputs context_logits finished", _RESULT_READ),
    *_facts("RequestOutput", "method", "result abort", _RESULT_READ),
    *_facts("CompletionOutput", "attribute", "token_ids finish_reason generation_logits", _RESULT_READ),
    *_facts("CompletionOutput", "attribute", "stop_reason", _RESULT_READ),
    *_facts(
        "CompletionOutput",
        "attribute",
        "request_perf_metrics",
        "executor/result.py, 1.1 line; None where off",
        since="1.1",
    ),
    *_facts(
        "RequestPerfMetrics", "attribute", "timing_metrics speculative_decoding", "test_llm_perf_metrics, 1.0 line"
    ),
    *_facts("TimingMetrics", "attribute", "arrival_time first_token_time", "test_llm_perf_metrics, 1.0 line"),
    *_facts(
        "SpeculativeMetrics",
        "attribute",
        "total_accepted_draft_tokens total_draft_tokens",
        "test_request_perf_metrics_pickle",
    ),
    *_facts(
        "torch.args",
        "attribute",
        "dtype max_seq_len max_batch_size max_num_tokens stream_interval kv_cache_config quant_config "
        "enable_chunked_prefill speculative_config",
        _ARGS_READ,
    ),
    *_facts("engine.args", "attribute", "batching_type enable_chunked_prefill", _ARGS_READ),
    *_facts("args.quant_config", "attribute", "quant_algo kv_cache_quant_algo", _ARGS_READ),
    *_facts("KvCacheConfig", "attribute", "dtype", _ARGS_READ),
    *_facts("stats", "key", "kvCacheStats", "NVIDIA/TensorRT-LLM issue 3376"),
    *_facts("kvCacheStats", "key", "maxNumBlocks usedNumBlocks tokensPerBlock", "NVIDIA/TensorRT-LLM issue 3376"),
)
