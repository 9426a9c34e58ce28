"""vLLM's engine as it is stepped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from enginegate.core.specs import SamplingParams


class CoreLoop:
    """See ``enginegate.engines.serving.Loop``: ``add_request`` and ``step`` of vLLM's own engine.

    What the engine core hands out at each step is noted on the way, so that every token has its time without asking
    vLLM to make an output object for each.
    """

    def __init__(self, vllm: Any, llm: Any) -> None:
        self._vllm = vllm
        self._engine = llm.llm_engine
        self._next = 0
        self._outputs: list[Any] = []
        self._asked = self._found = 0
        self._sampling: dict[tuple[SamplingParams, frozenset[int]], Any] = {}
        #: Ids that end an answer.
        self.eos: frozenset[int] = frozenset()
        client = self._engine.engine_core
        get_output = client.get_output

        def noted() -> Any:
            outputs = get_output()
            self._outputs.extend(outputs.outputs)
            for output in outputs.outputs:
                if (stats := getattr(output, "prefill_stats", None)) is not None:
                    self._asked += int(stats.num_prompt_tokens)
                    self._found += int(stats.num_cached_tokens)
            return outputs

        client.get_output = noted

    def add(self, prompt: Sequence[int], params: SamplingParams, priority: int = 0) -> str:
        """See Loop."""
        return self.request(prompt, self._params(params), priority)

    def request(self, prompt: Sequence[int], sampling: Any, priority: int = 0) -> str:
        """Add a request with vLLM's own parameters; gives the name that the engine core calls it by."""
        name = str(self._next)
        self._next += 1
        given = {"priority": priority} if priority else {}
        return str(self._engine.add_request(name, {"prompt_token_ids": list(prompt)}, sampling, **given))

    def advance(self) -> None:
        """See Loop."""
        self._engine.step()

    def fresh(self) -> Iterator[tuple[str, list[int], str]]:
        """See Loop. A step that was under way when a request was given up still hands out that one's token."""
        for output in self.taken():
            reason = str(output.finish_reason) if output.finish_reason is not None else ""
            yield output.request_id, list(output.new_token_ids), "error" if reason not in _REASONS else reason

    def in_flight(self) -> int:
        """See Loop."""
        return int(self._engine.get_num_unfinished_requests())

    def prefix_cache(self) -> dict[str, int]:
        """Prompt tokens so far, and how many of them the prefix cache had; empty where vLLM does not tell."""
        return {"prompt_tokens": self._asked, "found": self._found} if self._asked else {}

    def busy(self) -> bool:
        """Whether a request is left."""
        return bool(self._engine.has_unfinished_requests())

    def cancel(self, keys: Sequence[str]) -> None:
        """See Loop: what it still produced is forgotten."""
        if self.busy():
            self._engine.abort_request(list(keys), internal=True)
            while self.busy():
                self._engine.step()
        self.taken()

    def taken(self) -> list[Any]:
        """What the engine core has handed out since the last call."""
        outputs = self._outputs[:]
        self._outputs.clear()
        return outputs

    def _params(self, params: SamplingParams) -> Any:
        key = params, self.eos
        if key not in self._sampling:
            self._sampling[key] = self._vllm.SamplingParams(
                temperature=0.0,
                max_tokens=params.max_tokens,
                ignore_eos=True,  # without a tokenizer vLLM knows no end; the stop tokens are given instead
                stop_token_ids=None if params.ignore_eos else sorted(self.eos),
                detokenize=False,
                output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
            )
        return self._sampling[key]


_REASONS = ("", "length", "stop")
