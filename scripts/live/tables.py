"""What races against a live base said, as Markdown: python scripts/live/tables.py RUN...

A RUN is a run's folder or its run.json. One row a run and engine: launches, seconds, the verdicts, and of every
metric the head's change of speed with its standard error, and in brackets the spread of its launches, all in percent.
Where the run also timed the reference, the last column judges the same engine the stored way: by ten sessions of this
machine from another day (docs/results/live/stored-*.json), without the check of the reference's own time, which those
sessions do not keep.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from enginegate.config.schema import ShiftSection
from enginegate.core.records import RaceEntry, RunRecord
from enginegate.gates.sequential import RATIO_SHIFT, SpeedPolicy
from enginegate.gates.speed import replay_speed
from enginegate.measure.ratios import log_ratios, orders
from enginegate.storage.baselines import PerfBaseline
from enginegate.storage.runs import load_record
from enginegate.verdicts.inputs import StoredSessions
from enginegate.verdicts.speed import launch_numbers

STORED = Path(__file__).parents[2] / "docs" / "results" / "live"
METRICS = ("speedup", "itl", "ttft")
STATUSES = ("PASS", "INCONCLUSIVE", "FAIL")


def stored_baselines() -> dict[str, PerfBaseline]:
    """By workload, the ten sessions that a verdict of another day is held against."""
    found = [PerfBaseline.model_validate_json(file.read_bytes()) for file in sorted(STORED.glob("stored-*.json"))]
    return {baseline.workload: baseline for baseline in found}


def stored_way(record: RunRecord, engine: str) -> Counter[str]:
    """The verdicts on one engine by stored sessions, each gate with its share of 1 %, as the live ones have."""
    alphas = [entry.alpha for entry in record.verdicts if entry.alpha]
    believed = ShiftSection()
    counts: Counter[str] = Counter()
    for arena in record.arenas:
        stored = stored_baselines()[arena.workload].engines[engine]
        for metric in METRICS:
            policy = SpeedPolicy(alpha=min(alphas), shift=replace(RATIO_SHIFT, scale=getattr(believed, metric)))
            against = StoredSessions(sessions=stored.log_ratios(metric), orders=stored.orders(metric))
            verdict = replay_speed(
                log_ratios(arena.blocks, arena.reference, engine, metric),
                against.anchor(),
                policy,
                order=orders(arena.blocks, arena.reference, engine),
            )
            counts[verdict.status.name] += 1
    return counts


def seconds(race: RaceEntry) -> tuple[float, float]:
    """Of all rounds that were kept, and of loading."""
    rounds = sum(
        entry.seconds
        for launch in race.launches
        for part in (launch.blocks, launch.first_tokens)
        for blocks in part.values()
        for block in blocks
        for entry in block.rounds
    )
    return rounds, sum(launch.loading for launch in race.launches)


def told(race: RaceEntry, workload: str, metric: str) -> str:
    """``-0.4 ± 0.9 (1.8)``: the head's change of speed in percent, its standard error, the spread of launches."""
    numbers = np.array(launch_numbers(race, workload, metric))
    spread = numbers.std(ddof=1) if len(numbers) > 1 else math.nan
    return f"{100 * numbers.mean():+.1f} ± {100 * spread / math.sqrt(len(numbers)):.1f} ({100 * spread:.1f})"


def verdicts(record: RunRecord, engine: str) -> Counter[str]:
    """Of one engine's speed gates."""
    return Counter(
        entry.status for entry in record.verdicts if entry.inputs.get("candidate") == engine and entry.metric in METRICS
    )


def row(record: RunRecord, race: RaceEntry) -> list[str]:
    """One engine of one run."""
    rounds, loading = seconds(race)
    cells = [
        record.started[:16].replace("T", " "),
        race.head.engine,
        str(len(race.launches)),
        f"{rounds:.0f} + {loading:.0f}",
        counted(verdicts(record, race.head.engine)),
    ]
    cells += [told(race, workload, metric) for workload in race.tokens for metric in METRICS]
    if record.arenas:
        cells.append(counted(stored_way(record, race.head.engine)))
    return cells


def counted(statuses: Counter[str]) -> str:
    """``5 / 1 / 0``: PASS, INCONCLUSIVE, FAIL."""
    return " / ".join(str(statuses.get(status, 0)) for status in STATUSES)


def main(names: list[str]) -> None:
    """Print the table."""
    records = [load_record(Path(name)) for name in names]
    works = list(next(race for record in records for race in record.races).tokens)
    head = ["started (UTC)", "engine", "launches", "seconds of rounds + loading", "PASS / INCONCLUSIVE / FAIL"]
    head += [f"{metric} {work.split('-')[0]}, %" for work in works for metric in METRICS]
    if any(record.arenas for record in records):
        head.append("the stored way")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for record in records:
        for race in record.races:
            cells = row(record, race)
            print(f"| {' | '.join([*cells, *['–'] * (len(head) - len(cells))])} |")
    total = sum((verdicts(record, race.head.engine) for record in records for race in record.races), Counter())
    print(f"\nAll: {counted(total)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])
