"""``trtllm-engine``: TensorRT engines (TensorRT-LLM >=1.0,<1.3), quantized, built, saved and loaded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Effective, Progress
from enginegate.engines.checkpoint import Geometry, read_config, read_passages
from enginegate.engines.memory_law import MemoryLaw
from enginegate.engines.options import RuntimeOptions
from enginegate.engines.requests import eos_token_ids
from enginegate.engines.trtllm import gpu
from enginegate.engines.trtllm.checkpoint import kv_bytes_per_token, quantization, write_calibration_folder
from enginegate.engines.trtllm.child import build_in_child
from enginegate.engines.trtllm.contract import Api
from enginegate.engines.trtllm.engine import TensorRtEngine
from enginegate.engines.trtllm.loading import kv_tokens, loading
from enginegate.engines.trtllm.memory_law import memory_law
from enginegate.engines.trtllm.options import BuiltSpec, TensorRtOptions, built_spec, pool_limits, runtime_spec
from enginegate.engines.trtllm.precisions import ENGINE, KV_ENGINE, algorithm_name, capabilities
from enginegate.machine import cpu
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.quantized import quantization_of

#: Lookahead decoding: window, n-gram and verification set; small ones of Fu et al. 2024 (arXiv:2402.02057).
_LOOKAHEAD = {"max_window_size": 4, "max_ngram_size": 4, "max_verification_set_size": 4}
_LOOKAHEAD_FLAG = 8
_DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
#: Tokens that one scheduling step takes at most; upstream's own default.
_STEP_TOKENS = 8192
#: Tokens of a calibration passage that are used; longer ones are cut.
_PASSAGE_TOKENS = 512


class TensorRtEngineBackend:
    """TensorRT engines through the LLM API's legacy backend.

    ``own_process``: TensorRT-LLM runs MPI, which is once a process and marks the environment of all its children; a
    process that ends gives everything back, whatever the runtime's shutdown leaves.
    """

    name = "trtllm-engine"
    libraries: Sequence[str] = ("tensorrt_llm",)
    own_process = True
    takes_quantized = True
    options = TensorRtOptions

    def runtime_spec(self, options: RuntimeOptions) -> RuntimeSpec:
        """The options with TensorRT-LLM's own limits of the KV pool; see ``enginegate.engines.options``."""
        return runtime_spec(options)

    def build_spec(self, spec: EngineSpec, runtime: RuntimeSpec) -> EngineSpec:
        """The spec with the options that TensorRT compiles into an engine; see ``enginegate.engines.options``."""
        return built_spec(spec, runtime)

    def version(self) -> str:
        """Versions of what decides the built engine, and the GPU architecture that it is bound to."""
        return _version(("tensorrt_llm", "tensorrt", "nvidia-modelopt"))

    def capabilities(self) -> Capabilities:
        """By installed version, driver and compute capability; imports nothing of TensorRT-LLM."""
        return capabilities(self.name, ENGINE, KV_ENGINE, gpu.devices())

    def memory_law(self, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
        """What an engine takes, before it is loaded."""
        return memory_law(spec, runtime, geometry, kv_format)

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Convert, quantize (ModelOpt, on the calibration passages), compile and save.

        The engine is compiled with context logits gathered, so that the very engine that is timed can be scored.
        """
        Api(self.name)
        wanted = built_spec(spec, RuntimeSpec())
        _check_checkpoint(wanted, checkpoint.path)
        build_in_child(
            "enginegate.engines.trtllm.engine_backend:compile_engine", wanted, checkpoint.path, out_dir, progress
        )

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> BuiltEngine:
        """Load what ``build`` saved."""
        api = Api(self.name)
        config = read_config(engine_dir)
        found = _Found(config)
        _check_runtime(spec, runtime, found)
        shape = Geometry.of(found.model)
        per_token = kv_bytes_per_token(shape, found.kv_precision)
        tokens = kv_tokens(spec, runtime, per_token, found.tokens_per_block)
        keywords: dict[str, Any] = {
            "skip_tokenizer_init": True,
            "trust_remote_code": False,
            "tensor_parallel_size": spec.tensor_parallel,
            "max_batch_size": spec.max_batch_size,
            "max_num_tokens": found.build["max_num_tokens"],
            "gather_generation_logits": True,
            "enable_chunked_prefill": runtime.chunked_prefill,
            "kv_cache_config": api.make(
                "KvCacheConfig",
                enable_block_reuse=False,
                max_tokens=tokens,
                free_gpu_memory_fraction=pool_limits(runtime)[1],
            ),
            **_scheduling(api, runtime),
        }
        if found.speculation == "lookahead":
            keywords["speculative_config"] = api.make("LookaheadDecodingConfig", **_LOOKAHEAD)
        llm = loading(spec, lambda: api.make("LLM", model=str(engine_dir), **keywords))
        return BuiltEngine(
            api,
            llm,
            spec,
            runtime,
            eos=eos_token_ids(engine_dir),
            shape=shape,
            vocabulary=int(found.model["vocab_size"]),
            weights=sum(file.stat().st_size for file in engine_dir.glob("*.engine")),
            pool_tokens=tokens,
            found=found,
        )


def compile_engine(spec: BuiltSpec, checkpoint: Path, out_dir: Path) -> None:
    """What ``build`` does, in this process. Raises EngineError where TensorRT-LLM does."""
    api = Api("trtllm-engine")
    with tempfile.TemporaryDirectory(prefix="enginegate-") as scratch:
        keywords = _build_keywords(api, spec, checkpoint, Path(scratch) / "passages")
        llm = loading(spec, lambda: api.make("LLM", model=str(checkpoint), **keywords))
        try:
            loading(spec, lambda: llm.save(str(out_dir)))
        finally:
            llm.shutdown()
    # An engine's own config.json names no end tokens.
    ends = {"eos_token_id": sorted(eos_token_ids(checkpoint))}
    (out_dir / "generation_config.json").write_text(json.dumps(ends) + "\n", encoding="utf-8")


class BuiltEngine(TensorRtEngine):
    """A loaded TensorRT engine."""

    def __init__(self, *args: Any, found: _Found, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._found = found

    def effective(self) -> Effective:
        """What the engine's own ``config.json`` says it was compiled as; limits there override what loading asked."""
        self._check_open()
        found, args = self._found, self._llm.args
        blocks, pool = self._pool_told()
        return Effective(
            precision=found.precision,
            kv_precision=found.kv_precision,
            activation_precision=found.activations,
            max_length=min(self._max_length(), int(found.build["max_seq_len"])),
            threads=None,
            scheduler_policy="static" if "STATIC" in str(args.batching_type).upper() else "inflight",
            chunked_prefill=bool(args.enable_chunked_prefill),
            queue_order="fcfs",
            speculation=found.speculation,
            tokens_per_block=found.tokens_per_block,
            kv_blocks=blocks,
            kv_pool_bytes=pool,
            details={
                "algorithm": found.algorithm,
                "group_size": found.quantization.get("group_size"),
                "max_batch_size": found.build["max_batch_size"],
                "max_input_len": found.build["max_input_len"],
                "max_num_tokens": found.build["max_num_tokens"],
                "kv_pool": dict(self._pool),
                "ttft": self._timing.report(),
                "versions": cpu.versions(("tensorrt_llm", "tensorrt")),
            },
        )

    def _kv_precision(self) -> str:
        return self._found.kv_precision


class _Found:
    """The parts of an engine's ``config.json``. Raises EngineError where it is none of a TensorRT engine."""

    def __init__(self, config: dict[str, Any]) -> None:
        try:
            self.model: dict[str, Any] = config["pretrained_config"]
            self.build: dict[str, Any] = config["build_config"]
            self.quantization: dict[str, Any] = self.model.get("quantization") or {}
            self.algorithm: str | None = self.quantization.get("quant_algo")
            self.activations = algorithm_name(ENGINE, None, str(self.model["dtype"]))
            self.precision = algorithm_name(ENGINE, self.algorithm, str(self.model["dtype"]))
            cache = self.quantization.get("kv_cache_quant_algo")
            self.kv_precision = str(cache).lower() if cache else self.activations
            plugins = self.build["plugin_config"]
            # The dataclass of the 1.0 line keeps its fields with an underscore.
            self.tokens_per_block = int(plugins.get("tokens_per_block") or plugins["_tokens_per_block"])
            mode = self.build.get("speculative_decoding_mode")
        except (KeyError, TypeError) as error:
            raise EngineError(f"config.json is none of a TensorRT engine: {error!r}", "rebuild the engine") from error
        # The mode is written as the flag's number or its name, by version; lookahead's flag is 8.
        self.speculation = "lookahead" if "LOOKAHEAD" in str(mode).upper() or mode == _LOOKAHEAD_FLAG else "none"


def _build_keywords(api: Api, spec: BuiltSpec, checkpoint: Path, passages: Path) -> dict[str, Any]:
    precision = ENGINE[spec.precision]
    length = spec.max_input_len + spec.max_output_len
    build = api.make(
        "BuildConfig",
        max_batch_size=spec.max_batch_size,
        max_input_len=length,  # scoring passes whole sequences as prompts
        max_seq_len=length,
        max_num_tokens=max(_STEP_TOKENS, length),
        gather_context_logits=True,
    )
    if spec.tokens_per_block is not None:
        build.plugin_config.tokens_per_block = spec.tokens_per_block
    # Constructing also loads what was compiled; without a limit its KV pool would take most of the GPU's free memory.
    pool = api.make("KvCacheConfig", enable_block_reuse=False, max_tokens=length + 128)
    keywords: dict[str, Any] = {
        "trust_remote_code": False,
        "kv_cache_config": pool,
        "dtype": _DTYPES.get(spec.activation_precision, precision.dtype),
        "tensor_parallel_size": spec.tensor_parallel,
        "build_config": build,
    }
    if spec.speculation == "lookahead":
        keywords["speculative_config"] = api.make("LookaheadDecodingConfig", **_LOOKAHEAD)
    if precision.algorithm or spec.kv_precision in KV_ENGINE:
        keywords["quant_config"] = _quantization(api, spec, checkpoint)
    if precision.calibrated or spec.kv_precision in KV_ENGINE:
        texts = read_passages(spec.quantization)
        keywords["calib_config"] = api.make(
            "CalibConfig",
            calib_dataset=str(write_calibration_folder(passages, texts)),
            calib_batches=len(texts),
            calib_batch_size=1,
            calib_max_seq_length=_PASSAGE_TOKENS,
            random_seed=0,
        )
    return keywords


def _quantization(api: Api, spec: BuiltSpec, checkpoint: Path) -> Any:
    algorithms = api.cls("QuantAlgo")
    chosen: dict[str, Any] = {}
    algorithm = ENGINE[spec.precision].algorithm
    if algorithm:
        chosen["quant_algo"] = getattr(algorithms, algorithm)
    if spec.kv_precision in KV_ENGINE:
        chosen["kv_cache_quant_algo"] = getattr(algorithms, spec.kv_precision.upper())
    if spec.precision == "int4_awq":
        chosen["group_size"] = spec.quantization.group_size or 128
    if spec.precision == "int4_gptq":
        stored = quantization(checkpoint)
        chosen["group_size"] = stored.get("group_size", 128)
        chosen["has_zero_point"] = not stored.get("sym", True)
    return api.make("QuantConfig", **chosen)


def _check_checkpoint(spec: BuiltSpec, checkpoint: Path) -> None:
    """Raise CapabilityError for what TensorRT-LLM would find out late, or not at all."""
    if spec.precision not in ENGINE:
        raise CapabilityError(f"backend trtllm-engine has no precision {spec.precision!r}", f"take {', '.join(ENGINE)}")
    method = quantization(checkpoint).get("quant_method") or quantization_of(checkpoint)
    if spec.precision == "int4_gptq" and method != "gptq":
        raise CapabilityError(
            f"{spec.id}: TensorRT-LLM does not quantize by GPTQ itself, and {checkpoint} is no GPTQ checkpoint",
            "name a checkpoint that is already quantized by GPTQ to 4 bits, or use int4_awq",
        )
    if spec.precision != "int4_gptq" and method:
        raise CapabilityError(
            f"{spec.id}: {checkpoint} is already quantized ({method})", "name the checkpoint in its own precision"
        )
    own = ENGINE[spec.precision].dtype
    if own != "auto" and spec.activation_precision not in ("auto", spec.precision):
        raise CapabilityError(
            f"{spec.id}: activation_precision {spec.activation_precision} of {spec.precision} weights",
            "set activation_precision to auto",
        )
    if spec.speculation not in ("none", "lookahead"):
        raise CapabilityError(
            f"{spec.id}: the engine backend has no speculation {spec.speculation!r}",
            "use lookahead, or the backend trtllm-torch for ngram and draft",
        )
    if spec.tokens_per_block is not None and spec.tokens_per_block & (spec.tokens_per_block - 1):
        raise CapabilityError(
            f"{spec.id}: tokens_per_block {spec.tokens_per_block} is no power of two", "use 16, 32, 64 or 128"
        )


def _check_runtime(spec: EngineSpec, runtime: RuntimeSpec, found: _Found) -> None:
    """Raise CapabilityError where loading asks for what the engine was not compiled with, or no engine has."""
    refused = []
    if runtime.prefix_caching:
        refused.append("prefix_caching (what is loaded does not tell whether blocks are reused)")
    if runtime.queue_order != "fcfs":
        refused.append(f"queue_order {runtime.queue_order} (it is fcfs)")
    if refused:
        raise CapabilityError(f"{spec.id}: backend trtllm-engine has no {', '.join(refused)}", "drop it")
    fixed = [
        ("kv_precision", runtime.kv_precision, ("auto", found.kv_precision)),
        ("tokens_per_block", runtime.tokens_per_block, (None, found.tokens_per_block)),
        ("speculation", runtime.speculation, (found.speculation,)),
        ("activation_precision", runtime.activation_precision, ("auto", found.activations)),
    ]
    for name, asked, fine in fixed:
        if asked not in fine:
            raise CapabilityError(
                f"{spec.id}: {name} {asked} was asked, but the engine was compiled with {fine[-1]}",
                f"build the engine with it: {name} is part of a TensorRT engine's build (enginegate engines build)",
            )


def _scheduling(api: Api, runtime: RuntimeSpec) -> dict[str, Any]:
    """In-flight batching, or batches that run to their end before the next one starts."""
    policies, kinds = api.cls("CapacitySchedulerPolicy"), api.cls("BatchingType")
    if runtime.scheduler_policy == "static":
        policy, kind = policies.STATIC_BATCH, kinds.STATIC
    else:
        policy, kind = policies.GUARANTEED_NO_EVICT, kinds.INFLIGHT
    return {
        "scheduler_config": api.make("SchedulerConfig", capacity_scheduler_policy=policy),
        "batching_type": kind,
    }


def _version(distributions: tuple[str, ...]) -> str:
    gpus = gpu.devices()
    return cpu.versions(distributions) + (f", on {gpus[0].architecture}" if gpus else "")
