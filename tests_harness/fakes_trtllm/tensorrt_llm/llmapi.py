"""The names that ``tensorrt_llm.llmapi`` offers in the pretended version."""

from __future__ import annotations

from typing import Any

from tensorrt_llm._strict import THINGS, Strict, check_keywords, config_class, enumeration, use


class _PluginConfig(Strict):
    _thing = "PluginConfig"

    def __setattr__(self, name: str, value: Any) -> None:
        if not use("PluginConfig", "attribute", name):
            raise AttributeError(f"PluginConfig has no attribute {name!r}")
        self._values[name] = value


class _BuildConfig(Strict):
    _thing = "BuildConfig"

    def __init__(self, **keywords: Any) -> None:
        check_keywords("BuildConfig", keywords)
        defaults = {
            "max_input_len": 1024,
            "max_seq_len": None,
            "max_batch_size": 2048,
            "max_num_tokens": 8192,
            "gather_context_logits": False,
            "plugin_config": _PluginConfig(tokens_per_block=32),
        }
        super().__init__(**{**defaults, **keywords})


class _KvCacheConfig(Strict):
    _thing = "KvCacheConfig"

    def __init__(self, **keywords: Any) -> None:
        check_keywords("KvCacheConfig", keywords)
        defaults = {
            "enable_block_reuse": True,
            "max_tokens": None,
            "free_gpu_memory_fraction": 0.9,
            "dtype": "auto",
            "tokens_per_block": 32,
        }
        super().__init__(**{**defaults, **keywords})
        if not 0 <= self._values["free_gpu_memory_fraction"] <= 1:
            raise ValueError("kv_cache_config.free_gpu_memory_fraction must be a float between 0 and 1")


class _CalibConfig(Strict):
    _thing = "CalibConfig"

    def __init__(self, **keywords: Any) -> None:
        check_keywords("CalibConfig", keywords)
        super().__init__(**{"calib_dataset": "cnn_dailymail", "calib_batches": 512, **keywords})


_CLASSES = {
    "SamplingParams": config_class(
        "SamplingParams",
        max_tokens=32,  # upstream's default, which cuts answers short where it is not overridden
        end_id=None,
        ignore_eos=False,
        stop_token_ids=None,
        include_stop_str_in_output=False,
        detokenize=True,
        top_k=None,
        return_context_logits=False,
        return_generation_logits=False,
        return_perf_metrics=False,
    ),
    "KvCacheConfig": _KvCacheConfig,
    "SchedulerConfig": config_class("SchedulerConfig", capacity_scheduler_policy="GUARANTEED_NO_EVICT"),
    "CapacitySchedulerPolicy": enumeration("CapacitySchedulerPolicy"),
    "BatchingType": enumeration("BatchingType"),
    "LookaheadDecodingConfig": config_class("LookaheadDecodingConfig"),
    "NGramDecodingConfig": config_class("NGramDecodingConfig", max_draft_len=None),
    "DraftTargetDecodingConfig": config_class("DraftTargetDecodingConfig", max_draft_len=None),
    "CalibConfig": _CalibConfig,
    "BuildConfig": _BuildConfig,
    "QuantConfig": config_class(
        "QuantConfig", quant_algo=None, kv_cache_quant_algo=None, group_size=128, has_zero_point=False
    ),
    "QuantAlgo": enumeration("QuantAlgo"),
}
globals().update({name: found for name, found in _CLASSES.items() if name in THINGS})
SamplingParams = _CLASSES["SamplingParams"]
