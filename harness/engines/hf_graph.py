"""The steady reference on a GPU: Transformers' forward pass, captured as CUDA graphs and replayed.

Eager Transformers launches some hundred kernels a token from Python, so that its speed is the host's: on shared
virtual cores it moved by 4 to 13 % from round to round, where engines that the GPU itself holds up moved by 0.1 %
(docs/gpu.md). A replayed graph is one launch a token. It is the same model in the same precision, and shares nothing
with the engines under test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.engines.hf import HuggingFaceBackend, HuggingFaceEngine
from harness.specs import EngineSpec, RuntimeSpec

#: Lengths of the key-value cache are multiples of this, so that answers of nearly one length share their graphs.
_LENGTH_STEP = 64
#: Passes before a capture: libraries choose their kernels and allocate what they keep.
_WARMUP_PASSES = 3


class GraphBackend(HuggingFaceBackend):
    """As ``hf``, replaying captured graphs. On a CPU it runs the same passes uncaptured."""

    name = "hf-graph"

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> GraphEngine:
        """Load the checkpoint; the first answer of each batch size and length captures its graphs."""
        self.check_loadable(spec, runtime)
        return GraphEngine(engine_dir, spec, runtime)


class GraphEngine(HuggingFaceEngine):
    """Answers from captured graphs; scores as the eager reference does."""

    def __init__(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        super().__init__(engine_dir, spec, runtime)
        self._plans: dict[tuple[int, int, int], _Plan] = {}

    def _steps(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[tuple[list[int], float]]:
        """See the eager engine. Capturing, which the first answer of a shape does, is not in the times."""
        torch = self._torch
        self._use_threads()
        longest = max(map(len, prompts))
        length = -(-(longest + max_tokens) // _LENGTH_STEP) * _LENGTH_STEP
        shape = len(prompts), longest, length
        if shape not in self._plans:
            self._plans[shape] = _Plan(torch, self._model, self._device, self._last_only, *shape)
        plan = self._plans[shape]
        start = time.perf_counter()
        plan.begin(prompts)
        for _ in range(max_tokens):
            plan.advance()
            yield plan.tokens.squeeze(1).tolist(), time.perf_counter() - start

    def close(self) -> None:
        """Drop the graphs and the model."""
        self._plans.clear()
        super().close()


class _Plan:
    """The graphs of one batch size, prompt length and cache length, and the buffers that they read and write.

    Rows of shorter prompts are padded on the left. A padded position sees itself alone, so that no row of the
    attention is empty, and is seen by no other.

    Attributes:
        tokens: what was chosen last, [rows, 1].
    """

    def __init__(
        self, torch: Any, model: Any, device: str, last_only: dict[str, Any], rows: int, prompt: int, length: int
    ) -> None:
        self._torch = torch
        self._model = model
        self._last_only = last_only
        with torch.inference_mode():
            self._prompts = torch.zeros((rows, prompt), dtype=torch.long, device=device)
            self._padding = torch.zeros((rows, 1), dtype=torch.long, device=device)
            self._next = torch.zeros(1, dtype=torch.long, device=device)
            self._columns = torch.arange(length, device=device)
            self.tokens = torch.zeros((rows, 1), dtype=torch.long, device=device)
            self._cache = _FixedCache(torch, length)
            self._prefill = self._captured(lambda: self._pass(self._prompts))
            self._decode = self._captured(lambda: self._pass(self.tokens))
        self._begun = False

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Take the prompts of the next answer."""
        torch = self._torch
        longest = self._prompts.shape[1]
        padding = [longest - len(prompt) for prompt in prompts]
        padded = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        with torch.inference_mode():
            self._prompts.copy_(torch.tensor(padded))
            self._padding.copy_(torch.tensor(padding).unsqueeze(1))
            self._next.zero_()
        self._begun = False

    def advance(self) -> None:
        """Choose the next token of every row."""
        with self._torch.inference_mode():
            (self._decode if self._begun else self._prefill)()
        self._begun = True

    def _pass(self, tokens: Any) -> None:
        """One forward pass over ``tokens``, which follow what the cache holds; leaves the choice in ``self.tokens``."""
        torch = self._torch
        positions = self._next + torch.arange(tokens.shape[1], device=tokens.device)
        itself = self._columns == positions[:, None]
        earlier = (self._columns <= positions[:, None]) & (self._columns >= self._padding[:, :, None])
        self._cache.positions = positions
        logits = self._model(
            input_ids=tokens,
            attention_mask=(earlier | itself)[:, None],
            position_ids=(positions - self._padding).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
            **self._last_only,
        ).logits
        self.tokens.copy_(logits[:, -1].argmax(-1, keepdim=True))
        self._next.add_(tokens.shape[1])

    def _captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """``work`` as a graph that replays it; itself on a CPU."""
        torch = self._torch
        if self.tokens.device.type != "cuda":
            return work
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARMUP_PASSES):
                self._next.zero_()
                work()
        torch.cuda.current_stream().wait_stream(side)
        self._next.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


class _FixedCache:
    """Keys and values of all layers at fixed addresses; what Transformers' attention asks of a cache, and no more.

    Attributes:
        positions: where the tokens of the current pass go.
    """

    is_compileable = True

    def __init__(self, torch: Any, length: int) -> None:
        self._torch = torch
        self._length = length
        self._layers: dict[int, tuple[Any, Any]] = {}
        self.positions: Any = None

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Store what a layer computed, and hand it all that it has; shapes [rows, heads, tokens, head size]."""
        if layer not in self._layers:
            self._layers[layer] = (self._empty(keys), self._empty(values))
        kept = self._layers[layer]
        for place, new in zip(kept, (keys, values), strict=True):
            place.index_copy_(2, self.positions, new)
        return kept

    def get_seq_length(self, *_: Any) -> int:
        """Asked by some models for positions that are not given; here they always are."""
        return 0

    def _empty(self, like: Any) -> Any:
        rows, heads, _, size = like.shape
        return self._torch.zeros((rows, heads, self._length, size), dtype=like.dtype, device=like.device)
