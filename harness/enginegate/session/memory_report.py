"""What is said of an engine's memory before it runs: the table, paging, and what fits; JSON-able. Loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ConfigError, ModelError
from enginegate.core.records import MemoryParts
from enginegate.measure.memory_plan import kv_room, largest, predict
from enginegate.measure.paging import (
    BLOCK_SIZES,
    advise,
    contiguous_bytes,
    draw_lengths,
    paged_bytes,
    paging,
    read_drawing,
    read_lengths,
)
from enginegate.session.memory_files import Subject

#: More sequences, and more tokens of one, than anybody asks for.
MOST = 1 << 30
#: Sequences that are drawn where no file gives their lengths.
_DRAWN = 1000


@dataclass(frozen=True)
class MemoryQuestion:
    """What is asked of each engine.

    Attributes:
        batch_sizes, sequence_lengths: of the table; a length is prompt and answer together.
        fits: bytes that the engine may take; None where that is not asked.
        fraction: of them, as the engine understands its memory fraction.
        lengths: a file of sequence lengths; None to draw them.
        draw: how, as ``lognormal:512:2048``; empty for about the middle length of the table.
        seed: of the drawing.
    """

    batch_sizes: Sequence[int]
    sequence_lengths: Sequence[int]
    fits: int | None = None
    fraction: float = 1.0
    lengths: Path | None = None
    draw: str = ""
    seed: int = 0


def memory_report(subject: Subject, asked: MemoryQuestion) -> dict[str, Any]:
    """Everything that is said of one engine, JSON-able.

    Raises:
        EngineGateError: a length that the model has no positions for, a file or a distribution that cannot be used, or
            no law for this engine.
    """

    lengths, positions = list(dict.fromkeys(asked.sequence_lengths)), subject.geometry.positions
    over = [length for length in lengths if length > positions]
    if over:
        raise ConfigError(
            f"sequences of {', '.join(map(str, over))} tokens: {subject.spec.model} has positions for {positions}",
            f"give --sequence-lengths up to {positions}",
        )
    law = subject.law(1, lengths[0])
    rows = [
        {"batch_size": batch, "tokens": tokens, **_parts(subject, batch, tokens).model_dump()}
        for batch in dict.fromkeys(asked.batch_sizes)
        for tokens in lengths
    ]
    return {
        "engine": subject.spec.id,
        "note": subject.note,
        "no_weights": subject.model.no_weights,
        "attention": [
            {
                "layers": kind.layers,
                "kind": kind.name,
                "kv_heads": 1 if kind.latent else kind.kv_heads,
                "head_size": kind.latent or kind.key_size,
                "window": kind.window,
            }
            for kind in subject.geometry.kinds
        ],
        "kv": {
            "format": law.kv.format,
            "bytes_per_token": law.kv.token_bytes,
            "pools": [
                {"kind": pool.name, "block_tokens": pool.block_tokens, "block_bytes": pool.block_bytes}
                for pool in law.kv.pools
            ],
            "source": law.kv.source,
        },
        "own_source": law.own.source if law.own else "",
        "fraction_of": law.fraction_of,
        "rows": rows,
        "paging": _paging(subject, asked, law.kv.token_bytes),
        "fits": None if asked.fits is None else _fits(subject, asked, asked.fits),
    }


def _parts(subject: Subject, batch: int, tokens: int) -> MemoryParts:
    law = subject.law(batch, tokens)
    pool = law.kv.bytes(batch, tokens + (law.kv.spare_tokens if law.kv.whole_pool else 0))
    prompt = max(1, tokens - 1)
    return predict(law, subject.model.size, batch, prompt, tokens - prompt, pool)


def _paging(subject: Subject, asked: MemoryQuestion, token_bytes: float) -> dict[str, Any]:
    if asked.lengths:
        lengths, source = read_lengths(asked.lengths), str(asked.lengths)
    else:
        given = sorted(asked.sequence_lengths)
        drawing = read_drawing(asked.draw) if asked.draw else ("lognormal", given[len(given) // 2], given[-1])
        kind, mean, longest = drawing
        lengths = draw_lengths(kind, mean, longest, _DRAWN, asked.seed)
        source = f"{_DRAWN:,} drawn, {kind} about {mean:,} tokens, cut at {longest:,}, seed {asked.seed}"
    own = subject.law(1, 2).kv.pools[0].block_tokens
    fixed = subject.backend.name == "openvino" or own == 1
    offered = (own,) if fixed else BLOCK_SIZES
    sizes = sorted({*BLOCK_SIZES, own})
    advice = advise(lengths, offered)
    first = subject.geometry.kinds[0]
    return {
        "lengths": {
            "source": source,
            "count": len(lengths),
            "mean": sum(lengths) / len(lengths),
            "longest": max(lengths),
        },
        "contiguous_bytes": contiguous_bytes(len(lengths), max(lengths), token_bytes),
        "query_heads_over_kv_heads": first.query_heads / first.kv_heads,
        "sizes": [
            {
                "block_tokens": each,
                "bytes": paged_bytes(lengths, each, token_bytes),
                "waste": paging(lengths, each).waste,
                "offered": each in offered,
            }
            for each in sizes
        ],
        "recommended": advice.block_tokens,
        "reason": advice.reason,
        "rule_by_mean": advice.rule,
        "rule_problem": advice.rule_problem,
    }


def _fits(subject: Subject, asked: MemoryQuestion, memory: int) -> dict[str, Any]:
    """The largest batch at each length, and the longest sequence at each batch. Raises ModelError without weights."""
    if subject.model.size.counts is None:
        raise ModelError(
            f"nobody can tell how large the weights of {subject.spec.model} are, so nothing can be said to fit: "
            f"{subject.model.no_weights}",
            "install a Transformers that knows the model",
        )

    def fits(batch: int, tokens: int) -> bool:
        law = subject.law(batch, tokens)
        room = kv_room(law, subject.model.size, memory, asked.fraction, batch, max(1, tokens - 1))
        return law.kv.bytes(batch, tokens + law.kv.spare_tokens) <= room

    law = subject.law(1, 2)
    lengths, batches = dict.fromkeys(asked.sequence_lengths), dict.fromkeys(asked.batch_sizes)
    positions = subject.geometry.positions
    return {
        "memory": memory,
        "fraction": asked.fraction,
        "fraction_of": law.fraction_of or "total",
        "own_unknown": law.own is None,
        "context": law.own.context if law.own else 0,
        "batch_at": {str(tokens): largest(lambda batch: fits(batch, tokens), MOST) for tokens in lengths},  # noqa: B023
        "tokens_at": {
            str(batch): largest(lambda tokens: fits(batch, tokens), positions)  # noqa: B023
            for batch in batches
        },
        "positions": positions,
    }
