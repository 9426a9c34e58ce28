"""What a loaded engine of either backend does: generate, stream, score, report memory.

All requests go through ``generate_async``. A batch is submitted at once and read in one event loop, so that every
chunk of tokens has the time of its own arrival; how many tokens a chunk holds (speculation delivers several) is read
from the result's full list of tokens, never assumed.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import (
    Arrival,
    Cells,
    Distribution,
    Generation,
    MemoryUse,
    ServingEvent,
    TokenEvent,
)
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.distributions import from_numpy, joined
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import check_open, check_prompts, check_sequences
from enginegate.engines.serving import check_arrivals
from enginegate.engines.trtllm.checkpoint import kv_bytes_per_token
from enginegate.engines.trtllm.contract import Api
from enginegate.engines.trtllm.scoring import check_oracle, gather_log_softmax, logit_matrix, waves
from enginegate.engines.trtllm.serving import served
from enginegate.engines.trtllm.timing import Timing

Result = TypeVar("Result")


class TensorRtEngine(ABC):
    """See ``enginegate.engines.base.Engine``. A subclass sets up ``_llm`` and says what it effectively is."""

    def __init__(
        self,
        api: Api,
        llm: Any,
        spec: EngineSpec,
        runtime: RuntimeSpec,
        *,
        eos: frozenset[int],
        shape: Geometry,
        vocabulary: int,
        weights: int,
        pool_tokens: int,
    ) -> None:
        self.spec = spec
        self.runtime = runtime
        self._api = api
        self._llm: Any = llm
        self._eos = eos
        self._shape = shape
        self._vocabulary = vocabulary
        self._weights = weights
        self._pool_tokens = pool_tokens
        self._timing = Timing()
        self._pool: dict[str, int] = {}
        self._oracle_passed = False

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Greedy decoding of the batch, all requests submitted together; times are those of each chunk's arrival."""
        self._check_open()
        check_prompts(self.spec, prompts, params, self._vocabulary)
        wanted = self._sampling(params)
        return _run(self._generate_all([list(prompt) for prompt in prompts], wanted, params))

    async def _generate_all(self, prompts: list[list[int]], wanted: Any, params: SamplingParams) -> list[Generation]:
        start = time.perf_counter()
        requests = [self._submit(prompt, wanted, streaming=True) for prompt in prompts]
        try:
            return list(await asyncio.gather(*(self._collect(request, start, params) for request in requests)))
        finally:
            for request in requests:
                if not request.finished:
                    request.abort()

    async def _collect(self, request: Any, start: float, params: SamplingParams) -> Generation:
        times: list[float] = []
        async for step in request:
            elapsed = time.perf_counter() - start
            times += [elapsed] * (len(step.outputs[0].token_ids) - len(times))
            beat()
        return self._finish(request, times, params)

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """One prompt, token by token as chunks arrive. An iterator that is dropped half-way aborts its request."""
        self._check_open()
        check_prompts(self.spec, [prompt], params, self._vocabulary)
        return self._stream(list(prompt), params)

    def _stream(self, prompt: list[int], params: SamplingParams) -> Iterator[TokenEvent]:
        start = time.perf_counter()
        request = self._submit(prompt, self._sampling(params), streaming=True)
        times: list[float] = []
        try:
            for step in request:
                elapsed = time.perf_counter() - start
                tokens = list(step.outputs[0].token_ids)
                for token in tokens[len(times) :]:
                    times.append(elapsed)
                    yield TokenEvent(token, elapsed)
            known = len(times)
            generation = self._finish(request, times, params)
            for token, elapsed in zip(generation.token_ids[known:], generation.token_times[known:], strict=True):
                yield TokenEvent(token, elapsed)
        finally:
            if not request.finished:
                request.abort()

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        """See ``enginegate.engines.base.ServingEngine``; the events come when all requests are answered.

        Priorities are not handed on, and the runtime's own count of requests is not known.
        """
        self._check_open()
        check_arrivals(self.spec, arrivals, self._vocabulary)
        return self._served(arrivals)

    def _served(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        def submit(prompt: list[int], params: SamplingParams) -> Any:
            return self._submit(prompt, self._sampling(params), streaming=True)

        yield from _run(served(arrivals, submit, self._finish))

    def _sampling(self, params: SamplingParams, **more: object) -> Any:
        """Greedy sampling. The end token is always named, since no tokenizer is loaded; -1 is none."""
        end, *others = sorted(self._eos) or [-1]
        return self._api.make(
            "SamplingParams",
            max_tokens=params.max_tokens,
            end_id=end,
            ignore_eos=params.ignore_eos,
            stop_token_ids=others if others and not params.ignore_eos else None,
            include_stop_str_in_output=True,
            detokenize=False,
            top_k=1,
            return_perf_metrics=True,
            **more,
        )

    def _submit(self, tokens: list[int], wanted: Any, *, streaming: bool) -> Any:
        try:
            return self._llm.generate_async(tokens, sampling_params=wanted, streaming=streaming)
        except (ValueError, RuntimeError) as error:  # RequestError is one or the other by version
            raise EngineError(
                f"{self.spec.id}: TensorRT-LLM refused a request of {len(tokens)} tokens: {error}",
                "raise max_input_len or max_output_len in the config and rebuild, or shorten the prompt",
            ) from error

    def _finish(self, request: Any, times: list[float], params: SamplingParams) -> Generation:
        """The answer, its end token put back where the runtime withholds it (the engine backend's sampler does)."""
        output = request.outputs[0]
        reason = output.finish_reason
        if reason not in ("stop", "length"):
            raise EngineError(
                f"{self.spec.id}: a request ended with {reason!r}", "see TensorRT-LLM's log; rebuild with less memory"
            )
        tokens = list(output.token_ids)
        if reason == "stop" and (not tokens or tokens[-1] not in self._eos):
            ended_by = output.stop_reason
            tokens.append(ended_by if isinstance(ended_by, int) else min(self._eos))
        times = times + [times[-1] if times else 0.0] * (len(tokens) - len(times))
        if params.ignore_eos and len(tokens) != params.max_tokens:
            raise EngineError(
                f"{self.spec.id}: {len(tokens)} tokens came, asked were {params.max_tokens}",
                "give the engine a larger kv_cache_bytes, and see TensorRT-LLM's log",
            )
        self._timing.note(output, times[0])
        return Generation(tuple(tokens), tuple(times), reason)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probabilities in float32 from the runtime's logits.

        With ``prefill``, each later token is scored from the first-token logits of a request of its own, whose prompt
        is everything before it: no call of TensorRT-LLM feeds given tokens through decode steps. Prefix reuse is off,
        so nothing is skipped. The KV cache's precision takes part where the context kernels read the paged cache.
        """
        scores: list[list[float]] = [[0.0] * (len(sequence) - 1) for sequence in sequences]
        for index, begin, logits in self._scored(sequences, prefill):
            came = sequences[index][begin + 1 : begin + 1 + len(logits)]
            scores[index][begin : begin + len(logits)] = gather_log_softmax(logits, came)
        return [tuple(row) for row in scores]

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine: from the logits that ``score`` reads."""
        parts: list[dict[int, Distribution]] = [{} for _ in sequences]
        for index, begin, logits in self._scored(sequences, prefill):
            came = np.array(sequences[index][begin + 1 : begin + 1 + len(logits)], np.int64)
            named = cells if isinstance(cells, int) else cells[index][begin : begin + len(logits)].astype(np.int64)
            parts[index][begin] = from_numpy(logits, came, named)
        return [joined([found[begin] for begin in sorted(found)], axis=0) for found in parts]

    def _scored(
        self, sequences: Sequence[Sequence[int]], prefill: int | None
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Index of a sequence, a position in it, and the logits of the tokens after that position and the next ones."""
        self._check_open()
        check_sequences(self.spec, sequences, prefill, self._max_length(), self._vocabulary)
        self._check_sanity()
        rows = [list(sequence) for sequence in sequences]
        heads = [len(row) - 1 if prefill is None else min(prefill, len(row) - 1) for row in rows]
        jobs: list[tuple[int, int]] = [(index, head) for index, head in enumerate(heads)]
        for wave in waves([head for _, head in jobs], self._vocabulary, self.spec.max_batch_size):
            picked = [jobs[number] for number in wave]
            for (index, head), request in zip(picked, self._logits(rows, picked, context=True), strict=True):
                yield index, 0, self._context_logits(request, head)
        steps = [(index, end) for index, row in enumerate(rows) for end in range(heads[index] + 1, len(row))]
        for begin in range(0, len(steps), self.spec.max_batch_size):
            picked = steps[begin : begin + self.spec.max_batch_size]
            for (index, end), request in zip(picked, self._logits(rows, picked, context=False), strict=True):
                yield index, end - 1, logit_matrix(request.outputs[0].generation_logits)[:1]

    def _logits(self, rows: list[list[int]], picked: Sequence[tuple[int, int]], *, context: bool) -> list[Any]:
        """Finished requests of one token each, for the first ``end`` tokens of each picked row."""
        flag = "return_context_logits" if context else "return_generation_logits"
        wanted = self._sampling(SamplingParams(1), **{flag: True})
        requests = [self._submit(rows[index][:end], wanted, streaming=False) for index, end in picked]
        finished = []
        for request in requests:
            finished.append(request.result())
            beat()
        return finished

    def _context_logits(self, request: Any, tokens: int) -> Any:
        logits = request.context_logits
        if logits is None:
            raise EngineError(
                f"{self.spec.id}: TensorRT-LLM returned no context logits, so nothing can be scored",
                "rebuild the engine; it must be built with gather_context_logits",
            )
        matrix = logit_matrix(logits)
        if len(matrix) != tokens:
            raise EngineError(
                f"{self.spec.id}: {len(matrix)} rows of context logits came for {tokens} tokens",
                "report it with the version of TensorRT-LLM; reused blocks skip rows, and reuse should be off",
            )
        return matrix

    def _check_sanity(self) -> None:
        """Once an engine: the logits must be finite, vary, and favour the token that greedy decoding takes."""
        if self._oracle_passed:
            return
        prompt = [token % self._vocabulary for token in (5, 11, 7, 23, 3)][: max(2, min(5, self._max_length() - 1))]
        (request,) = self._logits([prompt], [(0, len(prompt))], context=True)
        check_oracle(self.spec.id, self._context_logits(request, len(prompt)), request.outputs[0].token_ids)
        self._oracle_passed = True

    def memory(self) -> MemoryUse:
        """Bytes of the weights on disk, the KV pool as asked, and as the runtime's iteration statistics tell it.

        The runtime allocates its pool at once, so what it may grow to is what it has.
        """
        self._check_open()
        self._read_stats()
        per_token = kv_bytes_per_token(self._shape, self._kv_precision())
        pool = self._pool["most"] * per_token if self._pool else None
        return MemoryUse(
            weights=self._weights,
            kv_cache=pool,
            kv_budget=pool,
            kv_cache_predicted=self._pool_tokens * per_token,
        )

    def _pool_told(self) -> tuple[int | None, int | None]:
        """Blocks of the KV pool and their bytes, by the runtime's statistics; None each where they are not known.

        They come with the first answer. Where a size was asked for, a runtime that has given none is made to.
        """
        if not self._pool and self.runtime.kv_cache_bytes:
            self.generate([[0]], SamplingParams(1))
            self._timing = Timing()
            self._read_stats()
        if not self._pool:
            return None, None
        tokens = self._pool["most"]
        per_token = kv_bytes_per_token(self._shape, self._kv_precision())
        return tokens // self._pool["tokens_per_block"], tokens * per_token

    def _read_stats(self) -> None:
        """Take what statistics there are; reading drains them, so the last pool seen is kept. Items may be strings."""
        for item in self._llm.get_stats():
            stats = json.loads(item) if isinstance(item, str) else item
            pool = stats.get("kvCacheStats")
            if pool:
                size = pool["tokensPerBlock"]
                self._pool = {
                    "used": pool["usedNumBlocks"] * size,
                    "most": pool["maxNumBlocks"] * size,
                    "tokens_per_block": size,
                }

    def close(self) -> None:
        """Shut the runtime and its worker processes down; a second call does nothing."""
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    def _max_length(self) -> int:
        return min(self._shape.positions, self.spec.max_input_len + self.spec.max_output_len)

    @abstractmethod
    def _kv_precision(self) -> str:
        """The KV cache's element type, as loaded."""

    def _check_open(self) -> None:
        check_open(self.spec, self._llm)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, from inside a running event loop (a notebook's) as well."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
