"""The second reference: Transformers with a compiled static cache, which is what its own documentation calls fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Generation
from enginegate.engines.hf.backend import HuggingFaceBackend, HuggingFaceEngine
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import check_prompts


class StaticCacheBackend(HuggingFaceBackend):
    """As ``hf``, with ``cache_implementation="static"``: Transformers compiles the decoding step by itself."""

    name = "hf-static"

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> StaticCacheEngine:
        """Load the checkpoint; the first answer of each batch size compiles, which takes tens of seconds."""
        self.check_loadable(spec, runtime)
        return StaticCacheEngine(engine_dir, spec, runtime)


class StaticCacheEngine(HuggingFaceEngine):
    """Answers through ``generate`` of Transformers; streams and scores as the eager reference does."""

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Greedy decoding of the batch. The times are those at which Transformers hands a streamer the tokens."""
        self._check_open()
        check_prompts(self.spec, prompts, params, self._vocabulary)
        torch = self._torch
        eos = frozenset() if params.ignore_eos else self._eos
        longest = max(map(len, prompts))
        rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        clock = _Clock()
        with torch.inference_mode():
            answer = self._model.generate(
                input_ids=torch.tensor(rows, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                max_new_tokens=params.max_tokens,
                do_sample=False,
                eos_token_id=sorted(eos) or None,
                pad_token_id=0,
                cache_implementation="static",
                streamer=clock,
            )
        produced = answer[:, longest:].tolist()
        generations = []
        for row in produced:
            end = next((index for index, token in enumerate(row) if token in eos), len(row) - 1)
            ids = row[: end + 1]
            generations.append(
                Generation(tuple(ids), tuple(clock.times[: len(ids)]), "stop" if ids[-1] in eos else "length")
            )
        return generations


class _Clock:
    """Transformers' streamer protocol: notes when each step's tokens are at hand; the prompt comes first."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._prompt_seen = False
        self.times: list[float] = []

    def put(self, _tokens: Any) -> None:
        """Called with the prompt, and then with one token for each row, on the CPU."""
        if self._prompt_seen:
            self.times.append(time.perf_counter() - self._start)
            beat()
        self._prompt_seen = True

    def end(self) -> None:
        """Called once the answer is complete."""
