"""The two LLM classes of the fake: argument checks as read upstream, and the traps that upstream documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from tensorrt_llm._decoder import JSON_STATS, Decoder, Request, model_of
from tensorrt_llm._strict import VERSION, Member, RecordedDict, check_keywords, record, use
from tensorrt_llm.llmapi import SamplingParams

_SPECULATED = 3


class _LLM:
    """What both classes share."""

    _name = ""

    def __init__(self, model: str, **keywords: Any) -> None:
        use(self._name, "keyword", "model")
        check_keywords(self._name, keywords)
        if not isinstance(model, str) or not Path(model, "config.json").is_file():
            raise ValueError(f"Failed to infer model format because no config.json exists in {model}")
        self._keywords = keywords
        self._cache = keywords["kv_cache_config"]._values if "kv_cache_config" in keywords else {}
        self._decoder: Decoder | None = None

    def _start(self, network: Any, max_seq_len: int, end_withheld: bool, block: int) -> None:
        speculation = self._keywords.get("speculative_config")
        policy = self._keywords["scheduler_config"]._values["capacity_scheduler_policy"]
        if not isinstance(policy, Member):
            raise ValueError(f"capacity_scheduler_policy: {policy!r} is no CapacitySchedulerPolicy")
        self._max_seq_len = max_seq_len
        self._decoder = Decoder(
            network,
            chunk=_SPECULATED if speculation else self._keywords.get("stream_interval", 1),
            withhold_end=end_withheld,
            blocks=self._cache["max_tokens"] // block,
            block=block,
            reuse=self._cache["enable_block_reuse"],
        )

    def generate_async(self, inputs: Any, sampling_params: Any = None, streaming: bool = False) -> Request:
        """One prompt: a list of integers is one prompt, and a list of lists is none."""
        use(self._name, "method", "generate_async")
        for name, given in (("sampling_params", sampling_params is not None), ("streaming", True)):
            if given:
                use(self._name, "parameter", f"generate_async.{name}")
        if not isinstance(inputs, list) or not all(isinstance(token, int) for token in inputs):
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        params = (sampling_params or SamplingParams())._values
        if params["end_id"] is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        if params["detokenize"]:
            raise ValueError("detokenize needs a tokenizer")
        if params["top_k"] != 1:
            raise ValueError("the fake decodes greedily: top_k=1")
        self._check(len(inputs), params)
        params = {**params, **self._logits(params)}
        request = Request(inputs, params, streaming)
        self._decoder.waiting.put(request)
        return request

    def get_stats(self) -> list[Any]:
        use(self._name, "method", "get_stats")
        if not self._has_stats():
            return []
        decoder, found = self._decoder, []
        decoder.wait_for_stats()
        while decoder.stats:
            pool = {
                "maxNumBlocks": decoder.blocks,
                "usedNumBlocks": decoder.stats.popleft()["used"],
                "tokensPerBlock": decoder.block,
            }
            found.append({"iter": len(found), "kvCacheStats": pool})
        if JSON_STATS:
            for _ in found[:1]:  # strings hide what is read; the names are recorded by the versions with dictionaries
                return [json.dumps(item) for item in found]
        return [
            RecordedDict("stats", {**item, "kvCacheStats": RecordedDict("kvCacheStats", item["kvCacheStats"])})
            for item in found
        ]

    def shutdown(self) -> None:
        use(self._name, "method", "shutdown")
        if self._decoder is not None:
            self._decoder.stop()
            self._decoder = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self._name} has no attribute {name!r}")


class EngineLLM(_LLM):
    """The engine backend: builds from a checkpoint, or loads an engine folder."""

    _name = "engine.LLM"

    def __init__(self, model: str, **keywords: Any) -> None:
        super().__init__(model, **keywords)
        if self._cache.get("dtype", "auto") != "auto":
            raise AssertionError("KvCacheConfig.dtype is not supported by the TensorRT backend.")
        config = json.loads(Path(model, "config.json").read_text())
        if "pretrained_config" in config:
            self._load(Path(model), config)
        else:
            self._built = self._build(Path(model))

    def _build(self, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        keywords = self._keywords
        build = keywords["build_config"]._values
        quant = keywords["quant_config"]._values if "quant_config" in keywords else {}
        algorithm, cache = quant.get("quant_algo"), quant.get("kv_cache_quant_algo")
        for value in (algorithm, cache):
            if value is not None and not isinstance(value, Member):
                raise ValueError(f"{value!r} is no QuantAlgo")
        if algorithm in ("W4A16_AWQ", "FP8", "W8A8_SQ_PER_CHANNEL") or cache:
            _check_calibration(keywords["calib_config"]._values if "calib_config" in keywords else {})
        hf = json.loads((folder / "config.json").read_text())
        gptq = hf.get("quantization_config", {}).get("quant_method") == "gptq"
        if (algorithm == "W4A16_GPTQ") != gptq:
            raise NotImplementedError("GPTQ needs a checkpoint that is already quantized by it")
        network = _read(folder)
        dtype = keywords.get("dtype", "auto")
        dtype = "float16" if dtype == "auto" else dtype
        bits = {"W8A16": 8, "W8A8_SQ_PER_CHANNEL": 8, "FP8": 8}.get(algorithm, 4 if algorithm else 16)
        state = {name: _rounded(value, bits, dtype) for name, value in network.state_dict().items()}
        speculation = keywords.get("speculative_config")
        config = {
            "version": VERSION,
            "pretrained_config": {
                **network.config.to_dict(),
                "dtype": dtype,
                "head_size": network.config.hidden_size // network.config.num_attention_heads,
                "quantization": {
                    "quant_algo": algorithm,
                    "kv_cache_quant_algo": cache,
                    "group_size": quant.get("group_size", 128),
                },
            },
            "build_config": {
                **{key: value for key, value in build.items() if key != "plugin_config"},
                "plugin_config": dict(build["plugin_config"]._values),
                "speculative_decoding_mode": 8 if speculation else 1,
            },
        }
        return config, state

    def save(self, engine_dir: str) -> None:
        use(self._name, "method", "save")
        config, state = self._built
        out = Path(engine_dir)
        (out / "config.json").write_text(json.dumps(config))
        torch.save(state, out / "rank0.engine")
        for rank in range(1, self._keywords.get("tensor_parallel_size", 1)):
            (out / f"rank{rank}.engine").write_bytes(b"shard")

    def _load(self, folder: Path, config: dict[str, Any]) -> None:
        build = config["build_config"]
        for name in ("max_batch_size", "max_num_tokens"):
            if self._keywords.get(name, 0) > build[name]:
                raise ValueError(f"{name} is over the engine's {build[name]}, to which upstream would clamp it")
        if not isinstance(self._keywords["batching_type"], Member):
            raise ValueError("batching_type is no BatchingType")
        shards = len(list(folder.glob("rank*.engine")))
        if self._keywords.get("tensor_parallel_size", 1) not in (1, shards):
            raise ValueError(f"tp_size is not consistent with the engine's tp_size {shards}")
        shape = dict(config["pretrained_config"])
        state = torch.load(folder / "rank0.engine")
        network = model_of(AutoConfig.for_model(**{k: v for k, v in shape.items() if k != "quantization"}), state)
        self._build_config = build
        use(self._name, "attribute", "args")
        self.args = record(
            "engine.args",
            batching_type=self._keywords["batching_type"],
            enable_chunked_prefill=self._keywords.get("enable_chunked_prefill", False),
        )
        block = build["plugin_config"]["tokens_per_block"]
        self._start(network, build["max_seq_len"], end_withheld=True, block=block)

    def _check(self, length: int, params: dict[str, Any]) -> None:
        if length + params["max_tokens"] > self._max_seq_len:
            raise ValueError(
                f"The sum of prompt length ({length}) and max_tokens should not exceed {self._max_seq_len}"
            )

    def _logits(self, params: dict[str, Any]) -> dict[str, bool]:
        return {
            "return_context_logits": params["return_context_logits"] and self._build_config["gather_context_logits"],
            "return_generation_logits": params["return_generation_logits"]
            and self._keywords.get("gather_generation_logits", False),
        }

    def _has_stats(self) -> bool:
        return True


class TorchLLM(_LLM):
    """The PyTorch backend: loads a Hugging Face checkpoint."""

    _name = "torch.LLM"

    def __init__(self, model: str, **keywords: Any) -> None:
        super().__init__(model, **keywords)
        folder = Path(model)
        config = json.loads((folder / "config.json").read_text())
        if "pretrained_config" in config:
            raise ValueError(f"{model} is a TensorRT engine, which the PyTorch backend cannot load")
        speculation = keywords.get("speculative_config")
        if speculation is not None and type(speculation).__name__ == "LookaheadDecodingConfig":
            raise ValueError("Speculation type Lookahead does not support backend pytorch")
        if speculation is not None and not speculation._values["max_draft_len"]:
            raise ValueError("max_draft_len must be > 0")
        own = folder / "hf_quant_config.json"
        quant = json.loads(own.read_text())["quantization"] if own.is_file() else {}
        cache = "FP8" if self._cache["dtype"] == "fp8" else quant.get("kv_cache_quant_algo")
        use(self._name, "attribute", "args")
        self.args = record(
            "torch.args",
            dtype=keywords.get("dtype", "auto"),
            max_seq_len=keywords["max_seq_len"],
            max_batch_size=keywords.get("max_batch_size", 2048),
            max_num_tokens=keywords.get("max_num_tokens", 8192),
            stream_interval=keywords.get("stream_interval", 1),
            kv_cache_config=keywords["kv_cache_config"],
            enable_chunked_prefill=keywords.get("enable_chunked_prefill", False),
            speculative_config=speculation,
            quant_config=record(
                "args.quant_config",
                quant_algo=Member(quant["quant_algo"]) if quant else None,
                kv_cache_quant_algo=Member(cache) if cache else None,
            ),
        )
        network = _read(folder)
        state = {
            name: _rounded(value, 16, keywords.get("dtype", "auto")) for name, value in network.state_dict().items()
        }
        network.load_state_dict(state)
        self._start(network.eval(), keywords["max_seq_len"], end_withheld=False, block=self._cache["tokens_per_block"])

    def _check(self, length: int, params: dict[str, Any]) -> None:
        del params
        if not self._keywords.get("enable_chunked_prefill") and length > self._keywords.get("max_num_tokens", 8192):
            raise ValueError(f"The sum of prompt length ({length}) should not exceed max_num_tokens")

    def _logits(self, params: dict[str, Any]) -> dict[str, bool]:
        gathered = self._keywords.get("gather_generation_logits", False)
        return {"return_generation_logits": params["return_generation_logits"] and gathered}

    def _has_stats(self) -> bool:
        return bool(self._keywords.get("enable_iter_perf_stats", False))


def _read(folder: Path) -> Any:
    """A checkpoint's model with the plain weights of its files, whatever it says of quantization."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    state: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    return model_of(AutoConfig.for_model(**config), state)


def _check_calibration(calibration: dict[str, Any]) -> None:
    """Upstream's default is a data set of a hub; a local one is a folder with a train split and a text column."""
    folder = Path(calibration.get("calib_dataset", "cnn_dailymail"))
    if not folder.is_dir():
        raise NotImplementedError(f"Unsupported dataset name or local repo directory: {folder}")
    rows = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    if len(rows) < calibration["calib_batches"]:
        raise ValueError(f"{len(rows)} passages, asked were {calibration['calib_batches']}")


def _rounded(value: Any, bits: int, dtype: str) -> Any:
    """Weights as a precision would keep them: symmetric by output channel, else rounded to the half type."""
    if bits == 16 or value.ndim < 2:
        half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(dtype, torch.float16)
        return value.to(half).float()
    top = 2 ** (bits - 1) - 1
    scale = value.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / top
    return (value / scale).round().clamp(-top, top) * scale
