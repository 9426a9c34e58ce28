"""A loaded vLLM engine: the engine core runs in this process and is stepped token by token."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.errors import EngineError, edge
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Cells, Distribution, Effective, MemoryUse
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import check_open, check_sequences, eos_token_ids
from enginegate.engines.stepping import SteppingEngine
from enginegate.engines.vllm import settings
from enginegate.engines.vllm.loop import CoreLoop
from enginegate.engines.vllm.precisions import precision_found, suite_name, weight_scheme
from enginegate.engines.vllm.quantize import storage_type
from enginegate.engines.vllm.ranks import Rank, close_queues, message_queues, read_ranks, weights_of
from enginegate.machine import cpu
from enginegate.models.vocabulary import vocabulary_size


class VllmEngine(SteppingEngine):
    """See ``enginegate.engines.base.Engine``.

    The loop is vLLM's own (``LLMEngine.step`` with ``FINAL_ONLY`` outputs, as ``LLM.generate`` does); see ``CoreLoop``.
    """

    _own_orders = ("priority",)

    def __init__(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        self.spec = spec
        self.runtime = runtime
        self._geometry = Geometry.read(engine_dir)
        self._activation = _activation(engine_dir, spec, runtime)
        self._eos = eos_token_ids(engine_dir)
        self._vocabulary = vocabulary_size(engine_dir)
        recipe = engine_dir / "recipe.yaml"
        self._recipe = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
        arguments = settings.llm_arguments(engine_dir, spec, runtime, self._geometry, self._activation)
        _set_environment(engine_dir)
        import torch
        import vllm

        self._torch = torch
        self._vllm = vllm
        hint = "see vLLM's own log"
        if (runtime.kv_precision, self._activation) == ("fp8", "fp16"):
            hint += "; a Hopper card has no FP8 KV cache beside fp16: take a precision that computes in bf16"
        with edge(EngineError, f"{spec.id}: {engine_dir} cannot be loaded", hint):
            self._llm: Any = vllm.LLM(**arguments)
            self._queues = message_queues(self._core().model_executor)  # once a worker died, vLLM forgets them
            self._core_loop: Any = CoreLoop(vllm, self._llm)

    def _loop(self) -> CoreLoop:
        loop: CoreLoop = self._core_loop
        loop.taken()
        loop.eos = self._eos
        return loop

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probabilities from ``prompt_logprobs``: log-softmax of the raw logits in float32.

        With ``prefill``, the scheduler is told to take that many tokens of each sequence in its first step and single
        tokens from then on, each of which reads the keys and values before it from the paged cache in the cache's own
        type, as decoding does. Where steps overlap (asynchronous scheduling), a second chunk of ``prefill`` tokens may
        be under way before the change is seen.
        """
        return [
            tuple(float(position[token].logprob) for position, token in zip(named, sequence[1:], strict=True))
            for named, sequence in zip(self._named(sequences, 0, prefill), sequences, strict=True)
        ]

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine: the tokens that vLLM itself finds the likeliest, also where others were asked for."""
        count = cells if isinstance(cells, int) else max((each.shape[1] for each in cells), default=1)
        count = min(count, settings.MOST_LOGPROBS)
        return [
            _distribution(named, sequence[1:], count)
            for named, sequence in zip(self._named(sequences, count, prefill), sequences, strict=True)
        ]

    def _named(self, sequences: Sequence[Sequence[int]], count: int, prefill: int | None) -> list[list[Any]]:
        """For each sequence and position after the first the token that came, and the ``count`` likeliest ones."""
        self._check_open()
        check_sequences(self.spec, sequences, prefill, self._max_length(), self._vocabulary)
        longest = max(map(len, sequences))
        limit = int(self._config().model_config.max_model_len)
        if longest >= limit:
            raise EngineError(
                f"{self.spec.id}: a sequence of {longest} tokens fills the model's {limit} positions, and vLLM "
                "needs one more to score it",
                "shorten the sequence by one token",
            )
        sampling = self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            prompt_logprobs=count,
            detokenize=False,
            output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )
        named: list[list[Any]] = []
        for begin in range(0, len(sequences), self.spec.max_batch_size):
            named += self._score_batch(sequences[begin : begin + self.spec.max_batch_size], sampling, prefill)
        return named

    def _score_batch(self, sequences: Sequence[Sequence[int]], sampling: Any, prefill: int | None) -> list[list[Any]]:
        engine, loop = self._llm.llm_engine, self._core_loop
        finished: dict[str, Any] = {}
        names = [loop.request(sequence, sampling) for sequence in sequences]
        scheduler = self._core().scheduler.scheduler_config
        before = scheduler.long_prefill_token_threshold
        try:
            scheduler.long_prefill_token_threshold = prefill or before
            steps = 0
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        finished[output.request_id] = output
                        beat()  # not for each step: those of a scheduler that is stuck end, too
                steps += 1
                if prefill is not None:
                    scheduler.long_prefill_token_threshold = 1
        finally:
            scheduler.long_prefill_token_threshold = before
            loop.cancel(names)
        least = max(map(len, sequences)) - 2 * prefill if prefill is not None else 1
        if steps < least:
            raise EngineError(
                f"{self.spec.id}: scoring took {steps} steps, not the {least} of a token each that were asked",
                "this version of vLLM does not follow long_prefill_token_threshold",
            )
        # vLLM's outputs carry the name that a request was submitted under, without the suffix of its inner one.
        ordered = sorted(finished.values(), key=lambda output: int(output.request_id.partition("-")[0]))
        if len(ordered) != len(sequences):
            raise EngineError(f"{self.spec.id}: {len(ordered)} of {len(sequences)} sequences were scored", "try again")
        return [list(output.prompt_logprobs[1:]) for output in ordered]

    def memory(self) -> MemoryUse:
        """Bytes of the parameters and of the KV pool, which vLLM allocates while loading, over all ranks."""
        self._check_open()
        ranks = self._ranks()
        allocated = sum(rank.kv_bytes for rank in ranks)
        kv = settings.kv_precision(self.runtime, self._activation)
        return MemoryUse(
            weights=sum(weights_of(ranks).values()),
            kv_cache=allocated,
            kv_budget=allocated,
            kv_cache_predicted=settings.kv_pool_bytes(self.spec, self.runtime, self._geometry, kv),
        )

    def effective(self) -> Effective:
        """What the engine really is.

        Weights: element types of the loaded parameters, the scheme in the loaded quantization configuration, and
        llm-compressor's recipe. KV cache: the configured element type and the allocated tensors'. Activations: the
        loaded configuration's.
        """
        self._check_open()
        config = self._config()
        ranks = self._ranks()
        method = config.model_config.quantization
        stored = getattr(config.model_config.hf_config, "quantization_config", None) or {}
        stored = stored if isinstance(stored, dict) else stored.to_dict()
        configured = str(config.cache_config.cache_dtype)
        pools = {
            "fp8" if configured.startswith("fp8") and rank.kv_element_bytes == 1 else suite_name(rank.kv_type)
            for rank in ranks
        }
        found = weights_of(ranks)
        scheduler = config.scheduler_config
        return Effective(
            precision=precision_found(found, method, weight_scheme(stored), self._recipe),
            kv_precision=" and ".join(sorted(pools)),
            activation_precision=suite_name(str(config.model_config.dtype)),
            max_length=self._max_length(),
            threads=None,
            scheduler_policy=self.runtime.scheduler_policy,
            chunked_prefill=bool(scheduler.enable_chunked_prefill),
            speculation=getattr(config.speculative_config, "method", None) or "none",
            prefix_caching=bool(config.cache_config.enable_prefix_caching),
            queue_order="priority" if str(scheduler.policy) == "priority" else self._line().order,
            tokens_per_block=config.cache_config.block_size,
            kv_blocks=config.cache_config.num_gpu_blocks,
            kv_pool_bytes=sum(rank.kv_bytes for rank in ranks),
            details={
                "device": self._torch.cuda.get_device_name(),
                "weight_bytes": {suite_name(kind): size for kind, size in found.items()},
                "quantization": method,
                "kv_cache_dtype": configured,
                "attention": " and ".join(sorted({rank.attention for rank in ranks})),
                "async_scheduling": bool(scheduler.async_scheduling),
                "max_num_batched_tokens": scheduler.max_num_batched_tokens,
                "guesses": _guesses(config.speculative_config),
                "prefix_cache": self._core_loop.prefix_cache(),
                "tensor_parallel": len(ranks),
                "decode_scoring": "one token a step",
                "versions": cpu.versions(("vllm", "torch", "transformers", "compressed-tensors")),
            },
        )

    def close(self) -> None:
        """Shut the engine core down and give its memory back."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        self._core_loop = None
        try:
            llm.llm_engine.engine_core.shutdown()
        finally:
            close_queues(self._queues)
        self._queues = []
        del llm
        gc.collect()
        self._torch.cuda.empty_cache()

    def _core(self) -> Any:
        return self._llm.llm_engine.engine_core.engine_core

    def _config(self) -> Any:
        return self._llm.llm_engine.vllm_config

    def _ranks(self) -> list[Rank]:
        return read_ranks(self._core().model_executor)

    def _max_length(self) -> int:
        return min(self._geometry.positions, self.spec.max_input_len + self.spec.max_output_len)

    def _check_open(self) -> None:
        check_open(self.spec, self._llm)


def _guesses(config: Any) -> dict[str, int]:
    """Tokens that n-gram speculation guesses at a time, as the loaded configuration says."""
    return {} if config is None else {"num_assistant_tokens": int(config.num_speculative_tokens)}


def _distribution(named: Sequence[Mapping[int, Any]], came: Sequence[int], count: int) -> Distribution:
    """A distribution from vLLM's words: at each position a mapping of token id to its log-probability and rank.

    The token that came is named beside the ``count`` likeliest ones, and so has a cell, too.
    """
    ids = np.full((len(named), count + 1), -1, np.int32)
    values = np.full(ids.shape, -np.inf)
    for row, position in enumerate(named):
        ids[row, : len(position)] = list(position)
        values[row, : len(position)] = [each.logprob for each in position.values()]
    left = 1.0 - np.exp(values).sum(1)
    return Distribution(
        scores=np.array([float(position[token].logprob) for position, token in zip(named, came, strict=True)]),
        ids=ids,
        values=values,
        # of log-probabilities in float32: a smaller mass is their rounding
        rest=np.where(left > 1e-6, np.log(np.maximum(left, 1e-6)), -np.inf),
        likeliest=ids[np.arange(len(ids)), values.argmax(1)],
    )


def _activation(engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> str:
    if runtime.activation_precision != "auto":
        return runtime.activation_precision
    if spec.precision in ("fp16", "bf16"):
        return spec.precision
    return suite_name(f"torch.{storage_type(engine_dir)}")


def _set_environment(engine_dir: Path) -> None:
    """What vLLM reads once a process: in-process core, no network, and compile caches beside the engine's folder.

    Beside, not inside: the store compares the engine's folder with its manifest. Where the place is not writable, vLLM
    keeps its own default.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault(
        "VLLM_USE_FLASHINFER_SAMPLER", "0"
    )  # greedy decoding samples nothing, and it compiles for long
    os.environ.setdefault("VLLM_SLEEP_WHEN_IDLE", "1")  # ranks that wait would spin while it is another one's turn
    cache = engine_dir.parent / "vllm-cache"
    if os.access(engine_dir.parent, os.W_OK):
        os.environ["VLLM_CACHE_ROOT"] = str(cache)
