"""The results table: one row for each engine and workload of a run, and its CSV."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginegate.core.records import EngineEntry, RunRecord
from enginegate.gates.verdict import CONFIDENCE
from enginegate.report.cost import price_of
from enginegate.report.notes import data_notes
from enginegate.storage.summary import Measurement, measurements, worst

#: Binary units, as in the tables that this one continues.
MEGABYTE, GIGABYTE = 2**20, 2**30

#: Over a speed-up and its interval.
SPEEDUP_HEADING = f"Speedup [{100 * CONFIDENCE:g} %]"

#: What the columns mean, for the foot of a table.
COLUMN_NOTES = (
    "Latency: median time of one batch, from submission to its last token. Tokens/sec: tokens really produced.",
    "TTFT: time to the first token. ITL: median gap between tokens. Times are medians over the rounds.",
    "Memory and RM: peak while generating. WM: after loading, mapped files counted whole. Each in a process of its own;"
    " MB and GB are 2^20 and 2^30 bytes.",
    "ROUGE: summaries against reference summaries. BLEU: greedy answers against those of the quality reference."
    " Both 0 to 100.",
    "KLD: mean KL divergence from the quality reference, nats a token, over its likeliest tokens and one cell for the"
    " rest.",
    f"Speedup: over the reference engine, or over the live base where there is one, each measured in turns with the"
    f" engine, with its {100 * CONFIDENCE:g} % interval.",
    "Verdict: the worst of the engine's verdicts at that batch size.",
)

#: Quality columns: row attribute, the (metric, factor) that fill it, the first one measured winning.
QUALITY_SOURCES: dict[str, tuple[tuple[str, float], ...]] = {
    "accuracy": (("cloze.accuracy_norm", 100), ("letters.accuracy", 100)),
    "rouge1": (("summaries.rouge1", 100),),
    "rouge2": (("summaries.rouge2", 100),),
    "rouge_l": (("summaries.rougeL", 100),),
    "rouge_lsum": (("summaries.rougeLsum", 100),),
    "bleu": (("similarity.bleu", 1),),
    "perplexity": (("perplexity.perplexity", 1),),
    "divergence": (("divergence.kld", 1),),
}


@dataclass(frozen=True)
class Row:
    """One line of the results table. None: not measured.

    Attributes:
        model, engine, precision, batch_size, workload: what was measured; ``engine`` is the backend.
        role: ``candidate``, ``reference`` or ``quality-reference``.
        random_weights: True where quality has no meaning.
        dequantized: what most of the model's weights were quantized to before, or "".
        latency_ms, ttft_ms, itl_ms: milliseconds.
        tokens_per_second: tokens really produced.
        memory_mb: peak while generating, MiB.
        weights_gb, running_gb: after loading, and peak, GiB.
        accuracy, rouge1, rouge2, rouge_l, rouge_lsum, bleu: 0 to 100.
        accuracy_kind: the metric behind ``accuracy``, ``cloze`` or ``letters``.
        perplexity: per token.
        data: the data sets behind the quality columns.
        divergence: mean KL divergence from the quality reference, nats a token.
        speedup, speedup_low, speedup_high: ratio over ``speedup_over`` and its interval.
        speedup_over: id of the reference or live base that the speed-up is over; "" where there is none.
        cost_output, cost_all: price of a million tokens: of output alone, of input and output.
        joules_per_token: of output tokens; of the whole device, advice.
        verdict: worst status, or "" where nothing was gated.
    """

    model: str
    engine: str
    precision: str
    batch_size: int | None
    workload: str
    role: str
    random_weights: bool
    dequantized: str
    latency_ms: float | None
    tokens_per_second: float | None
    memory_mb: float | None
    weights_gb: float | None
    running_gb: float | None
    accuracy: float | None
    accuracy_kind: str
    rouge1: float | None
    rouge2: float | None
    rouge_l: float | None
    rouge_lsum: float | None
    bleu: float | None
    perplexity: float | None
    data: str
    divergence: float | None
    ttft_ms: float | None
    itl_ms: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    speedup_over: str
    cost_output: float | None
    cost_all: float | None
    joules_per_token: float | None
    verdict: str


#: CSV columns in order: heading, row attribute, decimals (None: as it is).
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("Model", "model", None),
    ("Engine", "engine", None),
    ("Precision", "precision", None),
    ("Batch Size", "batch_size", None),
    ("Latency (ms)", "latency_ms", 2),
    ("Tokens/sec", "tokens_per_second", 2),
    ("Memory (MB)", "memory_mb", 2),
    ("WM (GB)", "weights_gb", 3),
    ("RM (GB)", "running_gb", 3),
    ("Accuracy (%)", "accuracy", 2),
    ("ROUGE-1", "rouge1", 2),
    ("ROUGE-2", "rouge2", 2),
    ("ROUGE-L", "rouge_l", 2),
    ("ROUGE-Lsum", "rouge_lsum", 2),
    ("BLEU", "bleu", 2),
    ("Perplexity", "perplexity", 3),
    ("KLD", "divergence", 5),
    ("TTFT (ms)", "ttft_ms", 2),
    ("ITL (ms)", "itl_ms", 2),
    ("Speedup", "speedup", 3),
    ("Speedup Low", "speedup_low", 3),
    ("Speedup High", "speedup_high", 3),
    ("Verdict", "verdict", None),
)

#: Before the verdict where they are known: a price was given, the device tells its energy.
EXTRA_COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("Cost/1M Output", "cost_output", 4),
    ("Cost/1M In+Out", "cost_all", 4),
    ("Joules/Token", "joules_per_token", 4),
)

#: Behind them, what no table of a page has room for.
_CSV_COLUMNS = (
    *COLUMNS,
    ("Data", "data", None),
    ("Dequantized From", "dequantized", None),
    ("Speedup Over", "speedup_over", None),
    *EXTRA_COLUMNS,
)


def record_rows(record: RunRecord) -> list[Row]:
    """Rows by engine and then batch size; an engine with no timed or memory workload has one row, if anything."""
    found: dict[tuple[str, str], dict[str, Measurement]] = {}
    for item in measurements(record):
        found.setdefault((item.engine, item.workload), {})[item.metric] = item
    names = [*(entry.workload for entry in record.memory), *(arena.workload for arena in record.arenas)]
    batches = {name: _batch_size(name) for name in names}
    rows = []
    for engine in record.engines:
        whole = found.get((engine.id, ""), {})
        workloads = [workload for workload in batches if (engine.id, workload) in found]
        for workload in sorted(workloads, key=lambda name: (batches[name] or 0, name)):
            rows.append(_row(record, engine, workload, batches[workload], whole | found[engine.id, workload]))
        if not workloads and any("." in metric for metric in whole):
            rows.append(_row(record, engine, "", None, whole))
    return rows


def _row(
    record: RunRecord, engine: EngineEntry, workload: str, batch_size: int | None, found: dict[str, Measurement]
) -> Row:
    def value(metric: str, factor: float = 1.0) -> float | None:
        item = found.get(metric)
        return item.value * factor if item is not None and math.isfinite(item.value) else None

    quality, kind = {}, ""
    for attribute, sources in QUALITY_SOURCES.items():
        measured = [(metric, factor) for metric, factor in sources if metric in found]
        quality[attribute] = value(*measured[0]) if measured else None
        if attribute == "accuracy" and measured:
            kind = measured[0][0].partition(".")[0]
    price, work = price_of(record), _work(workload)
    rate = value("throughput")
    speedup = found.get("speedup") if value("speedup") is not None else None
    return Row(
        model=record.model.name,
        engine=engine.backend,
        precision=engine.precision_label,
        batch_size=batch_size,
        workload=workload,
        role=engine.role,
        random_weights=record.model.random_weights,
        dequantized=record.model.dequantized,
        latency_ms=value("latency", 1000),
        tokens_per_second=value("throughput"),
        memory_mb=value("peak_memory", 1 / MEGABYTE),
        weights_gb=value("loaded_memory", 1 / GIGABYTE),
        running_gb=value("peak_memory", 1 / GIGABYTE),
        accuracy_kind=kind,
        data="; ".join(data_notes(entry for entry in record.quality if entry.engine == engine.id)),
        ttft_ms=value("ttft_seconds", 1000),
        itl_ms=value("itl_seconds", 1000),
        speedup=speedup.value if speedup else 1.0 if engine.role == "reference" and "latency" in found else None,
        speedup_low=speedup.low if speedup else None,
        speedup_high=speedup.high if speedup else None,
        speedup_over=_speedup_over(record, engine.id, workload) if speedup else "",
        cost_output=price.of_a_million(rate) if price and rate else None,
        cost_all=price.of_a_million(rate * (1 + work[1] / work[2])) if price and rate and work else None,
        joules_per_token=value("joules_per_token"),
        verdict=row_verdict(record, engine.id, workload),
        **quality,
    )


def _speedup_over(record: RunRecord, engine: str, workload: str) -> str:
    for verdict in record.verdicts:
        if (verdict.engine, verdict.workload, verdict.metric) == (engine, workload, "speedup") and verdict.is_raced:
            return str(verdict.inputs["against"].get("base", ""))
    return next((arena.reference for arena in record.arenas if arena.workload == workload), "")


def row_verdict(record: RunRecord, engine: str, workload: str) -> str:
    """The worst status among the engine's verdicts at this workload and those on the engine as a whole, and its share.

    ``PASS`` where all passed; ``INCONCLUSIVE 1/15`` where one of fifteen is not decided and none is worse.
    """
    statuses = [v.status for v in record.verdicts if v.engine == engine and v.workload in (workload, None, "")]
    status = worst(statuses)
    count = statuses.count(status)
    return status if count == len(statuses) else f"{status} {count}/{len(statuses)}"


def _batch_size(workload: str) -> int | None:
    """The batch size that a workload id such as ``b8-i64-o64`` begins with."""
    head = workload.partition("-")[0]
    return int(head[1:]) if head[:1] == "b" and head[1:].isdigit() else None


def _work(workload: str) -> tuple[int, int, int] | None:
    """Batch size, input and output length of a workload's id; None where it is none."""
    found = re.fullmatch(r"b(\d+)-i(\d+)-o([1-9]\d*)", workload)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def cell(row: Row, attribute: str, decimals: int | None, missing: str = "") -> str:
    """One value as text."""
    value = getattr(row, attribute)
    if value is None or value == "":
        return missing
    return str(value) if decimals is None else f"{value:.{decimals}f}"


def speedup_text(row: Row, missing: str = "n/a") -> str:
    """The speed-up with its interval, e.g. ``2.31x [2.27, 2.36]``."""
    if row.role == "reference" and row.speedup is not None:
        return "1.00x (reference)"
    if row.speedup is None:
        return missing
    if row.speedup_low is None or row.speedup_high is None:
        return f"{row.speedup:.2f}x"
    return f"{row.speedup:.2f}x [{row.speedup_low:.2f}, {row.speedup_high:.2f}]"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the table; what was not measured is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([heading for heading, _, _ in _CSV_COLUMNS])
        writer.writerows([cell(row, attribute, decimals) for _, attribute, decimals in _CSV_COLUMNS] for row in rows)
