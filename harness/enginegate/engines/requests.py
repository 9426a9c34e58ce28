"""What an engine is asked: the checks by which all backends refuse the same things, and the batches they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import EngineError, ModelError
from enginegate.core.specs import EngineSpec, SamplingParams
from enginegate.engines.process.heartbeat import beat, part
from enginegate.models.vocabulary import declared_ends

Running = TypeVar("Running")


def check_open(spec: EngineSpec, running: Running | None) -> Running:
    """What runs the engine. Raises EngineError where that is gone, as the engine was closed."""
    if running is None:
        raise EngineError(f"{spec.id}: the engine is closed", "load it again")
    return running


def check_prompts(spec: EngineSpec, prompts: Sequence[Sequence[int]], params: SamplingParams, vocabulary: int) -> None:
    """Raise EngineError unless the engine was built for this batch, these lengths, this output and these tokens.

    ``vocabulary``: rows of the engine's embedding; see ``vocabulary_size``.
    """
    if not prompts:
        raise EngineError(f"{spec.id}: the batch is empty", "pass at least one prompt")
    if len(prompts) > spec.max_batch_size:
        raise EngineError(
            f"{spec.id}: a batch of {len(prompts)} prompts, but the engine is made for {spec.max_batch_size}",
            "raise max_batch_size in the config, or pass fewer prompts at once",
        )
    if not 1 <= params.max_tokens <= spec.max_output_len:
        raise EngineError(
            f"{spec.id}: asked for {params.max_tokens} tokens, but the engine produces 1 to {spec.max_output_len}",
            "change max_tokens, or max_output_len in the config",
        )
    for position, prompt in enumerate(prompts):
        if not prompt:
            raise EngineError(f"{spec.id}: prompt {position} is empty", "pass at least one token")
        if len(prompt) > spec.max_input_len:
            raise EngineError(
                f"{spec.id}: prompt {position} has {len(prompt)} tokens, but the engine takes {spec.max_input_len}",
                "shorten the prompt, or raise max_input_len in the config",
            )
        _check_tokens(spec, f"prompt {position}", prompt, vocabulary)


def check_sequences(
    spec: EngineSpec, sequences: Sequence[Sequence[int]], prefill: int | None, max_length: int, vocabulary: int
) -> None:
    """Raise EngineError unless every sequence can be scored.

    It has 2 to ``max_length`` tokens with ids below ``vocabulary``, and ``prefill`` is at least 1.
    """
    if prefill is not None and prefill < 1:
        raise EngineError(f"{spec.id}: prefill={prefill}, but at least one token opens a sequence", "pass 1 or more")
    for position, sequence in enumerate(sequences):
        if not 2 <= len(sequence) <= max_length:
            raise EngineError(
                f"{spec.id}: sequence {position} has {len(sequence)} tokens, but 2 to {max_length} can be scored",
                "shorten the sequence, or raise max_input_len in the config",
            )
        _check_tokens(spec, f"sequence {position}", sequence, vocabulary)


def _check_tokens(spec: EngineSpec, name: str, tokens: Sequence[int], vocabulary: int) -> None:
    """Raise EngineError for ids without a row in the embedding: one library raises, another reads zeros."""
    if not tokens or (min(tokens) >= 0 and max(tokens) < vocabulary):
        return
    wrong = [token for token in tokens if not 0 <= token < vocabulary]
    raise EngineError(
        f"{spec.id}: {name} has token id {wrong[0]}, but the model's embedding knows 0 to {vocabulary - 1} "
        f"({len(wrong)} of {len(tokens)} ids are outside)",
        "take the tokenizer that the model was trained with",
    )


def eos_token_ids(checkpoint: Path) -> frozenset[int]:
    """End-of-sequence ids of the checkpoint's or engine's generation_config.json, else of its config.json.

    May be empty. Raises EngineError where a file cannot be read, or names something else than ids.
    """
    try:
        return frozenset(declared_ends(checkpoint))
    except ModelError as error:
        raise EngineError(error.problem, error.hint) from error


#: Rows that go through decode steps together while they are scored, and the KV cache that they may take.
STEPPED_ROWS = 32
STEPPED_CACHE = 1 << 30


def shared_rows(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Group sequences that one row of a forward pass scores: all whose input is the beginning of the longest's.

    A sequence's input is all of it but its last token. Attention is causal, so what a row computes at a position does
    not depend on what follows; the four choices of a question often have one input.

    Returns:
        Groups of indices into ``sequences``, in no particular order; the first of each has the longest input.
    """
    groups: list[list[int]] = []
    longest: Sequence[int] = ()
    # In this order the inputs that begin with an input come right behind it; so from the back, longest first.
    for index in sorted(range(len(sequences)), key=lambda index: (tuple(sequences[index][:-1]), index), reverse=True):
        inputs = sequences[index][:-1]
        if groups and list(longest[: len(inputs)]) == list(inputs):
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = inputs
    return groups


def pad_rows(
    sequences: Sequence[Sequence[int]] | Mapping[int, Sequence[int]], groups: Sequence[Sequence[int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The groups of ``shared_rows`` as arrays padded with 0 on the right.

    Returns:
        Inputs [rows, time] and targets [rows, time, the most sequences that a group has].
    """
    time, most = max(len(sequences[group[0]]) for group in groups) - 1, max(map(len, groups))
    inputs = np.zeros((len(groups), time), np.int64)
    targets = np.zeros((len(groups), time, most), np.int64)
    for row, group in enumerate(groups):
        inputs[row, : len(sequences[group[0]]) - 1] = sequences[group[0]][:-1]
        for column, index in enumerate(group):
            targets[row, : len(sequences[index]) - 1, column] = sequences[index][1:]
    return inputs, targets


@dataclass(frozen=True)
class Stem:
    """Rows whose inputs begin with the same tokens, which one row of a forward pass reads for all of them.

    Attributes:
        length: how many tokens those are; 0 where there is one row alone.
        rows: places in what ``shared_rows`` gave.
    """

    length: int
    rows: tuple[int, ...]


def shared_stems(sequences: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[Stem]:
    """Group the rows of ``shared_rows`` so that what they begin with is read once, where that is less to read.

    The last token that rows have in common is left to each of them: what it predicts is where they part. Rows come in
    the order of their tokens; n rows that share s tokens take in one that shares t of these where that saves more,
    t, than it costs the others, n * (s - t).
    """
    stems: list[Stem] = []
    inputs = [list(sequences[group[0]][:-1]) for group in groups]
    # All sequences of a row agree up to their last tokens, the shortest one's first of all.
    most = [min(len(sequences[index]) for index in group) - 2 for group in groups]
    for row, tokens in enumerate(inputs):
        if stems:
            last = stems[-1]
            common = _common(inputs[last.rows[-1]], tokens) - 1
            length = min(common, most[row], last.length or most[last.rows[0]])
            lost = len(last.rows) * (last.length - length) if last.length else 0
            if length >= max(_LEAST_STEM, _LEAST_SHARE * len(tokens)) and length > lost:
                stems[-1] = Stem(length, (*last.rows, row))
                continue
        stems.append(Stem(0, (row,)))
    return stems


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))


#: A stem of fewer tokens, or of a smaller share of a row, is not worth a pass of its own.
_LEAST_STEM, _LEAST_SHARE = 8, 1 / 3
#: Inputs [rows, time] and targets [rows, time, answers] to log-probabilities of the targets.
Score = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
#: The same in two passes: inputs and targets of stems, then for each row its stem's place, its inputs and targets.
Branch = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    tuple[NDArray[np.float32], NDArray[np.float32]],
]


def score_rows(
    sequences: Sequence[Sequence[int]],
    positions: int,
    prefill: int | None,
    token_bytes: int,
    score: Score,
    branch: Branch | None = None,
) -> list[tuple[float, ...]]:
    """Score sequences in padded batches of rows that share what they can.

    Args:
        sequences: token ids, at least two each.
        positions: positions (rows x longest row) whose logits may be held at once.
        prefill: tokens of the first pass where the others are decode steps, which hold the logits of one each.
        token_bytes: KV cache of one token.
        score: see ``Score``.
        branch: see ``Branch``; None where an engine cannot go on from one cache with several rows, or would round
            otherwise then. Used where there is no ``prefill``.

    Returns:
        The log-probabilities, [tokens - 1] a sequence.
    """
    if not sequences:
        return []
    scores: list[tuple[float, ...]] = [()] * len(sequences)
    groups = shared_rows(sequences)
    stems = shared_stems(sequences, groups) if branch is not None and prefill is None else []
    shared = [stem for stem in stems if stem.length]
    done, total = 0, sum(len(sequences[group[0]]) - 1 for group in groups)

    def told(rows: Sequence[int]) -> AbstractContextManager[None]:
        nonlocal done
        before, done = done, done + sum(len(sequences[groups[row][0]]) - 1 for row in rows)
        return part(before / total, done / total)

    def keep(row: int, values: NDArray[np.float32], begin: int = 0, stem: Sequence[float] = ()) -> None:
        for column, index in enumerate(groups[row]):
            scores[index] = (*stem, *values[: len(sequences[index]) - 1 - begin, column].tolist())

    for batch in _stem_batches(shared, sequences, groups, positions, token_bytes):
        assert branch is not None
        begin, rows = batch[0].length, [row for stem in batch for row in stem.rows]
        heads = [sequences[groups[stem.rows[0]][0]][: begin + 1] for stem in batch]
        owners = np.array([place for place, stem in enumerate(batch) for _ in stem.rows], np.int64)
        with told(rows):
            stem_inputs, stem_targets = pad_rows(heads, [[place] for place in range(len(heads))])
            tails = {index: sequences[index][begin:] for row in rows for index in groups[row]}
            inputs, targets = pad_rows(tails, [groups[row] for row in rows])
            stem_values, values = branch(stem_inputs, stem_targets, owners, inputs, targets)
            beat(1.0)
        for place, row in enumerate(rows):
            keep(row, values[place], begin, stem_values[owners[place], :, 0].tolist())
    apart = {row for stem in shared for row in stem.rows}
    left = [row for row in range(len(groups)) if row not in apart]
    for batch_rows in step_batches(
        [len(sequences[groups[row][0]]) - 1 for row in left], positions, prefill, token_bytes
    ):
        picked = [left[place] for place in batch_rows]
        with told(picked):
            values = score(*pad_rows(sequences, [groups[row] for row in picked]))
            beat(1.0)
        for place, row in enumerate(picked):
            keep(row, values[place])
    return scores


def _stem_batches(
    stems: Sequence[Stem],
    sequences: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    positions: int,
    token_bytes: int,
) -> list[list[Stem]]:
    """Stems of one length that go together: their branches need no mask then. Bounded by logits and by KV cache."""

    def longest(stem: Stem) -> int:
        return max(len(sequences[groups[row][0]]) - 1 for row in stem.rows)

    batches: list[list[Stem]] = []
    for stem in sorted(stems, key=lambda stem: (stem.length, longest(stem)), reverse=True):
        if batches and batches[-1][0].length == stem.length:
            rows = sum(len(each.rows) for each in batches[-1]) + len(stem.rows)
            time = max(map(longest, [*batches[-1], stem]))
            logits = max(rows * (time - stem.length), (len(batches[-1]) + 1) * stem.length)
            if logits <= positions and rows * time * token_bytes <= STEPPED_CACHE:
                batches[-1].append(stem)
                continue
        batches.append([stem])
    return batches


def step_batches(lengths: Sequence[int], positions: int, prefill: int | None, token_bytes: int) -> list[list[int]]:
    """Batches of sequences that are scored together; see ``score_rows`` for the arguments."""
    if prefill is None:
        return length_batches(lengths, positions, len(lengths))
    rows = max(1, min(STEPPED_ROWS, positions // prefill))
    return length_batches(lengths, STEPPED_CACHE // token_bytes, rows)


def length_batches(lengths: Sequence[int], budget: int, largest: int) -> list[list[int]]:
    """Group items of similar length into padded batches.

    Args:
        lengths: tokens of each item.
        budget: positions (rows x longest row) that a batch may have; an item longer than that is alone.
        largest: rows that a batch may have.

    Returns:
        Batches of indices into ``lengths``, longest items first, so that the largest allocation comes first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        # The batch's first item is its longest, as the items come longest first.
        if batches and len(batches[-1]) < largest and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
