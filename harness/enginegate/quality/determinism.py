"""Whether an engine repeats itself: the same prompt twice, and the same prompt alone and in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enginegate.core.errors import CapabilityError
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.engines.process.heartbeat import part
from enginegate.quality.data import Prompt
from enginegate.quality.entry import mean_column, quality_entry, require_items
from enginegate.quality.text import Tokenizer, common_length, generate_tokens

REVISION = 1
COLUMNS = ("repeat_exact", "repeat_prefix", "batch_exact", "batch_prefix")
BATCH_SIZE = 8


def evaluate_determinism(
    engine: Engine, tokenizer: Tokenizer, prompts: Sequence[Prompt], max_tokens: int
) -> QualityEntry:
    """Answer every prompt greedily: alone, alone again, and in batches of 8 (or the engine's largest, if smaller).

    Informational: equal inputs may give different tokens where sums are taken in another order, above all between
    batch sizes; that is a property to know, not an error.

    Returns:
        For each item, for the second run (``repeat``) and for the batch (``batch``) against the first run: whether
        all tokens are equal (``exact``), and the share of the longer answer up to the first difference (``prefix``).
        The scores are their means, the agreement rates.

    Raises:
        CapabilityError: an engine built for one sequence at a time.
        MeasurementError: no prompts.
    """
    require_items(prompts, "determinism")
    size = min(BATCH_SIZE, engine.spec.max_batch_size)
    if size < 2:
        raise CapabilityError(
            f"{engine.spec.id} was built for batches of one, so batch sizes cannot be compared",
            "raise limits.max_batch_size and build again",
        )
    encoded = {prompt.hash: tokenizer.chat(prompt.text) for prompt in prompts}

    def answers(batch_size: int, turn: int) -> Mapping[str, Sequence[int]]:
        with part(turn / 3, (turn + 1) / 3):
            return generate_tokens(engine, tokenizer, encoded, max_tokens, batch_size)

    first, second, batched = answers(1, 0), answers(1, 1), answers(size, 2)
    items = {key: (*agreement(first[key], second[key]), *agreement(first[key], batched[key])) for key in encoded}
    scores = {name: mean_column(COLUMNS, items, name) for name in COLUMNS}
    settings = {"max_tokens": max_tokens, "batch_size": size}
    return quality_entry(engine, "determinism", REVISION, settings, COLUMNS, items, scores)


def agreement(first: Sequence[int], second: Sequence[int]) -> tuple[float, float]:
    """Whether two answers are equal (1 or 0), and their common prefix as a share of the longer one."""
    longer = max(len(first), len(second))
    return float(first == second), common_length(first, second) / longer if longer else 1.0
