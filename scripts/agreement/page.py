"""Fill the tables of docs/lm_eval.md from their records: python scripts/agreement/page.py [--check]

Below a line ``<!-- agreement -->``, ``<!-- texts -->`` or ``<!-- speed -->`` stands what docs/results/quality/
agreement.json and speed.json say, up to ``<!-- end -->``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "lm_eval.md"
RECORDS = ROOT / "docs" / "results" / "quality"

#: What a task is called on the page.
TASKS = {
    "letters": "MMLU, letters, 5-shot",
    "cloze": "cloze, by the text of the answer",
    "pages": "perplexity of texts",
}
#: What the table of texts shows of every language, and where there are no spaces also what reads such texts.
DEFAULTS = frozenset({"13a", "default", "unicode"})
UNSPACED = frozenset({"Chinese", "Japanese", "Thai", "mixed"})


def agreement() -> Iterator[str]:
    """Accuracy and perplexity, item by item."""
    record = _read("agreement.json")
    yield "| what | engine | compared | items | accuracy, or bits per byte | same choice | largest difference |"
    yield "|---|---|---|---|---|---|---|"
    for row in record["rows"]:
        items = list(row["items"].values())
        gap = max(abs(one - other) for _, _, one, other in items)
        if row["task"] == "pages":
            same = "–"
            largest = f"{gap:.2g} of {max(abs(one) for _, _, one, _ in items):.0f} nats"
        else:
            same, largest = str(sum(one == other for one, other, _, _ in items)), f"{gap:.2g} nats of the lead"
        one, other = row["scores"]
        cells = [TASKS[row["task"]], row["engine"], " / ".join(row["sides"]), str(len(items))]
        yield f"| {' | '.join([*cells, f'{one:.4f} / {other:.4f}', same, largest])} |"
    mmlu, versions = record["mmlu"], record["versions"]
    yield ""
    for row in record["rows"]:
        tied = sum(one == 0 for _, _, one, _ in row["items"].values())
        if tied and row["task"] != "pages" and row["sides"][0] == "enginegate":
            yield (
                f"{row['engine']}, {TASKS[row['task']]}: two choices or more are equally likely in {tied} of "
                f"{len(row['items'])} questions. lm-eval takes the first, which is what is compared here; our metric "
                "keeps it, and shares the credit."
            )
            yield ""
    yield (
        f"{record['made'][:10]}, {record['machine']['cpu']}, lm-eval {versions['lm_eval']}, Transformers "
        f"{versions['transformers']}, OpenVINO {versions['openvino']}. MMLU: {mmlu['asked']} of {mmlu['questions']:,} "
        f"questions of {mmlu['topics']} topics, from the wheel {mmlu['wheel']}."
    )


def texts() -> Iterator[str]:
    """BLEU and ROUGE by language."""
    yield "| language | score | signature | pairs | ours and theirs differ by | mean | of a text against itself |"
    yield "|---|---|---|---|---|---|---|"
    for row in _read("agreement.json")["texts"]:
        tokenizer = row["signature"].partition("tok:")[2].partition("|")[0]
        if tokenizer not in DEFAULTS and (row["language"] not in UNSPACED or tokenizer == "intl"):
            continue
        gap = max(abs(one - other) for one, other in zip(row["ours"], row["theirs"], strict=True))
        mean = sum(row["ours"]) / len(row["ours"])
        per_pair = 1 if row["score"] == "BLEU" else 3
        signature = row["signature"].replace("|", r"\|")
        cells = [row["language"], row["score"], f"`{signature}`", str(len(row["ours"]) // per_pair)]
        numbers = [f"{gap:.2g}", f"{mean:.3g}", f"{row['itself']:.3g}"]
        yield f"| {' | '.join([*cells, *numbers])} |"


def speed() -> Iterator[str]:
    """Questions a second."""
    if not (RECORDS / "speed.json").is_file():
        yield "Not measured yet."
        return
    record = _read("speed.json")
    ours, theirs, seconds = record["engines"]["ours"], record["engines"]["theirs"], record["seconds"]
    count = record["questions"]
    yield "| who | precision | threads | seconds | questions a second |"
    yield "|---|---|---|---|---|"
    for who, side, name in (
        (f"{ours['id']}, lm-eval through our adapter", ours, "adapter"),
        (f"{ours['id']}, our own metric", ours, "metric"),
        (f"{theirs['id']}, batches of {theirs['batch_size']}", theirs, "theirs"),
    ):
        taken = seconds[name]
        yield f"| {who} | {side['precision']} | {side['threads']} | {taken:.1f} | {count / taken:.1f} |"
    yield ""
    ratio = seconds["theirs"] / seconds["adapter"]
    same, alike = record["same_as_lm_eval_on_our_engine"], record["same_as_transformers"]
    yield (
        f"{record['made'][:10]}, {record['machine']['cpu']}: {count:,} questions of {record['choices']} choices "
        f"({record['task']}), {record['tokens']:,} tokens of prompts: **{ratio:.1f} times as fast** by the adapter."
        f" Our metric chooses as lm-eval on the same engine in {same:,} of {count:,}; int8_wo chooses as Transformers"
        f" in {alike:,}."
    )


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDS / name).read_text(encoding="utf-8"))
    return found


#: A table by its name; there is nothing to choose.
TABLES = {
    "agreement": lambda _: agreement(),
    "texts": lambda _: texts(),
    "speed": lambda _: speed(),
}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
