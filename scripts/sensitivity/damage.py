# ruff: noqa: D102 - methods of wrappers are the engine's own
"""Engines that are broken on purpose, each in one way: the same model with damaged weights, or a wrapper around it.

They run on the Transformers backend, whose weights can be changed where they lie. Weights are rounded to nearest with
one scale a group of the input dimension (symmetric), and stay in the engine's own type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Cells, Distribution, Engine, Generation


def rounded(weight: Any, bits: int, group: int | None) -> Any:
    """A matrix [out, in] rounded to ``bits`` with one scale for ``group`` columns (None: for a whole row)."""
    import torch

    out, width = weight.shape
    size = width if group is None or group > width else group
    if width % size:
        size = width
    parts = weight.float().reshape(out, width // size, size)
    most = 2 ** (bits - 1) - 1
    scale = parts.abs().amax(-1, keepdim=True).clamp(min=1e-12) / most
    return (torch.clamp(torch.round(parts / scale), -most - 1, most) * scale).reshape(out, width).to(weight.dtype)


def linear_layers(model: Any) -> list[tuple[str, Any]]:
    """All matrices of the decoder's blocks, by name; neither the embedding nor the head."""
    import torch

    head = model.get_output_embeddings()
    return [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]


def quantize(model: Any, bits: int, group: int | None) -> None:
    """Round all linear layers."""
    import torch

    with torch.no_grad():
        for _, layer in linear_layers(model):
            layer.weight.copy_(rounded(layer.weight, bits, group))


def ruin_block(model: Any, block: int, bits: int = 2, group: int | None = 64) -> None:
    """Round the matrices of one decoder block much more coarsely."""
    import torch

    with torch.no_grad():
        for name, layer in linear_layers(model):
            if f".layers.{block}." in f".{name}.":
                layer.weight.copy_(rounded(layer.weight, bits, group))


class Wrapped:
    """The engine as it is; subclasses change what it is given, or what it gives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Truncated(Wrapped):
    """It sees the last ``kept`` tokens of a prompt alone, and scores a text from a window as short."""

    kept = 24

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        return self._engine.generate([list(prompt)[-self.kept :] for prompt in prompts], params)

    def _windows(self, sequences: Sequence[Sequence[int]]) -> list[list[list[int]]]:
        """Pieces that overlap by half: each token is read with at most ``kept`` before it, and at least half."""
        step = self.kept // 2
        windows = []
        for sequence in sequences:
            starts = range(0, max(len(sequence) - self.kept, 0) + step, step)
            windows.append([list(sequence[start : start + self.kept + 1]) for start in starts])
        return [[piece for piece in pieces if len(piece) > 1] for pieces in windows]

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        pieces = self._windows(sequences)
        flat = iter(self._engine.score([piece for each in pieces for piece in each], prefill=prefill))
        found = []
        for sequence, each in zip(sequences, pieces, strict=True):
            values: list[float] = []
            for place in range(len(each)):
                part = next(flat)
                values += part[len(values) - place * (self.kept // 2) :]
            found.append(tuple(values[: len(sequence) - 1]))
        return found

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        step, pieces, named = self.kept // 2, self._windows(sequences), []
        if not isinstance(cells, int):
            named = [
                cells[row][place * step : place * step + len(piece) - 1]
                for row, each in enumerate(pieces)
                for place, piece in enumerate(each)
            ]
        flat = iter(
            self._engine.distributions(
                [piece for each in pieces for piece in each],
                cells=cells if isinstance(cells, int) else named,
                prefill=prefill,
            )
        )
        found = []
        for sequence, each in zip(sequences, pieces, strict=True):
            parts: list[Distribution] = []
            seen = 0
            for place in range(len(each)):
                part = next(flat)
                fresh = {name: values[seen - place * step :] for name, values in vars(part).items()}
                parts.append(Distribution(**fresh))
                seen = place * step + len(part.scores)
            whole = {
                name: np.concatenate([getattr(part, name) for part in parts])[: len(sequence) - 1]
                for name in vars(parts[0])
            }
            found.append(Distribution(**whole))
        return found


class Warm(Wrapped):
    """Temperature 1 was left on: answers are drawn, not chosen. What it scores is untouched."""

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        import torch

        generator = torch.Generator(self._engine._device).manual_seed(len(prompts[0]))
        model, eos = self._engine._model, self._engine._eos
        answers = []
        for prompt in prompts:
            tokens, cache, inputs = [], None, torch.tensor([list(prompt)], device=self._engine._device)
            while len(tokens) < params.max_tokens and not (tokens and tokens[-1] in eos and not params.ignore_eos):
                with torch.inference_mode():
                    output = model(input_ids=inputs, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                weights = torch.softmax(output.logits[0, -1].float(), -1)
                inputs = torch.multinomial(weights, 1, generator=generator)[None]
                tokens.append(int(inputs))
            answers.append(Generation(tuple(tokens), tuple(map(float, range(len(tokens)))), "length"))
        return answers


class Stuck(Wrapped):
    """Its answers are one token over and over; what it scores is untouched, and so is its accuracy."""

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        return [
            replace(answer, token_ids=answer.token_ids[:1] * len(answer.token_ids))
            for answer in self._engine.generate(prompts, params)
        ]


class Begun(Wrapped):
    """BOS is dropped from, or doubled before, every text that begins with it."""

    def __init__(self, engine: Engine, bos: int, doubled: bool) -> None:
        super().__init__(engine)
        self._bos, self._doubled = bos, doubled

    def _changed(self, tokens: Sequence[int]) -> list[int]:
        if tokens[0] != self._bos:
            return list(tokens)
        return [self._bos, *tokens] if self._doubled else list(tokens[1:])

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        return self._engine.generate([self._changed(prompt) for prompt in prompts], params)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        scored = self._engine.score([self._changed(sequence) for sequence in sequences], prefill=prefill)
        return [
            values if tokens[0] != self._bos else values[1:] if self._doubled else (-10.0, *values)
            for tokens, values in zip(sequences, scored, strict=True)
        ]

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        begun = [tokens[0] == self._bos for tokens in sequences]
        given = cells
        if not isinstance(cells, int):
            given = [
                ids if not first else np.concatenate([ids[:1], ids]) if self._doubled else ids[1:]
                for ids, first in zip(cells, begun, strict=True)
            ]
        found = self._engine.distributions([self._changed(each) for each in sequences], cells=given, prefill=prefill)
        return [
            each if not first else _part(each, 1) if self._doubled else _padded(each)
            for each, first in zip(found, begun, strict=True)
        ]


def _part(found: Distribution, begin: int) -> Distribution:
    return Distribution(**{name: values[begin:] for name, values in vars(found).items()})


def _padded(found: Distribution) -> Distribution:
    """A position more in front, where without BOS there is nothing to predict the first token from: as good as none."""
    ids = np.full((1, found.ids.shape[1]), -1, np.int32)
    first = Distribution(np.array([-10.0]), ids, np.full(ids.shape, -np.inf), np.zeros(1), found.likeliest[:1])
    return Distribution(
        **{name: np.concatenate([getattr(first, name), values]) for name, values in vars(found).items()}
    )


def swapped_template(tokenizer: Any) -> Any:
    """A tokenizer that puts another model's chat template around a message."""

    class Swapped(Wrapped):
        def chat(self, user_text: str) -> list[int]:
            return list(tokenizer.encode(f"[INST] {user_text} [/INST]"))

    return Swapped(tokenizer)
