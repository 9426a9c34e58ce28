"""Run records with numbers that nothing has: damage on either side is bad input, never a regression of the new one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cases_compare import command
from enginegate.storage.runs import save_record
from field_case import Got, case

from tests_harness.storage.factory import run_record

KIND = "damaged numbers"
Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, change: Change) -> tuple[str, str]:
    """A sound record, and another session's that is damaged."""
    sound = save_record(run_record("sound", seed=1), folder)
    damaged = save_record(run_record("damaged", seed=2), folder)
    content = json.loads(damaged.read_text())
    change(content)
    damaged.write_text(json.dumps(content))
    return str(sound), str(damaged)


def enter(given: str, expected: str, says: tuple[str, ...], run: Callable[[Path], Got]) -> None:
    run.__name__ = f"damaged_{given.replace(' ', '_')}"
    case(given, kind=KIND, expected=expected, says=says)(run)


def refused(given: str, *says: str, change: Change) -> None:
    """Refused by ``compare``, as NEW and as BASE."""
    enter(f"{given} in NEW", "exit 2", says, lambda folder: command("compare", *changed(folder, change)))
    enter(f"{given} in BASE", "exit 2", says, lambda folder: command("compare", *changed(folder, change)[::-1]))


def every(part: str, **numbers: Any) -> Change:
    def change(record: dict[str, Any]) -> None:
        for entry in record[part]:
            entry.update(numbers)

    return change


def rounds(figures: dict[str, float] | None = None, **numbers: float) -> Change:
    def change(record: dict[str, Any]) -> None:
        for turn in (turn for arena in record["arenas"] for block in arena["blocks"] for turn in block["rounds"]):
            turn.update(numbers)
            turn["figures"].update(figures or {})

    return change


def quality(record: dict[str, Any], metric: str) -> Iterator[dict[str, Any]]:
    return (entry for entry in record["quality"] if entry["metric"] == metric)


def scores(metric: str, **numbers: float | None) -> Change:
    """These numbers for every item of one metric."""

    def change(record: dict[str, Any]) -> None:
        for entry in quality(record, metric):
            for row in entry["items"].values():
                for column, number in numbers.items():
                    row[entry["columns"].index(column)] = number

    return change


def items(metric: str, renamed: str | None) -> Change:
    """Other items in one metric, or none at all."""

    def change(record: dict[str, Any]) -> None:
        for entry in quality(record, metric):
            entry["items"] = {renamed + item: row for item, row in entry["items"].items()} if renamed else {}

    return change


refused("engine size of -5", "size_bytes", "damaged", change=every("engines", size_bytes=-5))
refused("build time of -1", "build_seconds", "damaged", change=every("engines", build_seconds=-1.0))
for name in ("disk", "loaded", "peak", "kv_predicted", "kv_used", "kv_budget"):
    refused(f"{name} memory of -1", name, "damaged", change=every("memory", **{name: -1}))
refused("seconds of 1e308", "longer than any run", change=rounds(seconds=1e308))
refused("first tokens after 2e9 seconds", "longer than any run", change=rounds(figures={"ttft": 2e9}))
refused("answers of -1e300", "acc", "damaged", change=scores("cloze", acc=-1e300))
refused("answers half right", "cloze of", "neither right", change=scores("cloze", acc_norm=0.5))
refused("answers half right without a tie", "acc of item", "no choices tie", change=scores("cloze", acc=1 / 3))
refused("BLEU counts of -1e300", "correct_1", "damaged", change=scores("similarity", correct_1=-1e300))
refused("ROUGE of 7", "rougeL", "damaged", change=scores("summaries", rougeL=7.0))
refused("likelihoods of -1e300", "nll", "damaged", change=scores("perplexity", nll=-1e300))
refused("likelihoods of 1e300", "nll", "damaged", change=scores("perplexity", nll=1e300))
refused("likelihoods below zero", "perplexity of", "negative", change=scores("perplexity", nll=-3.0))
refused("likelihoods of NaN", "perplexity of", "non-finite", change=scores("perplexity", nll=None))
refused("documents without tokens", "perplexity of", "no tokens", change=scores("perplexity", nll=0, tokens=0))
for metric in ("cloze", "similarity", "summaries", "perplexity"):
    enter(
        f"other items in {metric}",
        "exit 0",
        ("INCONCLUSIVE", "in both runs" if metric != "cloze" else "0 common items"),
        lambda folder, metric=metric: command("compare", *changed(folder, items(metric, "x"))),
    )
    for side, order in (("NEW", 1), ("BASE", -1)):
        enter(
            f"no items in {metric} of {side}",
            "exit 0",
            ("unchanged",),
            lambda folder, metric=metric, order=order: command(
                "compare", *changed(folder, items(metric, None))[::order]
            ),
        )


@case("memory of -1 to accept", kind=KIND, expected="exit 2", says=("peak", "damaged"))
def damaged_accepted(folder: Path) -> Got:
    _, damaged = changed(folder, every("memory", peak=-1))
    return command("accept", damaged, "--baselines", str(folder / "baselines"))
