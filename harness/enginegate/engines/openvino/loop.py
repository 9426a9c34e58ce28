"""The continuous-batching pipeline as it is stepped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from enginegate.core.specs import RuntimeSpec, SamplingParams

#: Tokens that are guessed at a time, and the longest n-gram that is looked up (GenAI's prompt lookup).
_GUESSES, _NGRAM = {"num_assistant_tokens": 3}, {"max_ngram_size": 4}


def guess_settings(runtime: RuntimeSpec) -> dict[str, int]:
    """What a request is told of guessing, by the names of ``GenerationConfig``; empty where nothing is guessed."""
    return {"none": {}, "draft": dict(_GUESSES)}.get(runtime.speculation, _GUESSES | _NGRAM)


def guessed_tokens(runtime: RuntimeSpec) -> int:
    """Tokens that are guessed ahead: each sequence has room for so many more."""
    return guess_settings(runtime).get("num_assistant_tokens", 0)


class PipelineLoop:
    """See ``enginegate.engines.serving.Loop``: ``add_request`` and ``step`` of a pipeline.

    Each step gives every running request its next token, or several where they are guessed ahead. Why a request ended
    is not asked of the pipeline, as that question takes as long as the reading: its tokens say it.

    Args:
        genai: the library.
        openvino: the library.
        pipeline: idle.
        eos: ids that end an answer.
        names: a number for each request, of which no two of a pipeline are alike.
        guesses: what a request is told of guessing ahead, as ``GenerationConfig`` names it.
    """

    def __init__(
        self,
        genai: Any,
        openvino: Any,
        pipeline: Any,
        eos: frozenset[int],
        names: Iterator[int],
        guesses: Mapping[str, int],
    ) -> None:
        self._genai = genai
        self._openvino = openvino
        self._pipeline = pipeline
        self._eos = eos
        self._names = names
        self._guesses = guesses
        self._configs: dict[SamplingParams, Any] = {}
        self._handles: dict[int, Any] = {}
        self._asked: dict[int, SamplingParams] = {}
        self._given: dict[int, int] = {}
        self._ended = 0

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int) -> int:
        """See Loop. The pipeline knows no priorities."""
        del priority
        key = next(self._names)
        tokens = self._openvino.Tensor(np.array([prompt], np.int64))
        self._handles[key] = self._pipeline.add_request(key, tokens, self._config(params))
        self._asked[key], self._given[key] = params, 0
        return key

    def advance(self) -> None:
        """See Loop."""
        self._pipeline.step()

    def fresh(self) -> Iterator[tuple[int, list[int], str]]:
        """See Loop. What the pipeline has dropped, as it found no room for it, ends by "error"."""
        self._ended = 0
        for key, handle in list(self._handles.items()):
            if handle.can_read():
                for output in handle.read().values():
                    tokens = list(output.generated_ids)
                    self._given[key] += len(tokens)
                    reason = self._reason(key, tokens)
                    if reason:
                        self._forget(key)
                    yield key, tokens, reason
        if self._handles and not self._pipeline.has_non_finished_requests():
            for key in list(self._handles):
                self._forget(key)
                yield key, [], "error"

    def in_flight(self) -> int:
        """See Loop: the pipeline counts what it began its last step with."""
        return int(self._pipeline.get_metrics().requests) - self._ended

    def cancel(self, keys: Sequence[int]) -> None:
        """See Loop."""
        for key in keys:
            if key in self._handles:
                self._handles[key].cancel()
                self._forget(key)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def _reason(self, key: int, tokens: list[int]) -> str:
        params = self._asked[key]
        if not params.ignore_eos and tokens and tokens[-1] in self._eos:
            return "stop"
        return "length" if self._given[key] >= params.max_tokens else ""

    def _forget(self, key: int) -> None:
        del self._handles[key], self._asked[key], self._given[key]
        self._ended += 1

    def _config(self, params: SamplingParams) -> Any:
        if params not in self._configs:
            config = self._genai.GenerationConfig()
            config.max_new_tokens = params.max_tokens
            config.do_sample = False
            config.ignore_eos = params.ignore_eos
            if not params.ignore_eos:
                config.stop_token_ids = set(self._eos)
            for name, count in self._guesses.items():
                setattr(config, name, count)
            self._configs[params] = config
        return self._configs[params]
