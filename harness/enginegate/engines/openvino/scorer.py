"""Log-probabilities from the stateful form of the model, whose graph gives logits (the paged pipeline gives tokens)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginegate.engines.base import Cells, Distribution
from enginegate.engines.distributions import distribute, from_numpy, joined
from enginegate.engines.openvino.signal_stack import keep_signal_stack
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.requests import score_rows

#: Float32 logits held at once: 32 Mi values, 128 MiB.
_LOGIT_BUDGET = 1 << 25
#: Rows of logits that one thread reduces at a time; small enough that they stay in its cache.
_ROWS = 8


class Scorer:
    """A second compiled copy of an engine's model, with the same properties, made when scores are first asked for.

    Its attention keeps the KV cache in the state, in the element type of ``KV_CACHE_PRECISION``, so that tokens fed one
    at a time read what a quantized cache gives back. A prompt's own pass does not: there keys and values are still at
    hand as they were computed.
    """

    def __init__(self, model_xml: Path, properties: Mapping[str, object], threads: int, token_bytes: int) -> None:
        import openvino

        with keep_signal_stack():
            self.compiled: Any = openvino.Core().compile_model(model_xml, "CPU", dict(properties))
        self._inputs = {name for port in self.compiled.inputs for name in port.names}
        shape = self.compiled.output("logits").partial_shape
        self._vocabulary = shape[2].get_length()
        self._threads = threads
        self._token_bytes = token_bytes

    def score(self, sequences: Sequence[Sequence[int]], prefill: int | None) -> list[tuple[float, ...]]:
        """See ``Engine.score``. Sequences of similar length go together, padded on the right.

        Attention is causal and every sequence starts at position 0: padding behind a sequence cannot change its scores.
        """
        with ThreadPoolExecutor(self._threads) as pool:

            def score(inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float32]:
                return self._score_batch(inputs, targets, prefill, pool)

            return score_rows(sequences, _LOGIT_BUDGET // self._vocabulary, prefill, self._token_bytes, score)

    def _score_batch(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], prefill: int | None, pool: ThreadPoolExecutor
    ) -> NDArray[np.float32]:
        """Scores [rows, time, answers] of ``targets`` after ``inputs`` [rows, time]."""
        parts = []
        for begin, end, logits in self._passes(inputs, prefill):
            parts.append(_log_softmax_at(logits, targets[:, begin:end], pool))
            beat(end / inputs.shape[1])
        return np.concatenate(parts, axis=1)

    def distributions(
        self, sequences: Sequence[Sequence[int]], cells: Cells, prefill: int | None
    ) -> list[Distribution]:
        """See ``Engine.distributions``."""
        with ThreadPoolExecutor(self._threads) as pool:
            return distribute(
                sequences,
                cells,
                _LOGIT_BUDGET // self._vocabulary,
                prefill,
                self._token_bytes,
                lambda inputs: self._passes(inputs, prefill),
                lambda logits, came, named: _distribution(logits, came, named, pool),
            )

    def _passes(self, inputs: NDArray[np.int64], prefill: int | None) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Logits of one pass, or of decode steps; each a view that the next overwrites."""
        last = inputs.shape[1]
        first = last if prefill is None else min(prefill, last)
        # A request of its own: in one that is reset, and then asked for another number of rows, OpenVINO 2026.4 now and
        # then finds values in the KV cache that are no numbers.
        request = self.compiled.create_infer_request()
        for begin, end in [(0, first), *((position, position + 1) for position in range(first, last))]:
            yield begin, end, self._logits(request, inputs[:, begin:end], begin)

    def _logits(self, request: Any, tokens: NDArray[np.int64], seen: int) -> NDArray[np.float32]:
        """Logits [rows, time, vocabulary] of tokens [rows, time] behind ``seen`` others in the state.

        A view that the next pass overwrites.
        """
        rows, time = tokens.shape
        positions = np.arange(seen, seen + time, dtype=np.int64)
        offered: dict[str, NDArray[Any]] = {
            "input_ids": np.ascontiguousarray(tokens),
            "attention_mask": np.ones((rows, seen + time), np.int64),
            "position_ids": np.broadcast_to(positions, (rows, time)).copy(),
            "beam_idx": np.arange(rows, dtype=np.int32),
        }
        request.infer({name: value for name, value in offered.items() if name in self._inputs}, share_inputs=True)
        logits: NDArray[np.float32] = request.get_tensor("logits").data
        return logits


def _distribution(
    logits: NDArray[np.float32], came: NDArray[np.int64], cells: NDArray[np.int64] | int, pool: ThreadPoolExecutor
) -> Distribution:
    """``from_numpy`` of a few rows at a time, so that they stay in a thread's cache."""
    shape, flat = came.shape, logits.reshape(-1, logits.shape[-1])
    tokens = came.reshape(-1)
    named = cells if isinstance(cells, int) else cells.reshape(len(flat), -1)

    def reduce(begin: int) -> Distribution:
        end = begin + _ROWS
        return from_numpy(flat[begin:end], tokens[begin:end], named if isinstance(named, int) else named[begin:end])

    whole = vars(joined(list(pool.map(reduce, range(0, len(flat), _ROWS))), axis=0))
    return Distribution(**{name: values.reshape(*shape, *values.shape[1:]) for name, values in whole.items()})


def _log_softmax_at(
    logits: NDArray[np.float32], targets: NDArray[np.int64], pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """Log-probability of each target in float32.

    Shapes [rows, time, vocabulary], [rows, time, answers] -> [rows, time, answers].
    """
    flat = logits.reshape(-1, logits.shape[-1])
    wanted = targets.reshape(len(flat), -1)
    values = np.empty(wanted.shape, np.float32)

    def reduce(begin: int) -> None:
        rows = flat[begin : begin + _ROWS]
        highest = rows.max(axis=1, keepdims=True)
        total = np.exp(rows - highest).sum(axis=1, keepdims=True)
        chosen = np.take_along_axis(rows, wanted[begin : begin + _ROWS], axis=1)
        values[begin : begin + _ROWS] = chosen - highest - np.log(total)

    list(pool.map(reduce, range(0, len(flat), _ROWS)))
    return values.reshape(targets.shape)
