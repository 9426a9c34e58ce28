"""The sentences in docs/reading_a_verdict.md are worded as the gates word them; figures may differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from docs_text import read, table_after
from enginegate.gates.items import QualityPolicy
from enginegate.gates.quality import judge_accuracy, judge_nll
from enginegate.gates.resources import MIB, judge_build_time, judge_memory
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Baseline, Floor
from enginegate.gates.speed import judge_speed
from enginegate.gates.verdict import Status, Verdict
from enginegate.plugin.outcomes import OTHER

PAGE = read("reading_a_verdict.md")
#: The examples of each word; the one that "The sentence" takes apart is a FAIL.
SECTIONS = {status: PAGE.split(f"\n### {status.value}\n")[1].split("\n## ")[0].split("\n### ")[0] for status in Status}

SECTIONS[Status.FAIL] += PAGE.split("\n## The sentence\n")[1].split("\n### ")[0]


def wording(sentence: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?(e-\d+)?", "#", sentence)


def speed() -> Iterator[Verdict | None]:
    random = np.random.default_rng(7)

    def blocks(ratio: float, count: int, noise: float = 0.02) -> list[float]:
        return list(np.log(ratio) + random.normal(0, noise, count))

    stored = Baseline(tuple(tuple(blocks(ratio, 10)) for ratio in (2.48, 2.49, 2.47)))
    for against, samples, invalid in (
        (stored, blocks(2.47, 10), None),
        (stored, blocks(2.20, 16), None),
        (stored, blocks(2.70, 10), None),
        (stored, blocks(2.36, 10, 0.06), None),
        (stored, blocks(2.40, 10), "other work disturbed 70% of the blocks, also when repeated"),
        (stored, [*blocks(2.4, 9), float("nan")], None),
        (Floor(1.5), blocks(2.31, 6), None),
        (Floor(1.5), blocks(1.31, 10), None),
        (None, blocks(2.40, 6), None),
    ):
        policy = SpeedPolicy(alpha=0.01 / 12)
        yield judge_speed(
            samples, against, policy, subject="int8_wo b8", reference="hf-bf16", final=True, invalid=invalid
        )


def resources() -> Iterator[Verdict]:
    for value in (410 * MIB, 365 * MIB):
        yield judge_memory(value, 363 * MIB, relative=0.02, quantum=16 * MIB, subject="int8_wo b8 peak")
    yield judge_build_time(75.4, 40.2, subject="int8_wo build")


def quality() -> Iterator[Verdict]:
    policy = QualityPolicy(alpha=0.01 / 12)
    known = {f"{item:04}": float(item < 820) for item in range(1000)}

    def flipped(lost: int, gained: int) -> Mapping[str, float]:
        return {item: 1.0 - right if not lost <= int(item) < 1000 - gained else right for item, right in known.items()}

    for lost, gained in ((12, 9), (60, 15), (40, 25)):
        yield judge_accuracy(
            flipped(lost, gained), known, policy, reference_items=known, chance=0.25, subject="int4_awq cloze accuracy"
        )
    letters = {f"{item:03}": float(item % 4 == 0) for item in range(120)}
    yield judge_accuracy(
        letters, letters, policy, reference_items=letters, chance=0.27, subject="int8_wo letters accuracy"
    )
    random = np.random.default_rng(7)
    documents = {f"{item}": (float(value), 100.0) for item, value in enumerate(random.normal(330, 30, 64))}
    worse = {item: (1.004 * nll + float(random.normal(0, 1)), count) for item, (nll, count) in documents.items()}
    limits = QualityPolicy(alpha=0.01 / 12, margin=0.005, tolerated=0.02)
    yield judge_nll(worse, documents, limits, subject="int8_wo perplexity")


def test_every_sentence_is_one_that_a_gate_says():
    verdicts = [verdict for verdict in (*speed(), *resources(), *quality()) if verdict is not None]
    for status, section in SECTIONS.items():
        said = {wording(verdict.explanation) for verdict in verdicts if verdict.status is status}
        examples = {wording(line.strip()) for line in re.findall(r"^    (?:int\d_\w+ .+)$", section, re.MULTILINE)}
        assert examples == said, status


def test_outcomes_are_those_that_pytest_shows():
    shown = {row[0]: row[3] for row in table_after(PAGE, "## The four words")}
    assert shown.keys() == {status.value for status in Status}
    for status, (category, letter, _) in OTHER.items():
        assert shown[status] == f"`{letter}` {category}"


@pytest.mark.parametrize(
    "reason", [row[0] for row in table_after(PAGE, "### INCONCLUSIVE") if "one build" not in row[0]]
)
def test_every_reason_is_in_the_gates(reason):
    """The fixed words of each reason stand in the gates' source."""
    from docs_text import REPOSITORY

    folders = (REPOSITORY / "harness" / "enginegate" / "gates", REPOSITORY / "harness" / "enginegate" / "verdicts")
    source = "\n".join(file.read_text(encoding="utf-8") for folder in folders for file in folder.glob("*.py"))
    for part in re.split(r" N%? |…| or ", reason):
        words = part.strip().removeprefix("the slowdown").strip()
        assert words in source, words
