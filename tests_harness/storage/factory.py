"""Synthetic run records with a known law: every number follows from the arguments, noise from a seeded generator."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from enginegate.core.identity import runtime_digest
from enginegate.core.records import (
    ArenaEntry,
    Block,
    EngineEntry,
    Fingerprint,
    MemoryEntry,
    ModelEntry,
    QualityEntry,
    Round,
    RunRecord,
    VerdictEntry,
)
from enginegate.measure.latency import GAPS
from enginegate.quality.bleu import BLEU_COLUMNS

MODEL = "tiny-8m"
REFERENCE = "tiny-8m-hf-bf16"
SPEEDUPS = {"tiny-8m-openvino-bf16": 1.5, "tiny-8m-openvino-int8_wo": 2.5, "tiny-8m-openvino-int4_awq": 3.0}
SCORES = {
    "cloze": {"accuracy": 0.80, "accuracy_norm": 0.87, "stderr": 0.01, "chance": 0.25, "accuracy_norm/capitals": 0.9},
    "similarity": {"bleu": 58.4, "rouge1": 0.7, "rouge2": 0.5, "rougeL": 0.6, "rougeLsum": 0.65, "exact": 0.1},
    "summaries": {"rouge1": 0.29, "rouge2": 0.1, "rougeL": 0.19, "rougeLsum": 0.25, "length": 40.0},
    "perplexity": {"perplexity": 27.17, "bits_per_byte": 0.9, "tokens": 4000.0},
    "divergence": {"kld": 0.0033, "kld_stderr": 0.0001, "same_top_p": 0.965, "floor": 0.0012},
}

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
COLUMNS = {
    "cloze": ("acc", "acc_norm", "chosen", "chosen_norm", "margin", "margin_norm"),
    "similarity": (*BLEU_COLUMNS, *ROUGE, "exact", "length", "reference_length"),
    "summaries": (*ROUGE, "length"),
    "perplexity": ("nll", "tokens", "bytes"),
    "divergence": ("kld", "tokens", "same_top", "delta_p", "delta_p_squared", "named"),
}


def engine_entry(engine: str, role: str = "candidate") -> EngineEntry:
    backend, precision = engine.removeprefix(MODEL + "-").split("-", 1)
    return EngineEntry.model_validate(
        {
            "id": engine,
            "backend": backend,
            "precision": precision,
            "variant": "",
            "runtime_digest": runtime_digest({}),
            "role": role,
            "spec": {"model": MODEL, "backend": backend, "precision": precision},
            "runtime": {"kv_precision": "auto"},
            "effective": {"precision": precision},
            "version": "hf 5.5.4" if backend == "hf" else "openvino 2026.4.1",
            "key": f"key-of-{engine}",
            "size_bytes": 16_000_000,
            "build_seconds": 12.5,
        }
    )


def arena_entry(
    batch_size: int = 1,
    speedups: Mapping[str, float] = SPEEDUPS,
    blocks: int = 16,
    noise: float = 0.01,
    seed: int = 0,
    output_len: int = 64,
) -> ArenaEntry:
    """The reference takes 1 s a batch, an engine ``1 / speedup``; TTFT is 5 % and the median ITL 1 % of that."""
    generator = random.Random(f"{batch_size}/{seed}")
    contestants = [REFERENCE, *speedups]

    def turn(engine: str) -> Round:
        seconds = math.exp(generator.gauss(0, noise)) / speedups.get(engine, 1.0)
        gaps = (0.01 * seconds, 0.02 * seconds, 0.03 * seconds)
        return Round(
            engine=engine,
            seconds=seconds,
            tokens=batch_size * output_len,
            foreign_load=0.01,
            figures={"ttft": 0.05 * seconds} | (dict(zip(GAPS, gaps, strict=True)) if output_len > 1 else {}),
        )

    return ArenaEntry(
        workload=f"b{batch_size}-i64-o{output_len}",
        batch_size=batch_size,
        input_len=64,
        output_len=output_len,
        seed=0,
        reference=REFERENCE,
        contestants=contestants,
        warmup_rounds=2,
        blocks=[
            Block(rounds=[turn(engine) for engine in (contestants if index % 2 == 0 else contestants[::-1])])
            for index in range(blocks)
        ],
        stopped="every gate decided",
    )


def memory_entry(engine: str, workload: str = "b1-i64-o64", peak: int = 600 * 2**20) -> MemoryEntry:
    return MemoryEntry(
        engine=engine,
        workload=workload,
        disk=16_000_000,
        loaded=512 * 2**20,
        peak=peak,
        kv_predicted=1_000_000,
        kv_used=1_000_000,
        kv_budget=2_000_000,
        device="cpu",
    )


def quality_entry(
    engine: str, metric: str = "cloze", items: int = 8, revision: int = 1, **scores: float
) -> QualityEntry:
    """Items with the columns of the real metric; in ``cloze`` every second answer is right by ``acc``."""
    return QualityEntry(
        engine=engine,
        metric=metric,
        version=f"{metric}/{revision};prefix=none;items={items}",
        columns=list(COLUMNS[metric]),
        items={f"item{index}": _item(metric, index) for index in range(items)},
        scores=SCORES[metric] | scores,
    )


def _item(metric: str, index: int) -> list[float]:
    if metric == "cloze":
        return [float(index % 2), 1.0, 0.0, 0.0, 0.5, 0.5]
    if metric == "perplexity":
        return [30.0 + index, 10.0, 40.0]
    if metric == "divergence":
        return [0.03 + 0.001 * index, 10.0, 9.0, 0.0, 0.01, 9.5]
    rouge = [0.3 + 0.01 * index, 0.1, 0.2 + 0.01 * index, 0.25]
    if metric == "summaries":
        return [*rouge, 40.0]
    return [8.0, 6.0, 4.0, 2.0, 10.0, 9.0, 8.0, 7.0, 10.0, 10.0, *rouge, 0.0, 20.0, 20.0]


def verdict_entry(
    engine: str, workload: str | None = "b1-i64-o64", status: str = "PASS", **changes: Any
) -> VerdictEntry:
    values: dict[str, Any] = {
        "test": f"test_speedup[{engine}-{workload}]",
        "engine": engine,
        "workload": workload,
        "status": status,
        "metric": "speedup",
        "estimate": 2.31,
        "interval": (2.27, 2.36),
        "unit": "x",
        "baseline": 2.48,
        "change": 0.069,
        "margin": 0.03,
        "alpha": 0.01,
        "smallest_visible": 0.04,
        "samples": 16,
        "explanation": f"{engine} {workload}: 2.31x [2.27, 2.36] over hf-bf16",
        "warnings": [],
        "accepted": False,
    }
    return VerdictEntry.model_validate(values | changes)


def run_record(
    run: str = "20261121-091500-abc",
    speedups: Mapping[str, float] = SPEEDUPS,
    batch_sizes: Sequence[int] = (1, 8),
    quality: bool = True,
    seed: int = 0,
    **changes: Any,
) -> RunRecord:
    arenas = [arena_entry(size, speedups, seed=seed) for size in batch_sizes]
    values: dict[str, Any] = {
        "id": run,
        "started": "2026-11-21T09:15:00+00:00",
        "finished": "2026-11-21T09:25:00+00:00",
        "status": "complete",
        "enginegate": "0.1.0",
        "arguments": ["tests_perf", "tests_quality"],
        "commit": "486177f",
        "fingerprint": Fingerprint(
            key="epyc-2c-0a1b2c3d",
            identity={"cpu": "EPYC", "cores": 2},
            context={"load": 0.5, "libraries": {"torch": "2.13.0"}},
        ),
        "model": ModelEntry(name=MODEL, source="random:tiny?seed=0", digest="d" * 64, random_weights=False),
        "config": {},
        "engines": [engine_entry(REFERENCE, "reference"), *(engine_entry(engine) for engine in speedups)],
        "arenas": arenas,
        "memory": [memory_entry(engine, arena.workload) for arena in arenas for engine in speedups],
        "quality": [quality_entry(engine, metric) for engine in speedups for metric in SCORES] if quality else [],
        "verdicts": [verdict_entry(engine, arena.workload) for arena in arenas for engine in speedups],
        "warnings": ["the machine was busy"],
    }
    return RunRecord(**(values | changes))


def before_figures(record: dict[str, Any]) -> dict[str, Any]:
    """A record, as JSON, whose rounds have fields for their figures, as schemas 1 and 2 wrote them."""

    def turn(entry: dict[str, Any]) -> dict[str, Any]:
        return {**{key: value for key, value in entry.items() if key != "figures"}} | {
            name: entry["figures"].get(name) for name in ("ttft", *GAPS, "last_token")
        }

    def blocks(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**block, "rounds": [turn(entry) for entry in block["rounds"]]} for block in found]

    arenas = [{**arena, "blocks": blocks(arena["blocks"])} for arena in record["arenas"]]
    return {**record, "schema_version": 2, "arenas": arenas}


def gated_record(floor: float) -> RunRecord:
    """A record with one speed verdict that was really judged on its samples, against a floor."""
    from dataclasses import asdict

    from enginegate.gates.sequential import SpeedPolicy
    from enginegate.verdicts.inputs import restore_inputs
    from enginegate.verdicts.judge import judge

    engine, workload = "tiny-8m-openvino-int8_wo", "b8-i64-o64"
    record = run_record(verdicts=[])
    inputs: dict[str, Any] = {
        "notes": [],
        "audit": None,
        "gate": "speed",
        "metric": "speedup",
        "workload": workload,
        "candidate": engine,
        "reference": REFERENCE,
        "reference_label": "hf-bf16",
        "subject": "int8_wo b8",
        "against": {"kind": "floor", "ratio": floor},
        "policy": asdict(SpeedPolicy()),
    }
    verdict = judge(restore_inputs(inputs), record)
    fields = asdict(verdict) | {"status": verdict.status.value, "warnings": list(verdict.warnings)}
    return record.model_copy(update={"verdicts": [verdict_entry(engine, workload, **fields, inputs=inputs)]})
