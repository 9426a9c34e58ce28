"""The steady reference on a GPU: Transformers' forward pass, captured as CUDA graphs and replayed.

Eager Transformers launches some hundred kernels a token from Python, so that its speed is the host's: on shared
virtual cores it moved by 4 to 13 % from round to round, where engines that the GPU itself holds up moved by 0.1 %
(docs/gpu.md). A replayed graph is one launch a token. It is the same model in the same precision, and shares no code
with the engines under test but torch's and the driver's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from enginegate.core.errors import CapabilityError, EngineError, edge
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Effective, MemoryUse
from enginegate.engines.hf.backend import HuggingFaceBackend, HuggingFaceEngine

#: Graphs are kept for so many shapes of a batch; capturing for another drops those that were used longest ago.
_KEPT_SHAPES = 8
#: Passes before a capture: libraries choose their kernels and allocate what they keep.
_WARMUP_PASSES = 3
#: Rotary embeddings that look at the positions' values while running, which a graph cannot.
_VARYING_ROPE = frozenset({"dynamic", "longrope"})


class GraphBackend(HuggingFaceBackend):
    """As ``hf``, replaying captured graphs. On a CPU it runs the same passes uncaptured."""

    name = "hf-graph"

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> GraphEngine:
        """Load the checkpoint; the first answer of each batch size and prompt length captures its graphs.

        Raises CapabilityError where the model's attention or positions cannot be captured.
        """
        self.check_loadable(spec, runtime)
        return GraphEngine(engine_dir, spec, runtime)


class GraphEngine(HuggingFaceEngine):
    """Answers from captured graphs; scores as the eager reference does."""

    def __init__(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        super().__init__(engine_dir, spec, runtime)
        self._plans: OrderedDict[tuple[int, int], _Plan] = OrderedDict()
        try:
            check_capturable(self._model.config.get_text_config().to_dict(), self._max_length(), spec.id)
        except CapabilityError:
            self.close()
            raise

    def _steps(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[tuple[list[int], float]]:
        """See the eager engine. Capturing, which the first answer of a shape does, is not in the times."""
        self._use_threads()
        plan = self._plan(len(prompts), max(map(len, prompts)))
        start = time.perf_counter()
        answer = plan.begin(prompts)
        for _ in range(max_tokens):
            if plan.answer != answer:
                raise EngineError(
                    f"{self.spec.id}: another answer of the same shape has begun, in the same buffers",
                    "take one stream of this engine at a time",
                )
            plan.advance()
            yield plan.tokens.squeeze(1).tolist(), time.perf_counter() - start

    def _plan(self, rows: int, longest: int) -> _Plan:
        if (rows, longest) in self._plans:
            self._plans.move_to_end((rows, longest))
            return self._plans[rows, longest]
        while len(self._plans) >= _KEPT_SHAPES:
            self._plans.popitem(last=False)[1].close()
        length = longest + self.spec.max_output_len
        problem = f"{self.spec.id}: answers to {rows} x {longest} tokens cannot be captured"
        with edge(EngineError, problem, "take backend hf or hf-static in its place"):
            plan = _Plan(self._torch, self._model, self._device, self._last_only, rows, longest, length)
        self._plans[rows, longest] = plan
        return plan

    def memory(self) -> MemoryUse:
        """As the eager engine, with the fixed caches of the shapes answered lately."""
        return replace(super().memory(), kv_cache=sum(plan.cache_bytes for plan in self._plans.values()))

    def effective(self) -> Effective:
        """As the eager engine, and how many graphs are captured: none on a CPU, or before the first answer."""
        found = super().effective()
        graphs = sum(plan.graphs for plan in self._plans.values())
        return replace(found, details={**found.details, "cuda_graphs": graphs})

    def close(self) -> None:
        """Drop the graphs and the model."""
        while self._plans:
            self._plans.popitem()[1].close()
        super().close()


def check_capturable(config: Mapping[str, Any], length: int, subject: str) -> None:
    """Raise CapabilityError for a model that a graph over one causal mask would answer differently from the eager loop.

    Args:
        config: the model's configuration, in Hugging Face's names.
        length: tokens that a sequence may have.
        subject: what the message is about.
    """
    layers = config.get("layer_types")
    window = config.get("sliding_window")
    slides = layers is None or "sliding_attention" in layers
    if slides and window is not None and window < length:
        raise CapabilityError(
            f"{subject}: attention slides over {window} tokens of up to {length}, and a graph has one mask",
            "take backend hf or hf-static in its place, or lower limits.max_input_len",
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kinds = {
        str(each.get("rope_type") or each.get("type")) for each in (rope, *rope.values()) if isinstance(each, dict)
    }
    if kinds & _VARYING_ROPE:
        raise CapabilityError(
            f"{subject}: {', '.join(kinds & _VARYING_ROPE)} rotary embeddings depend on the length while running",
            "take backend hf or hf-static in its place",
        )


class _Plan:
    """The graphs of one batch size, prompt length and cache length, and the buffers that they read and write.

    Rows of shorter prompts are padded on the left. A padded position sees itself alone, so that no row of the
    attention is empty, and is seen by no other.

    Attributes:
        tokens: what was chosen last, [rows, 1].
        answer: number of the answer under way.
        graphs: how many are captured.
    """

    def __init__(
        self, torch: Any, model: Any, device: str, last_only: dict[str, Any], rows: int, prompt: int, length: int
    ) -> None:
        self._torch = torch
        self._model = model
        self._last_only = last_only
        self.answer = self.graphs = 0
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

    def begin(self, prompts: Sequence[Sequence[int]]) -> int:
        """Take the prompts of the next answer, and give its number."""
        torch = self._torch
        longest = self._prompts.shape[1]
        padding = [longest - len(prompt) for prompt in prompts]
        padded = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        with torch.inference_mode():
            self._prompts.copy_(torch.tensor(padded))
            self._padding.copy_(torch.tensor(padding).unsqueeze(1))
            self._next.zero_()
        self._begun = False
        self.answer += 1
        return self.answer

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values."""
        return self._cache.nbytes

    def close(self) -> None:
        """Let the model go: on a CPU the passes are closures over this plan."""
        self._model = None
        self._prefill = self._decode = _gone

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
        self.graphs += 1
        replay: Callable[[], None] = graph.replay
        return replay


def _gone() -> None:
    raise EngineError("these graphs were dropped for those of another shape", "ask again")


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

    @property
    def nbytes(self) -> int:
        """Bytes of all layers."""
        return sum(place.nbytes for kept in self._layers.values() for place in kept)

    def get_seq_length(self, *_: Any) -> int:
        """Asked by some models for positions that are not given; here they always are."""
        return 0

    def _empty(self, like: Any) -> Any:
        rows, heads, _, size = like.shape
        return self._torch.zeros((rows, heads, self._length, size), dtype=like.dtype, device=like.device)
