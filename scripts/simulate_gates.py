#!/usr/bin/env python3
"""Simulate the speed gate and its neighbours under several noise models: the table of docs/gates.md.

    python scripts/simulate_gates.py            print the tables as Markdown (a minute or two on one core)
    python scripts/simulate_gates.py --quick    the same with a tenth of the replications
    python scripts/simulate_gates.py --write    and put them between the markers of docs/gates.md

Seeds are fixed, so everyone gets the same numbers. The noise levels are assumptions; ``pytest --gate-audit`` measures
the real ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr
from scipy.stats import binom, rankdata, wilcoxon

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from enginegate.gates.compare import compare_samples  # noqa: E402
from enginegate.gates.robust import locate  # noqa: E402
from enginegate.gates.sequential import (  # noqa: E402
    FAILED,
    PASSED,
    UNDECIDED,
    Outcome,
    SpeedPolicy,
    decide_many,
    fail_level,
    pass_level,
)
from enginegate.gates.sessions import Anchor, combine  # noqa: E402
from enginegate.gates.verdict import Status  # noqa: E402
from enginegate.measure.order import block_order  # noqa: E402

Array = NDArray[np.float64]
DOCUMENT = ROOT / "docs" / "gates.md"
SEED = 20240607
SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15)
LIVE = SpeedPolicy(margin=0.02, tolerated=0.06)
STORED = SpeedPolicy()
EXACT = Anchor(0.0)
#: Who races, each alone in its unit: the first two are compared, the others run between them.
UNITS = (("reference",), ("candidate",), ("third",), ("fourth",))
ROWS = [block_order(UNITS, block) for block in range(LIVE.looks[-1])]
#: Of each block, +1 where the reference runs before the candidate, else -1: what the gate is told.
ORDER = np.array([1.0 if row.index("reference") < row.index("candidate") else -1.0 for row in ROWS])
#: Gates that the shared budget of 1 % is split over in the third table.
FAMILY = 24


@dataclass(frozen=True)
class Noise:
    """How the time of a round varies, on the log scale.

    Attributes:
        name: for the table.
        round_sd: independent noise of each round.
        session_sd: shift that all rounds of a session share.
        drift_sd: standard deviation of a session's linear drift from its first to its last round.
        outliers: share of rounds that take 20 to 100 % longer.
        correlation: lag-1 autocorrelation of an engine's own rounds.
        order: shift of the ratio by the order within a block.
        left_behind: by how much longer a round takes right after the third engine, of the same block.
        ratio_sd: shift of the *ratio* between sessions, which interleaving cannot take out.
    """

    name: str
    round_sd: float
    session_sd: float = 0.0
    drift_sd: float = 0.0
    outliers: float = 0.0
    correlation: float = 0.0
    order: float = 0.0
    ratio_sd: float = 0.0
    left_behind: float = 0.0

    def session(self, generator: np.random.Generator, count: int, blocks: int) -> tuple[Array, Array]:
        """Log times of reference and candidate, in the arena's blocks; two arrays of shape (count, blocks)."""
        machine = self.session_sd * generator.standard_normal((count, 1))
        drift = self.drift_sd * generator.standard_normal((count, 1))
        reference, candidate = (
            machine + drift * (self._turns(name, blocks) / (len(UNITS) * blocks) - 0.5) + self._after(name, blocks)
            for name in ("reference", "candidate")
        )
        reference = reference + self._rounds(generator, count, blocks) + self.order * ORDER[:blocks]
        candidate = candidate + self._rounds(generator, count, blocks)
        return reference, candidate + self.ratio_sd * generator.standard_normal((count, 1))

    def _turns(self, name: str, blocks: int) -> Array:
        """Which round of the session is the engine's, in each block."""
        return np.array([block * len(UNITS) + row.index(name) for block, row in enumerate(ROWS[:blocks])], dtype=float)

    def _after(self, name: str, blocks: int) -> Array:
        """What the engine before left behind, in each block."""
        before = [row[row.index(name) - 1] if row.index(name) else "" for row in ROWS[:blocks]]
        return np.array([self.left_behind * (each == "third") for each in before])

    def _rounds(self, generator: np.random.Generator, count: int, blocks: int) -> Array:
        noise = generator.standard_normal((count, blocks))
        keep = np.sqrt(1.0 - self.correlation**2)
        for index in range(1, blocks if self.correlation else 0):
            noise[:, index] = self.correlation * noise[:, index - 1] + keep * noise[:, index]
        slow = generator.random((count, blocks)) < self.outliers
        return self.round_sd * noise + slow * np.log1p(generator.uniform(0.2, 1.0, (count, blocks)))


NOISES = (
    Noise("1 %", 0.01),
    Noise("3 %", 0.03),
    Noise("10 %", 0.10),
    Noise("3 %, session shift 3 %", 0.03, session_sd=0.03),
    Noise("3 %, shift 3 %, drift 5 %, 5 % outliers", 0.03, session_sd=0.03, drift_sd=0.05, outliers=0.05),
    Noise("10 %, shift 5 %, drift 5 %, 5 % outliers", 0.10, session_sd=0.05, drift_sd=0.05, outliers=0.05),
    Noise("3 %, order effect 3 %", 0.03, order=0.03),
    Noise("1 %, 3 % left behind by a third engine", 0.01, left_behind=0.03),
    Noise("3 %, correlated blocks (0.3)", 0.03, correlation=0.3),
    Noise("3 %, correlated blocks (0.6)", 0.03, correlation=0.6),
)


@dataclass(frozen=True)
class Cell:
    """What one gate did at one slowdown: shares of FAIL and PASS, and mean blocks (or rounds a side)."""

    fails: float
    passes: float
    blocks: float


Gate = Callable[[Noise, float, int, np.random.Generator], Cell]


def live(policy: SpeedPolicy) -> Gate:
    """This gate against a reference in the same arena."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        return _cell(decide_many(_ratios(noise, slowdown, count, generator), EXACT, policy, order=ORDER))

    return run


def stored(policy: SpeedPolicy, sessions: int) -> Gate:
    """This gate against stored sessions of as many blocks."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        located = locate(_ratios(noise, 0.0, count * sessions, generator), order=ORDER)
        shape = (count, sessions)
        anchor = combine(located.estimate.reshape(shape), located.error.reshape(shape), located.df, policy.shift)
        return _cell(decide_many(_ratios(noise, slowdown, count, generator), anchor, policy, order=ORDER))

    return run


def wilcoxon_gate(policy: SpeedPolicy) -> Gate:
    """The same looks and levels with Wilcoxon's signed-rank test in place of the trimmed mean."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        slower = -_ratios(noise, slowdown, count, generator)
        status, blocks = np.zeros(count, dtype=np.int8), np.zeros(count, dtype=np.int64)
        for look in policy.looks:
            still = np.flatnonzero(status == UNDECIDED)
            final = look == policy.looks[-1]
            method = "exact" if look <= 24 else "approx"
            seen = slower[still, :look]
            bad, good = (
                wilcoxon(seen - np.log1p(bound), alternative=side, axis=1, method=method).pvalue
                for bound, side in ((policy.margin, "greater"), (policy.tolerated, "less"))
            )
            fail, passed = bad <= fail_level(look, policy, final=final), good <= pass_level(look, policy, final=final)
            status[still] = np.where(fail, FAILED, np.where(passed, PASSED, UNDECIDED))
            blocks[still] = look
        return _cell(Outcome(status, blocks))

    return run


def trimmed(policy: SpeedPolicy, trim: float) -> Gate:
    """This gate with another share trimmed; 0 is Student's t."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        return _cell(decide_many(_ratios(noise, slowdown, count, generator), EXACT, policy, trim=trim, order=ORDER))

    return run


def mean_five_percent(rounds: int) -> Gate:
    """pytest-benchmark's ``--benchmark-compare-fail=mean:5%`` on times stored in an earlier session."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        old, new = _absolute(noise, slowdown, count, rounds, generator)
        fails = np.exp(new).mean(axis=1) > 1.05 * np.exp(old).mean(axis=1)
        return Cell(float(fails.mean()), float(1 - fails.mean()), rounds)

    return run


def asv(rounds: int) -> Gate:
    """asv's rule on stored samples: Mann-Whitney p < 0.002 and a ratio of medians above 1.1."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        old, new = _absolute(noise, slowdown, count, rounds, generator)
        ranks = rankdata(np.concatenate([old, new], axis=1), axis=1)[:, rounds:].sum(axis=1)
        statistic = ranks - rounds * (rounds + 1) / 2
        z = (np.abs(statistic - rounds**2 / 2) - 0.5) / np.sqrt(rounds**2 * (2 * rounds + 1) / 12)
        ratio = np.exp(np.median(new, axis=1) - np.median(old, axis=1))
        fails = (2 * ndtr(-z) < 0.002) & (ratio > 1.1)
        return Cell(float(fails.mean()), float(1 - fails.mean()), rounds)

    return run


def welch(rounds: int, margin: float, alpha: float) -> Gate:
    """Welch's t-test on log times against stored samples, with the margin of this gate."""

    def run(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Cell:
        old, new = _absolute(noise, slowdown, count, rounds, generator)
        first, second = old.var(axis=1, ddof=1) / rounds, new.var(axis=1, ddof=1) / rounds
        t = (new.mean(axis=1) - old.mean(axis=1) - np.log1p(margin)) / np.sqrt(first + second)
        df = (first + second) ** 2 * (rounds - 1) / (first**2 + second**2)
        fails = stdtr(df, -t) < alpha
        return Cell(float(fails.mean()), float(1 - fails.mean()), rounds)

    return run


def _ratios(noise: Noise, slowdown: float, count: int, generator: np.random.Generator) -> Array:
    reference, candidate = noise.session(generator, count, LIVE.looks[-1])
    return np.asarray(reference - candidate - np.log1p(slowdown))


def _absolute(
    noise: Noise, slowdown: float, count: int, rounds: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    old = noise.session(generator, count, rounds)[1]
    new = noise.session(generator, count, rounds)[1]
    return old, new + np.log1p(slowdown)


def _cell(outcome: Outcome) -> Cell:
    fails, passes = (float(np.mean(outcome.status == kind)) for kind in (FAILED, PASSED))
    return Cell(fails, passes, float(outcome.blocks.mean()))


def row(name: str, gate: Gate, noise: Noise, count: int, slowdowns: tuple[float, ...] = SLOWDOWNS) -> str:
    """One line of a table: share of FAIL at each slowdown, PASS where nothing changed, blocks at 0 and 8 %."""
    cells = [gate(noise, slowdown, count, np.random.default_rng(SEED)) for slowdown in slowdowns]
    shown = " | ".join(f"{100 * cell.fails:.1f}" for cell in cells)
    slow = cells[slowdowns.index(0.08)]
    passes = f"{100 * cells[0].passes:.1f} | {100 * slow.passes:.1f}"
    return f"| {name} | {shown} | {passes} | {cells[0].blocks:.1f} | {slow.blocks:.1f} |"


HEAD = (
    "| FAIL, % of runs, at a slowdown of | 0 | 2 % | 3 % | 5 % | 8 % | 10 % | 15 % | PASS at 0 | PASS at 8 % "
    "| blocks at 0 | blocks at 8 % |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def tables(count: int) -> Iterator[str]:
    """The Markdown of docs/gates.md, line by line."""
    shared = SpeedPolicy(margin=0.02, tolerated=0.06, alpha=0.01 / FAMILY)
    yield f"{count} simulated sessions a cell; the standard error of 1 % is {100 * np.sqrt(0.0099 / count):.2f} points."
    yield ""
    yield "**This gate and its neighbours.** alpha 1 % each; ours up to 40 blocks, theirs 30 rounds a side"
    yield "(pytest-benchmark's default is 5 at least)."
    yield ""
    yield HEAD
    contenders: tuple[tuple[str, Gate], ...] = (
        ("this gate, margin 2 %, tolerated 6 %", live(LIVE)),
        ("this gate, margin 3 %, tolerated 8 %", live(STORED)),
        (f"this gate, margin 2 %, one of {FAMILY} gates that share 1 %", live(shared)),
        ("pytest-benchmark mean:5%, 5 rounds, stored", mean_five_percent(5)),
        ("pytest-benchmark mean:5%, 30 rounds, stored", mean_five_percent(30)),
        ("asv (Mann-Whitney .002 and > 1.1), stored", asv(30)),
        ("Welch, margin 2 %, stored", welch(30, 0.02, 0.01)),
    )
    for noise in NOISES:
        yield f"| **{noise.name}** |" + " |" * 11
        for name, gate in contenders:
            yield row(name, gate, noise, count)
        if noise.correlation:
            told = replace(LIVE, correlation=noise.correlation)
            yield row("this gate, margin 2 %, told of the correlation by its audit", live(told), noise, count)
    yield ""
    yield "**Which test of location.** Margin 2 %, tolerated 6 %, the same looks and levels."
    yield ""
    yield HEAD
    for noise in (NOISES[0], NOISES[1], NOISES[4]):
        yield f"| **{noise.name}** |" + " |" * 11
        yield row("trimmed 15 % (this gate)", live(LIVE), noise, count)
        yield row("trimmed 10 %", trimmed(LIVE, 0.10), noise, count)
        yield row("trimmed 20 %", trimmed(LIVE, 0.20), noise, count)
        yield row("Student's t", trimmed(LIVE, 0.0), noise, count)
        yield row("Wilcoxon", wilcoxon_gate(LIVE), noise, min(count, 1000))
    yield ""
    yield "**Against stored sessions** of 40 blocks (margin 3 %, tolerated 8 %, alpha 1 %; 3 % noise, 5 % outliers)."
    yield ""
    yield HEAD
    for shift in (0.003, 0.01, 0.02):
        noise = Noise(f"the ratio shifts {100 * shift:g} % between sessions", 0.03, outliers=0.05, ratio_sd=shift)
        yield f"| **{noise.name}** |" + " |" * 11
        for sessions in (1, 3, 10):
            yield row(f"{sessions} stored session{'s' if sessions > 1 else ''}", stored(STORED, sessions), noise, count)
    yield ""
    yield from unpaired_table(count // 4)
    yield ""
    yield from accuracy_table(count)


def unpaired_table(count: int) -> Iterator[str]:
    """``enginegate compare``: absolute times of sessions that never ran side by side."""
    yield f"**Unpaired sessions** (`enginegate compare`), {count} comparisons a cell: 30 samples a session, 3 % noise,"
    yield f"alpha 1 %, margin {100 * STORED.margin:g} %, tolerated {100 * STORED.tolerated:g} %;"
    yield "FAIL / PASS / INCONCLUSIVE in %."
    yield ""
    yield "| base sessions, session shift | 0 | 5 % | 10 % | 15 % | 30 % | 60 % |\n|---|---|---|---|---|---|---|"
    for shift in (0.01, 0.03, 0.08):
        for sessions in (1, 3, 10):
            cells = []
            for slowdown in (0.0, 0.05, 0.10, 0.15, 0.30, 0.60):
                generator = np.random.default_rng(SEED)
                shape = (count, sessions + 1)
                times = np.exp(
                    shift * generator.standard_normal((*shape, 1)) + 0.03 * generator.standard_normal((*shape, 30))
                )
                times[:, -1] *= 1 + slowdown
                rule = {"margin": STORED.margin, "tolerated": STORED.tolerated}
                found = [compare_samples(list(case[:-1]), case[-1], **rule).status for case in times]
                shares = (100 * found.count(kind) / count for kind in (Status.FAIL, Status.PASS, Status.INCONCLUSIVE))
                cells.append(" / ".join(f"{share:.1f}" for share in shares))
            yield f"| {sessions}, {100 * shift:g} % | {' | '.join(cells)} |"


def accuracy_table(count: int) -> Iterator[str]:
    """Accuracy rules on the same items: reference right on 60 %, 2 % of the answers flip either way by themselves."""
    yield "**Accuracy, both engines on the same items** (baseline 60 % right, 2 % benign flips): FAIL in %."
    yield ""
    yield "| items | rule | loss 0 | 0.5 | 1 | 2 | 3 | 5 points |\n|---|---|---|---|---|---|---|---|"
    for items in (500, 1000, 4096):
        shares: dict[str, list[float]] = {
            "vLLM, relative tolerance .08": [],
            "MLPerf, .99 of the reference": [],
            "TensorRT-LLM, unpaired z, alpha 5 %": [],
            "this gate, exact McNemar, alpha 1 %": [],
        }
        for loss in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
            generator = np.random.default_rng(SEED)
            lost, gained = 0.01 + loss, 0.01
            right = generator.binomial(items, 0.6, count)
            losses = generator.binomial(right, min(lost / 0.6, 1.0))
            gains = generator.binomial(items - right, gained / 0.4)
            before, after = right / items, (right - losses + gains) / items
            rules = (
                after < 0.92 * before,
                after < 0.99 * before,
                after < before - 1.645 * np.sqrt(2 * 0.25 / items),
                binom.sf(losses - 1, losses + gains, 0.5) <= 0.01,
            )
            for name, fails in zip(shares, rules, strict=True):
                shares[name].append(100 * float(np.mean(fails)))
        for name, values in shares.items():
            yield f"| {items} | {name} | {' | '.join(f'{value:.1f}' for value in values)} |"


def main() -> int:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the replications")
    parser.add_argument("--write", action="store_true", help=f"replace the table in {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    count = 800 if options.quick else 8000
    if not options.write:
        print("\n".join(tables(count)))
        return 0
    document = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "<!-- simulation: begin -->\n", "<!-- simulation: end -->"
    if begin not in document or end not in document:
        print(f"{DOCUMENT} has no simulation markers", file=sys.stderr)
        return 2
    before, rest = document.split(begin, 1)
    after = rest.split(end, 1)[1]
    DOCUMENT.write_text(before + begin + "\n".join(tables(count)) + "\n" + end + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
