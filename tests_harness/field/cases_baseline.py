"""Is there a baseline? Asked before whether the samples suffice: else a session that is always short is never asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from enginegate.gates.accuracy import judge_accuracy
from enginegate.gates.compare import ABSOLUTE_SHIFT
from enginegate.gates.items import QualityPolicy
from enginegate.gates.quality import judge_corpus, judge_flips, judge_lengths, judge_nll
from enginegate.gates.resources import judge_build_time, judge_memory, judge_size
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Floor
from enginegate.gates.speed import judge_speed, replay_speed
from enginegate.gates.verdict import Verdict
from enginegate.verdicts.inputs import UnpairedInputs
from enginegate.verdicts.judge import judge
from field_case import Got, case

KIND = "fail-open: baseline"
ITEMS = {"one": 1.0, "two": 0.0, "three": 1.0}
PAIRS = {name: (12.0 + value, 4.0) for name, value in ITEMS.items()}
ROWS = {name: [value] for name, value in ITEMS.items()}
POLICY = QualityPolicy()


def _mean(rows: object) -> float:
    return float(np.mean(np.asarray(rows, dtype=float)))


def _enter(name: str, given: str, expected: str, ask: Callable[[], Verdict | None], *says: str) -> None:
    def run(_: Path) -> Got:
        verdict = ask()
        return Got("no verdict") if verdict is None else Got(verdict.status.value, verdict.explanation)

    run.__name__ = f"baseline_{name}"
    case(given, kind=KIND, expected=expected, says=says)(run)


for blocks in (1, 3):
    _enter(
        f"speed_{blocks}",
        f"speed-up of {blocks} block(s), no baseline",
        "NO_BASELINE",
        lambda blocks=blocks: judge_speed([0.7] * blocks, None, SpeedPolicy(), final=True),  # type: ignore[misc]
        "there is no baseline to compare with",
        f"only {blocks} blocks",
    )
_enter(
    "speed_replayed",
    "speed-up of 3 blocks from a record, no baseline",
    "NO_BASELINE",
    lambda: replay_speed([0.7, 0.71, 0.7], None, SpeedPolicy()),
)
_enter(
    "speed_floor",
    "speed-up of 3 blocks, a floor",
    "INCONCLUSIVE",
    lambda: judge_speed([0.7] * 3, Floor(1.5), SpeedPolicy(), final=True),
    "only 3 blocks",
)
_enter(
    "speed_disturbed",
    "speed-up of disturbed blocks, no baseline",
    "NO_BASELINE",
    lambda: judge_speed([0.7, 0.71, 0.69, 0.7], None, SpeedPolicy(), final=True, invalid="other work"),
)
_enter(
    "speed_unusable",
    "speed-up with a time that is no number, no baseline",
    "FAIL",
    lambda: judge_speed([0.7, float("nan")], None, SpeedPolicy(), final=True),
    "samples unusable",
)
_enter("memory", "peak memory, no baseline", "NO_BASELINE", lambda: judge_memory(1e9, None))
_enter("size", "engine size, no baseline", "NO_BASELINE", lambda: judge_size(1e9, None))
_enter("build", "build time, no baseline", "NO_BASELINE", lambda: judge_build_time(9.0, None))
_enter("accuracy", "accuracy of 3 items, no baseline", "NO_BASELINE", lambda: judge_accuracy(ITEMS, None, POLICY))
_enter("flips", "flips of 3 items, no baseline", "NO_BASELINE", lambda: judge_flips(ITEMS, None, POLICY, limit=0.1))
_enter(
    "corpus", "BLEU or ROUGE of 3 items, no baseline", "NO_BASELINE", lambda: judge_corpus(ROWS, None, _mean, POLICY)
)
_enter("perplexity", "perplexity of 3 documents, no baseline", "NO_BASELINE", lambda: judge_nll(PAIRS, None, POLICY))
_enter("lengths", "lengths of 3 answers, no reference", "NO_BASELINE", lambda: judge_lengths(ITEMS, None, POLICY))
_enter(
    "accuracy_few",
    "accuracy of 3 items, a baseline",
    "INCONCLUSIVE",
    lambda: judge_accuracy(ITEMS, ITEMS, POLICY),
    "only 3 common items",
)
_enter(
    "compare",
    "compare of one sample without a base session",
    "NO_BASELINE",
    lambda: judge(
        UnpairedInputs(
            metric="time",
            candidate="bench",
            subject="",
            sessions=[],
            samples=[1.0],
            margin=0.05,
            tolerated=None,
            alpha=0.01,
            beta=0.05,
            higher_is_better=False,
            shift=ABSOLUTE_SHIFT,
        ),
        None,
    ),
)
