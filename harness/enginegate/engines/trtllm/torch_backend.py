"""``trtllm-torch``: TensorRT-LLM's PyTorch backend (>=1.0) on Hugging Face checkpoints, quantized by ModelOpt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Effective, Progress
from enginegate.engines.checkpoint import Geometry, read_config
from enginegate.engines.memory_law import MemoryLaw
from enginegate.engines.options import RuntimeOptions
from enginegate.engines.requests import eos_token_ids
from enginegate.engines.trtllm import gpu
from enginegate.engines.trtllm.checkpoint import dtype, kv_bytes_per_token, quantization, tensor_bytes
from enginegate.engines.trtllm.child import build_in_child
from enginegate.engines.trtllm.contract import Api
from enginegate.engines.trtllm.engine import TensorRtEngine
from enginegate.engines.trtllm.loading import kv_tokens, loading
from enginegate.engines.trtllm.memory_law import TOKENS_PER_BLOCK, memory_law
from enginegate.engines.trtllm.options import (
    DRAFT_TOKENS,
    TensorRtOptions,
    check_draft_model,
    pool_limits,
    runtime_spec,
)
from enginegate.engines.trtllm.precisions import KV_TORCH, TORCH, algorithm_name, capabilities
from enginegate.machine import cpu
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.quantized import check_plain
from enginegate.models.vocabulary import vocabulary_size

#: Tokens that one scheduling step takes at most; upstream's own default.
_STEP_TOKENS = 8192
_NGRAM_SIZE = 3
#: The suite's names of what ``llm.args.speculative_config`` may be, by its class.
_SPECULATIONS = {"NoneType": "none", "NGramDecodingConfig": "ngram", "DraftTargetDecodingConfig": "draft"}
_BUILD_LIBRARIES = ("modelopt", "torch", "transformers")


class TensorRtTorchBackend:
    """The PyTorch backend of the LLM API: no compilation; quantized weights come from ModelOpt.

    ``own_process``: see the engine backend.
    """

    name = "trtllm-torch"
    libraries: Sequence[str] = ("tensorrt_llm",)
    own_process = True
    options = TensorRtOptions

    def runtime_spec(self, options: RuntimeOptions) -> RuntimeSpec:
        """The options with TensorRT-LLM's own limits of the KV pool; see ``enginegate.engines.options``."""
        return runtime_spec(options)

    def version(self) -> str:
        """Versions of what decides the built checkpoint and what runs it."""
        return cpu.versions(("tensorrt_llm", "nvidia-modelopt", "torch", "transformers"))

    def capabilities(self) -> Capabilities:
        """By installed version, driver and compute capability; imports nothing of TensorRT-LLM."""
        return capabilities(self.name, TORCH, KV_TORCH, gpu.devices())

    def memory_law(self, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
        """What an engine takes, before it is loaded."""
        return memory_law(spec, runtime, geometry, kv_format)

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Quantize by ModelOpt on the calibration passages, or link the checkpoint where nothing is quantized.

        Raises EngineError with the end of the child's output where that fails, CapabilityError where ModelOpt is
        missing.
        """
        if spec.precision not in TORCH:
            raise CapabilityError(
                f"backend trtllm-torch has no precision {spec.precision!r}", f"take {', '.join(TORCH)}"
            )
        check_plain(checkpoint.path)
        if TORCH[spec.precision].recipe:
            missing = cpu.missing_modules(_BUILD_LIBRARIES)
            if missing:
                raise CapabilityError(
                    f"{spec.id}: {', '.join(missing)} not installed",
                    "pip install nvidia-modelopt (docs/tensorrt-llm.md)",
                )
        build_in_child("enginegate.engines.trtllm.quantize:quantize", spec, checkpoint.path, out_dir, progress)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> TorchEngine:
        """Load the checkpoint that ``build`` wrote."""
        api = Api(self.name)
        _check_runtime(spec, runtime, api)
        config = read_config(engine_dir)
        shape = Geometry.of(config)
        activations = algorithm_name(TORCH, None, _dtype(spec, config))
        per_token = kv_bytes_per_token(shape, activations if runtime.kv_precision == "auto" else runtime.kv_precision)
        block = runtime.tokens_per_block or TOKENS_PER_BLOCK
        length = spec.max_input_len + spec.max_output_len
        tokens = kv_tokens(spec, runtime, per_token, block)
        cache: dict[str, Any] = {
            "enable_block_reuse": False,
            "max_tokens": tokens,
            "free_gpu_memory_fraction": pool_limits(runtime)[1],
            "dtype": "fp8" if runtime.kv_precision == "fp8" else "auto",
        }
        if api.takes("KvCacheConfig", "tokens_per_block"):
            cache["tokens_per_block"] = block
        keywords: dict[str, Any] = {
            "skip_tokenizer_init": True,
            "trust_remote_code": False,
            "tensor_parallel_size": spec.tensor_parallel,
            "dtype": _dtype(spec, config),
            "max_batch_size": spec.max_batch_size,
            "max_input_len": length,
            "max_seq_len": length,
            "max_num_tokens": max(_STEP_TOKENS, length),
            "stream_interval": 1,
            "enable_iter_perf_stats": True,
            "gather_generation_logits": True,
            "enable_chunked_prefill": runtime.chunked_prefill,
            "kv_cache_config": api.make("KvCacheConfig", **cache),
            "scheduler_config": api.make(
                "SchedulerConfig", capacity_scheduler_policy=api.cls("CapacitySchedulerPolicy").GUARANTEED_NO_EVICT
            ),
            **_speculation(api, spec, runtime),
        }
        llm = loading(spec, lambda: api.make("LLM", model=str(engine_dir), **keywords))
        return TorchEngine(
            api,
            llm,
            spec,
            runtime,
            eos=eos_token_ids(engine_dir),
            shape=shape,
            vocabulary=vocabulary_size(engine_dir),
            weights=sum(tensor_bytes(engine_dir).values()),
            pool_tokens=tokens,
            folder=engine_dir,
            block=block,
        )


class TorchEngine(TensorRtEngine):
    """A checkpoint loaded by the PyTorch backend."""

    def __init__(self, *args: Any, folder: Path, block: int, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._folder = folder
        self._block = block

    def effective(self) -> Effective:
        """What ``llm.args`` says after loading, and what the checkpoint's files hold; a disagreement is shown."""
        self._check_open()
        args = self._llm.args
        stored = quantization(self._folder).get("quant_algo")
        activations = algorithm_name(TORCH, None, str(args.dtype))
        if args.dtype == "auto":
            activations = algorithm_name(TORCH, None, dtype(read_config(self._folder)))
        precision = algorithm_name(TORCH, stored, activations)
        loaded = args.quant_config.quant_algo
        if loaded is not None and algorithm_name(TORCH, _value(loaded), activations) != precision:
            precision = f"{precision} on disk, {algorithm_name(TORCH, _value(loaded), activations)} loaded"
        blocks, pool = self._pool_told()
        return Effective(
            precision=precision,
            kv_precision=self._kv_precision(),
            activation_precision=activations,
            max_length=min(self._max_length(), int(args.max_seq_len)),
            threads=None,
            scheduler_policy="inflight",
            chunked_prefill=bool(args.enable_chunked_prefill),
            queue_order="fcfs",
            speculation=_SPECULATIONS.get(type(args.speculative_config).__name__, str(args.speculative_config)),
            tokens_per_block=self._pool.get("tokens_per_block", self._block),
            kv_blocks=blocks,
            kv_pool_bytes=pool,
            details={
                "algorithm": stored,
                "tensor_bytes": tensor_bytes(self._folder),
                "max_batch_size": args.max_batch_size,
                "max_num_tokens": args.max_num_tokens,
                "stream_interval": args.stream_interval,
                "kv_pool": dict(self._pool),
                "ttft": self._timing.report(),
                "versions": cpu.versions(("tensorrt_llm", "nvidia-modelopt")),
            },
        )

    def _kv_precision(self) -> str:
        args = self._llm.args
        kept = args.quant_config.kv_cache_quant_algo
        if kept is not None:
            return _value(kept).lower()
        if args.kv_cache_config.dtype != "auto":
            return str(args.kv_cache_config.dtype)
        known = dtype(read_config(self._folder)) if args.dtype == "auto" else str(args.dtype)
        return algorithm_name(TORCH, None, known)


def _dtype(spec: EngineSpec, config: dict[str, Any]) -> str:
    """Half precisions by name; a quantized checkpoint's own, with float32 read as float16 as upstream does."""
    wanted = TORCH[spec.precision].dtype
    if wanted != "auto":
        return wanted
    found = dtype(config)
    return "float16" if found == "float32" else found


def _speculation(api: Api, spec: EngineSpec, runtime: RuntimeSpec) -> dict[str, Any]:
    if runtime.speculation == "none":
        return {}
    if runtime.speculation == "ngram":
        config = api.make("NGramDecodingConfig", max_draft_len=DRAFT_TOKENS, max_matching_ngram_size=_NGRAM_SIZE)
    else:
        folder = check_draft_model(spec, os.environ.get("ENGINEGATE_DRAFT_MODEL", ""))
        config = api.make("DraftTargetDecodingConfig", max_draft_len=DRAFT_TOKENS, speculative_model_dir=folder)
    # Two-model speculation and n-grams verify on the host between steps, which the overlap scheduler cannot wait for.
    return {"speculative_config": config, "disable_overlap_scheduler": True}


def _check_runtime(spec: EngineSpec, runtime: RuntimeSpec, api: Api) -> None:
    """Raise CapabilityError for what the PyTorch backend cannot be told."""
    refused = []
    if runtime.kv_precision not in ("auto", "fp8"):
        refused.append(f"kv_precision {runtime.kv_precision} (it has fp8; int8 is trtllm-engine's)")
    if runtime.scheduler_policy != "inflight":
        refused.append(f"scheduler_policy {runtime.scheduler_policy} (it is inflight)")
    if runtime.speculation not in ("none", "ngram", "draft"):
        refused.append(f"speculation {runtime.speculation} (it has ngram and draft)")
    if runtime.prefix_caching:
        refused.append("prefix_caching (what is loaded does not tell whether blocks are reused)")
    if runtime.queue_order != "fcfs":
        refused.append(f"queue_order {runtime.queue_order} (it is fcfs)")
    if runtime.activation_precision != "auto":
        refused.append(f"activation_precision {runtime.activation_precision} (it is the checkpoint's)")
    if runtime.tokens_per_block not in (None, TOKENS_PER_BLOCK) and not api.takes("KvCacheConfig", "tokens_per_block"):
        fixed = f"TensorRT-LLM {api.version} fixes it at {TOKENS_PER_BLOCK}"
        refused.append(f"tokens_per_block {runtime.tokens_per_block} ({fixed})")
    if refused:
        raise CapabilityError(f"{spec.id}: backend trtllm-torch has no {', '.join(refused)}", "drop it")


def _value(algorithm: Any) -> str:
    """Name of a QuantAlgo member, which is a string enumeration, or of plain text."""
    return str(getattr(algorithm, "value", algorithm))
