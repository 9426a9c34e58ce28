"""A loaded OpenVINO engine: the continuous-batching pipeline, stepped token by token."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from enginegate.core.errors import CapabilityError, EngineError, edge
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Cells, Distribution, Effective, MemoryUse
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.openvino import kv_cache
from enginegate.engines.openvino.draft import draft_folder, with_tokenizers
from enginegate.engines.openvino.loop import PipelineLoop, guess_settings, guessed_tokens
from enginegate.engines.openvino.memory_law import CHUNK
from enginegate.engines.openvino.precisions import ELEMENT_TYPES, activation_precision, kv_precision, suite_name
from enginegate.engines.openvino.scorer import Scorer
from enginegate.engines.openvino.signal_stack import keep_signal_stack
from enginegate.engines.openvino.weights import read_weights
from enginegate.engines.requests import check_open, check_sequences, eos_token_ids
from enginegate.engines.serving import Line
from enginegate.engines.stepping import SteppingEngine
from enginegate.machine import cpu
from enginegate.models.vocabulary import vocabulary_size


class OpenVinoEngine(SteppingEngine):
    """See ``enginegate.engines.base.Engine``.

    The pipeline is driven by ``add_request`` and ``step``: each step gives every running sequence its next token, so a
    batch has true times per token. Prefix caching is off unless it is asked for, and threads, activation and KV types
    are always explicit.
    """

    def __init__(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        import openvino
        import openvino_genai

        _check_runtime(spec, runtime)
        self.spec = spec
        self.runtime = runtime
        self._openvino = openvino
        self._genai = openvino_genai
        self._model_xml = engine_dir / "openvino_model.xml"
        self._weights = read_weights(self._model_xml)
        self._geometry = Geometry.read(engine_dir)
        self._eos = eos_token_ids(engine_dir)
        self._vocabulary = vocabulary_size(engine_dir)
        self._activation = activation_precision(spec, runtime)
        self._kv_precision = kv_precision(spec, runtime, self._activation)
        self._threads = runtime.threads or cpu.usable_cores()
        self._properties = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": ELEMENT_TYPES[self._activation],
            "KV_CACHE_PRECISION": ELEMENT_TYPES[self._kv_precision],
        }
        self._blocks = self._count_blocks()
        self._scheduling = self._scheduler()
        self._scorer: Scorer | None = None
        self._names = itertools.count()
        loading = edge(EngineError, f"{spec.id}: {engine_dir} cannot be loaded", "rebuild the engine")
        with loading, keep_signal_stack():
            self._pipeline: Any = self._load(engine_dir)

    def _load(self, engine_dir: Path) -> Any:
        pipeline, properties = self._genai.ContinuousBatchingPipeline, dict(self._properties)
        if self.runtime.speculation == "ngram":
            properties["prompt_lookup"] = True  # where it is there at all, even as False, GenAI looks up
        if self.runtime.speculation != "draft":
            return pipeline(str(engine_dir), self._scheduling, "CPU", properties)
        guessing = draft_folder(self.spec, self._vocabulary)
        with tempfile.TemporaryDirectory(prefix="enginegate-") as scratch:
            own, draft = with_tokenizers((engine_dir, guessing), Path(scratch))
            properties["draft_model"] = self._genai.draft_model(
                str(draft), "CPU", scheduler_config=self._scheduler(), **self._properties
            )
            return pipeline(str(own), self._scheduling, "CPU", properties)

    def _loop(self) -> PipelineLoop:
        guesses = guess_settings(self.runtime)
        return PipelineLoop(self._genai, self._openvino, self._pipeline, self._eos, self._names, guesses)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probabilities from the model's stateful form; see ``Scorer``, which the first call compiles."""
        return self._scorer_for(sequences, prefill).score(sequences, prefill)

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine; from the same form of the model."""
        return self._scorer_for(sequences, prefill).distributions(sequences, cells, prefill)

    def _scorer_for(self, sequences: Sequence[Sequence[int]], prefill: int | None) -> Scorer:
        """The scorer, once the sequences are found to be such that it can score."""
        self._check_open()
        check_sequences(self.spec, sequences, prefill, self._max_length(), self._vocabulary)
        if self._scorer is None:
            token = kv_cache.block_bytes(self._geometry, self._kv_precision) // kv_cache.TOKENS_PER_BLOCK
            self._scorer = Scorer(self._model_xml, self._properties, self._threads, token)
        return self._scorer

    def memory(self) -> MemoryUse:
        """Bytes of the stored weights, and of the KV pool as the pipeline reports it (0 until it first runs)."""
        self._check_open()
        spec = self.spec
        block = kv_cache.block_bytes(self._geometry, self._kv_precision)
        length = spec.max_input_len + spec.max_output_len + self._guesses()
        return MemoryUse(
            weights=self._weights.total_bytes,
            kv_cache=kv_cache.allocated_bytes(self._pool_bytes(), self._kv_precision),
            kv_budget=self._blocks * block,
            kv_cache_predicted=kv_cache.blocks_needed(spec.max_batch_size, length) * block,
        )

    def effective(self) -> Effective:
        """What the engine really is.

        Weights: element types of the constants in the loaded IR, and NNCF's record in it. KV cache: the type that the
        pool's bytes per block have, which the running pipeline reports; a pipeline that has not run yet is made to
        answer one token first, as it allocates the pool then. Activations, threads: the device's own answer to the
        properties that the pipeline was compiled with.
        """
        self._check_open()
        if not self._pool_bytes():
            self.generate([[0]], SamplingParams(max_tokens=1))
        device = self._device_answer()
        claimed = suite_name(device["KV_CACHE_PRECISION"])
        return Effective(
            precision=self._weights.precision,
            kv_precision=kv_cache.precision_found(self._geometry, claimed, self._pool_bytes(), self._blocks),
            activation_precision=suite_name(device["INFERENCE_PRECISION_HINT"]),
            max_length=self._max_length(),
            threads=int(device["INFERENCE_NUM_THREADS"]),
            scheduler_policy=self.runtime.scheduler_policy,
            chunked_prefill=self.runtime.chunked_prefill and bool(self._scheduling.dynamic_split_fuse),
            speculation=self.runtime.speculation,
            prefix_caching=bool(self._scheduling.enable_prefix_caching),
            queue_order=self.runtime.queue_order,
            tokens_per_block=kv_cache.TOKENS_PER_BLOCK,
            kv_blocks=self._blocks,
            kv_pool_bytes=kv_cache.allocated_bytes(self._pool_bytes(), self._kv_precision),
            details={
                "tensor_parallel": 1,
                "weight_bytes": self._weights.bytes_by_type,
                "compression": self._weights.compression,
                "device": device,
                "guesses": guess_settings(self.runtime),
                "max_num_batched_tokens": self._scheduling.max_num_batched_tokens,
                "max_position_embeddings": self._geometry.positions,
                "versions": cpu.versions(("openvino", "openvino-genai")),
            },
        )

    def close(self) -> None:
        """Drop the pipeline and the scorer."""
        self._pipeline = None
        self._scorer = None

    def _scheduler(self) -> Any:
        config = self._genai.SchedulerConfig()
        config.enable_prefix_caching = self.runtime.prefix_caching
        config.cache_size = 0
        config.num_kv_blocks = self._blocks
        config.max_num_seqs = self.spec.max_batch_size
        # GenAI's own 256 would split the prompts of a batch over steps even where they would fit in one.
        config.max_num_batched_tokens = CHUNK if self.runtime.chunked_prefill else self._whole_batch()
        # With guesses, no step may leave a running request out: GenAI (2026.4.1) would take that one's guesses, which
        # nobody has verified, for its tokens. So prompts and answers share steps then, with room for whole prompts.
        config.dynamic_split_fuse = self.runtime.chunked_prefill or self._guesses() > 0
        return config

    def _line(self) -> Line:
        """With guesses, no more requests go in than a step has room for; see ``_scheduler``."""
        line = super()._line()
        return replace(line, batch=self.spec.max_batch_size) if self._guesses() else line

    def _whole_batch(self) -> int:
        """Tokens of a step that takes the longest prompts of the largest batch, and what it guesses, all at once."""
        return self.spec.max_batch_size * (self.spec.max_input_len + self._guesses())

    def _guesses(self) -> int:
        """Tokens that are guessed ahead."""
        return guessed_tokens(self.runtime)

    def _count_blocks(self) -> int:
        """Blocks of the KV pool: what ``kv_cache_bytes`` holds, or what the largest batch needs."""
        spec, budget = self.spec, self.runtime.kv_cache_bytes
        length = spec.max_input_len + spec.max_output_len + self._guesses()
        if not budget:
            return kv_cache.blocks_needed(spec.max_batch_size, length)
        size = kv_cache.block_bytes(self._geometry, self._kv_precision)
        needed = kv_cache.blocks_needed(1, length)
        if budget // size < needed:
            raise EngineError(
                f"{spec.id}: kv_cache_bytes {budget} holds {budget // size} blocks, but one sequence of {length} "
                f"tokens needs {needed} of {size} bytes",
                f"give at least {needed * size} bytes, or lower max_input_len or max_output_len",
            )
        return budget // size

    def _pool_bytes(self) -> int:
        """Bytes of the KV pool as the pipeline counts them; 0 before its first step."""
        return int(self._pipeline.get_metrics().kv_cache_size_in_bytes)

    def _device_answer(self) -> dict[str, str]:
        """What the CPU plugin makes of the pipeline's properties.

        The pipeline gives no access to its compiled model. The scorer's is asked where there is one; else a model of
        one node, compiled with the same properties, as a second copy of the weights is too dear for a question.
        """
        compiled = self._scorer.compiled if self._scorer else self._probe()
        answer = {}
        for name in self._properties:
            value = compiled.get_property(name)
            answer[name] = value.to_string() if isinstance(value, self._openvino.Type) else str(value)
        return answer

    def _probe(self) -> Any:
        from openvino import opset13

        parameter = opset13.parameter([1], np.float32)
        model = self._openvino.Model([opset13.relu(parameter)], [parameter], "probe")
        with keep_signal_stack():
            return self._openvino.Core().compile_model(model, "CPU", self._properties)

    def _max_length(self) -> int:
        return min(self._geometry.positions, self.spec.max_input_len + self.spec.max_output_len)

    def _check_open(self) -> None:
        check_open(self.spec, self._pipeline)


def _check_runtime(spec: EngineSpec, runtime: RuntimeSpec) -> None:
    """Raise CapabilityError for what the CPU pipeline cannot be told."""
    refused = []
    if runtime.tokens_per_block not in (None, kv_cache.TOKENS_PER_BLOCK):
        refused.append(f"tokens_per_block {runtime.tokens_per_block} (it is {kv_cache.TOKENS_PER_BLOCK} on a CPU)")
    if runtime.speculation not in ("none", "ngram", "draft"):
        refused.append(f"speculation {runtime.speculation} (it has ngram and draft)")
    if refused:
        raise CapabilityError(f"{spec.id}: backend openvino has no {', '.join(refused)}", "drop it from the runtime")
