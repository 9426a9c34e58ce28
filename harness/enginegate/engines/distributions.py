"""From logits to distributions over cells: some tokens by name, and one cell for all others.

The mass of the others is the sum of what is not named, taken from the same exponentials as the whole, in float64. So it
is right where the named tokens hold nearly everything, and one minus their sum would be rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginegate.engines.base import Cells, Distribution
from enginegate.engines.process.heartbeat import beat, part
from enginegate.engines.requests import step_batches

#: Logits [rows, time, vocabulary], as a library gives them, of the inputs at ``begin`` to ``end``.
Passes = Iterator[tuple[int, int, Any]]
#: Logits of one pass, the token that came [rows, time], and the cells [rows, time, cells] or how many: a part.
Reduce = Callable[[Any, NDArray[np.int64], "NDArray[np.int64] | int"], Distribution]
_SMALLEST = np.finfo(np.float64).tiny


def distribute(
    sequences: Sequence[Sequence[int]],
    cells: Cells,
    positions: int,
    prefill: int | None,
    token_bytes: int,
    passes: Callable[[NDArray[np.int64]], Passes],
    reduce: Reduce,
) -> list[Distribution]:
    """Distributions of sequences, in padded batches of similar length.

    Args:
        sequences: token ids, at least two each.
        cells: see ``Engine.distributions``.
        positions: positions (rows x longest row) whose logits may be held at once.
        prefill: tokens of the first pass where the others are decode steps, which hold the logits of one each.
        token_bytes: KV cache of one token.
        passes: runs padded inputs [rows, time] and gives the logits of each pass.
        reduce: see ``Reduce``.
    """
    found: dict[int, Distribution] = {}
    lengths = [len(sequence) - 1 for sequence in sequences]
    done, total = 0, sum(lengths)
    for batch in step_batches(lengths, positions, prefill, token_bytes):
        time = max(lengths[index] for index in batch)
        inputs, targets = (np.zeros((len(batch), time), np.int64) for _ in range(2))
        named: NDArray[np.int64] | int = cells if isinstance(cells, int) else _padded([cells[index] for index in batch])
        for row, index in enumerate(batch):
            inputs[row, : lengths[index]] = sequences[index][:-1]
            targets[row, : lengths[index]] = sequences[index][1:]
        before, done = done, done + sum(lengths[index] for index in batch)
        with part(before / total, done / total):
            parts = []
            for begin, end, logits in passes(inputs):
                wanted = named if isinstance(named, int) else named[:, begin:end]
                parts.append(reduce(logits, targets[:, begin:end], wanted))
                beat(end / time)
        whole = vars(joined(parts, axis=1))
        for row, index in enumerate(batch):
            found[index] = Distribution(**{name: values[row, : lengths[index]] for name, values in whole.items()})
    return [found[index] for index in range(len(sequences))]


def joined(parts: Sequence[Distribution], axis: int) -> Distribution:
    """Parts of one distribution, one behind the other along an axis that all fields have."""
    names = vars(parts[0])
    return Distribution(**{name: np.concatenate([getattr(each, name) for each in parts], axis) for name in names})


def _padded(ids: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """Cells of several sequences as one array [rows, time, cells], padded with -1."""
    shape = len(ids), max(len(each) for each in ids), max(each.shape[1] for each in ids)
    padded = np.full(shape, -1, np.int64)
    for row, each in enumerate(ids):
        padded[row, : each.shape[0], : each.shape[1]] = each
    return padded


def from_numpy(logits: NDArray[np.float32], came: NDArray[np.int64], cells: NDArray[np.int64] | int) -> Distribution:
    """One pass's part of a distribution: [rows, time, vocabulary] logits to fields [rows, time, ...]."""
    likeliest = logits.argmax(-1)
    highest = np.take_along_axis(logits, likeliest[..., None], -1)
    weights = np.exp(logits - highest)
    total = weights.sum(-1, dtype=np.float64)
    if isinstance(cells, int):
        count = min(cells, logits.shape[-1])
        ids = np.argpartition(logits, -count, -1)[..., -count:] if count < logits.shape[-1] else _all(logits.shape)
    else:
        ids = cells
    return _assembled(
        np.take_along_axis(logits - highest, came[..., None], -1)[..., 0],
        ids,
        np.take_along_axis(logits, np.maximum(ids, 0), -1) - highest,
        np.take_along_axis(weights, np.maximum(ids, 0), -1),
        total,
        likeliest,
    )


def _all(shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.broadcast_to(np.arange(shape[-1]), shape)


def from_torch(torch: Any, logits: Any, came: NDArray[np.int64], cells: NDArray[np.int64] | int) -> Distribution:
    """The same of a torch tensor, where it lies."""
    logits = logits.float()
    highest, likeliest = logits.max(-1)
    weights = torch.exp(logits - highest[..., None])
    total = weights.sum(-1, dtype=torch.float64)
    if isinstance(cells, int):
        ids = logits.topk(min(cells, logits.shape[-1]), -1, sorted=False).indices
    else:
        ids = torch.from_numpy(np.ascontiguousarray(cells)).to(logits.device)
    came_here = torch.from_numpy(np.ascontiguousarray(came)).to(logits.device)
    fields = (
        logits.gather(-1, came_here[..., None])[..., 0] - highest,
        ids,
        logits.gather(-1, ids.clamp(min=0)) - highest[..., None],
        weights.gather(-1, ids.clamp(min=0)),
        total,
        likeliest,
    )
    return _assembled(*(field.cpu().numpy() for field in fields))


def _assembled(
    came: NDArray[Any],
    ids: NDArray[Any],
    named: NDArray[Any],
    weights: NDArray[Any],
    total: NDArray[np.float64],
    likeliest: NDArray[Any],
) -> Distribution:
    """Log-probabilities from logits less the highest, their exponentials, and the sum of all exponentials."""
    used = ids >= 0
    whole = np.log(total)
    left = total - (weights * used).sum(-1, dtype=np.float64)
    # Named tokens alone may make up the sum but for its rounding: then nothing is left.
    rest = np.where(left > total * 1e-15, np.log(np.maximum(left, _SMALLEST)) - whole, -np.inf)
    return Distribution(
        scores=came.astype(np.float64) - whole,
        ids=ids.astype(np.int32),
        values=np.where(used, named.astype(np.float64) - whole[..., None], -np.inf),
        rest=rest,
        likeliest=likeliest.astype(np.int32),
    )
