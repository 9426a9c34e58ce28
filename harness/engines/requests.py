"""Checks of what an engine is asked to answer, shared by every backend so that all of them refuse the same things."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.errors import EngineError
from harness.specs import EngineSpec, SamplingParams


def check_prompts(spec: EngineSpec, prompts: Sequence[Sequence[int]], params: SamplingParams) -> None:
    """Raise EngineError unless the engine was built for this batch, these lengths and this output."""
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


def check_sequences(spec: EngineSpec, sequences: Sequence[Sequence[int]], prefill: int | None, max_length: int) -> None:
    """Raise EngineError unless every sequence can be scored: 2 to ``max_length`` tokens, ``prefill`` at least 1."""
    if prefill is not None and prefill < 1:
        raise EngineError(f"{spec.id}: prefill={prefill}, but at least one token opens a sequence", "pass 1 or more")
    for position, sequence in enumerate(sequences):
        if not 2 <= len(sequence) <= max_length:
            raise EngineError(
                f"{spec.id}: sequence {position} has {len(sequence)} tokens, but 2 to {max_length} can be scored",
                "shorten the sequence, or raise max_input_len in the config",
            )


def eos_token_ids(checkpoint: Path) -> frozenset[int]:
    """End-of-sequence ids of the checkpoint's generation_config.json, else of its config.json; may be empty."""
    for name in ("generation_config.json", "config.json"):
        file = checkpoint / name
        if file.is_file():
            ids = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            if ids is not None:
                return frozenset(ids if isinstance(ids, list) else [ids])
    return frozenset()


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
