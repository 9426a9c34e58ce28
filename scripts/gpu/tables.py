"""The tables that this project continues, measured again: print Markdown from run records.

    python scripts/gpu/tables.py RUN_FOLDER... > table.md

Beside each row stand the figures of the table it continues, with the card that they were measured on. Its latencies are
of batches of 20 new tokens a request (tokens/s x latency = 16 x 20 in every row), ours of as many as the workload says,
so that tokens/s is what compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.report.rows import MEGABYTE, record_rows
from enginegate.storage.runs import find_record, load_record

#: (model, batch size, precision): tokens/s, memory in MB, card. Not ours: quoted.
QUOTED: dict[tuple[str, int, str], tuple[float, float | None, str]] = {
    ("distilgpt2", 16, "full_prec"): (6696.80, 1463.30, "RTX A4000"),
    ("distilgpt2", 16, "int8_wo"): (7437.19, 1347.58, "RTX A4000"),
    ("distilgpt2", 16, "int4_awq"): (7272.07, 1402.88, "RTX A4000"),
    ("gpt2", 16, "full_prec"): (4985.36, 1542.14, "RTX A4000"),
    ("gpt2", 16, "int8_wo"): (5260.82, 1540.10, "RTX A4000"),
    ("gpt2", 16, "int4_awq"): (5366.61, 1607.68, "RTX A4000"),
    ("phi-2", 16, "full_prec"): (550.03, 7809.02, "RTX A4000"),
    ("phi-2", 16, "int8_wo"): (731.35, 5262.34, "RTX A4000"),
    ("phi-2", 16, "int4_awq"): (785.73, 4136.96, "RTX A4000"),
    ("llama-2-7b", 16, "full_prec"): (219.72, 15870.98, "RTX A4000"),
    ("llama-2-7b", 16, "int8_wo"): (324.35, 9701.06, "RTX A4000"),
    ("llama-2-7b", 16, "int4_awq"): (355.35, 6711.30, "RTX A4000"),
    ("tinyllama-1.1b", 1, "hf"): (85.2, 2.1 * 1024, "RTX 4090"),
    ("tinyllama-1.1b", 1, "full_prec"): (178.4, 1.8 * 1024, "RTX 4090"),
    ("tinyllama-1.1b", 1, "int8_wo"): (245.7, 1.2 * 1024, "RTX 4090"),
    ("tinyllama-1.1b", 1, "int4_awq"): (312.1, 0.8 * 1024, "RTX 4090"),
}
#: Its name of our precisions; its int4 is calibrated, which costs nothing while running.
_THEIRS = {"fp16": "full_prec", "int8_wo": "int8_wo", "int4_wo": "int4_awq"}


def main(folders: list[str]) -> None:
    """Print one table over all runs."""
    print(
        "| model (random weights) | batch | engine | latency (ms) | tokens/s | speed-up over hf eager | weights (MB) "
        "| WM (MB) | RM (MB) | the table before: tokens/s | memory (MB) | its card |\n|" + "---|" * 12
    )
    for folder in folders:
        for line in _lines(load_record(find_record(folder, Path(folder)))):
            print(line)


def _lines(record: RunRecord) -> list[str]:
    weights = {entry.engine: entry.weights for entry in record.memory}
    memory = {row.precision: row for row in record_rows(record) if row.memory_mb is not None}
    name = record.model.name.removesuffix("-random")
    lines = []
    for row in record_rows(record):
        if row.batch_size is None or row.latency_ms is None:
            continue
        told = memory.get(row.precision) if row.engine == "vllm" else None
        own = weights.get(f"{record.model.name}-{row.engine}-{row.precision}")
        theirs = "hf" if row.engine == "hf" else _THEIRS.get(row.precision, "")
        tokens, used, card = QUOTED.get((name, row.batch_size, theirs), (None, None, "–"))
        if row.engine == "hf-static":
            tokens, used, card = None, None, "–"
        speedup = f"{row.speedup:.2f}x [{row.speedup_low:.2f}, {row.speedup_high:.2f}]" if row.speedup_low else "1"
        cells = [
            name,
            str(row.batch_size),
            f"{row.engine} {row.precision}",
            f"{row.latency_ms:.1f}",
            f"{row.tokens_per_second:,.0f}",
            speedup,
            _number(own / MEGABYTE if own else None),
            _number(told.weights_gb * 1024 if told and told.weights_gb is not None else None),
            _number(told.memory_mb if told else None),
            _number(tokens),
            _number(used),
            card,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    main(sys.argv[1:])
