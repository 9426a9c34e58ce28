"""What an engine is asked: the checks by which all backends refuse the same things, and the batches they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    sequences: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]
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


def score_rows(
    sequences: Sequence[Sequence[int]],
    positions: int,
    prefill: int | None,
    token_bytes: int,
    score: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
) -> list[tuple[float, ...]]:
    """Score sequences in padded batches of rows that share what they can.

    Args:
        sequences: token ids, at least two each.
        positions: positions (rows x longest row) whose logits may be held at once.
        prefill: tokens of the first pass where the others are decode steps, which hold the logits of one each.
        token_bytes: KV cache of one token.
        score: inputs [rows, time] and targets [rows, time, answers] to log-probabilities of the targets.

    Returns:
        The log-probabilities, [tokens - 1] a sequence.
    """
    if not sequences:
        return []
    scores: list[tuple[float, ...]] = [()] * len(sequences)
    groups = shared_rows(sequences)
    lengths = [len(sequences[group[0]]) - 1 for group in groups]
    done, total = 0, sum(lengths)
    for batch in step_batches(lengths, positions, prefill, token_bytes):
        picked = [groups[index] for index in batch]
        before, done = done, done + sum(lengths[index] for index in batch)
        with part(before / total, done / total):
            values = score(*pad_rows(sequences, picked))
            beat(1.0)
        for row, group in enumerate(picked):
            for column, index in enumerate(group):
                scores[index] = tuple(values[row, : len(sequences[index]) - 1, column].tolist())
    return scores


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
