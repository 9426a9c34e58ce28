"""Simulate searches for a planted commit, and write docs/results/history/bisect.txt.

    python scripts/history/simulate_bisect.py            # in about a minute
    python scripts/history/simulate_bisect.py --small    # prints a page of a twentieth of the size

Each search is the command's own: the same steps, and at each the gate of a live race on simulated launches. What is
simulated is the number that a launch gives: the true slowdown, and noise that launches spread by.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from enginegate.gates.launches import LAUNCH_SPREAD, decide_launches
from enginegate.gates.sequential import FAILED, PASSED, SpeedPolicy
from enginegate.verdicts.bisect import Answer, Race, race_of, search, steps_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results" / "history" / "bisect.txt"
SEED = 20261129


@dataclass(frozen=True)
class Law:
    """What is planted, and how launches spread (standard deviation of a log ratio). ``tails``: of Student's t, or 0."""

    commits: int
    size: float
    spread: float
    tails: int = 0


LAWS = (
    Law(64, 0.05, 0.005),
    Law(64, 0.05, 0.01),
    Law(64, 0.05, 0.015),
    Law(64, 0.05, 0.015, 4),
    Law(64, 0.05, 0.02),
    Law(64, 0.05, 0.03),
    Law(64, 0.10, 0.02),
    Law(64, 0.03, 0.01),
    Law(16, 0.05, 0.015),
    Law(1000, 0.05, 0.015),
)


def searches(law: Law, count: int) -> tuple[float, float, float, float]:
    """Shares of searches that name the commit, name another, and leave it open; and the mean launches of one."""
    generator = np.random.default_rng(SEED)
    race = race_of(law.size, steps_of(law.commits))
    policy = policy_of(race)
    right = wrong = launches = 0
    for _ in range(count):
        first, used = int(generator.integers(law.commits)), [0]

        def ask(place: int, first: int = first, used: list[int] = used) -> Answer:
            noise = generator.standard_normal(race.looks[-1])
            if law.tails:
                noise = generator.standard_t(law.tails, race.looks[-1]) / np.sqrt(law.tails / (law.tails - 2))
            slower = np.log1p(law.size) if place >= first else 0.0
            outcome = decide_launches((law.spread * noise - slower)[None, :], policy)
            used[0] += int(outcome.blocks[0])
            return {FAILED: Answer.BAD, PASSED: Answer.GOOD}.get(int(outcome.status[0]), Answer.SKIP)

        found = search(law.commits, ask)
        right += found.first == first
        wrong += found.first is not None and found.first != first
        launches += used[0]
    return right / count, wrong / count, 1 - (right + wrong) / count, launches / count


def policy_of(race: Race) -> SpeedPolicy:
    """The gate of a step, as ``enginegate duet`` makes it."""
    return SpeedPolicy(
        margin=race.margin,
        tolerated=race.tolerated,
        alpha=race.alpha,
        beta=race.beta,
        looks=race.looks,
        shift=LAUNCH_SPREAD,
    )


def page(size: float) -> str:
    """The page's text."""
    count = max(50, round(2000 * size))
    lines = [
        "# Searches for a planted commit, simulated",
        "",
        "Made by `scripts/history/simulate_bisect.py`: the steps of `enginegate history bisect`, each judged by the"
        " gate of a live race on simulated launches. On the CPU where it was measured launches spread by 1.0 to"
        " 2.5 %, on an H200 by 0.3 %.",
        "",
        f"{count} searches for each line; the commit is anywhere, and the last one is known to be slower.",
        "",
        "| commits | slowdown | launches spread by | steps | error of a step | named | another named | left open |"
        " launches |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for law in LAWS:
        steps = steps_of(law.commits)
        right, wrong, left, launches = searches(law, count)
        tails = f", t with {law.tails} degrees" if law.tails else ""
        lines.append(
            f"| {law.commits} | {100 * law.size:g} % | {100 * law.spread:g} %{tails} | {steps}"
            f" | {100 * race_of(law.size, steps).alpha:.2g} % | {100 * right:.1f} % | {100 * wrong:.1f} %"
            f" | {100 * left:.1f} % | {launches:.0f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    if sys.argv[1:] == ["--small"]:
        print(page(0.05))
    elif not sys.argv[1:]:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(1.0), encoding="utf-8")
    else:
        raise SystemExit(__doc__)
