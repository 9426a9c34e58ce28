"""What a margin of 0 would see, by resampled launches, as Markdown: python scripts/live/power.py RUN...

End to end with 2 % tolerated, by inter-token latency with 1 %, each gate one of 42 that share a false alarm of 1 % a
session, with the looks that are the default. The last column is the time that a race takes where the slowdown is there:
its launches, at this run's seconds of rounds and loading a launch.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from enginegate.gates.launches import LAUNCH_LOOKS, LAUNCH_SPREAD, resample_launches
from enginegate.gates.sequential import SpeedPolicy
from enginegate.storage.runs import load_record
from enginegate.verdicts.speed import launch_numbers

#: By metric: the slowdown that is looked for and tolerated, and the spread that the configuration believes on a GPU.
LOOKED_FOR = {"itl": (0.01, 0.01), "speedup": (0.02, 0.013)}
ALPHA = 0.01 / 42


def main(names: list[str]) -> None:
    """Print the table."""
    print("| run | engine | launches | metric | spread, % | FAIL, unchanged | FAIL, slower by | launches, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        record = load_record(Path(name))
        for race in record.races:
            rounds = [
                entry.seconds
                for launch in race.launches
                for blocks in launch.blocks.values()
                for block in blocks
                for entry in block.rounds
            ]
            each = (sum(rounds) + sum(launch.loading for launch in race.launches)) / len(race.launches)
            for metric, (slowdown, scale) in LOOKED_FOR.items():
                policy = SpeedPolicy(
                    margin=0.0,
                    tolerated=slowdown,
                    alpha=ALPHA,
                    looks=LAUNCH_LOOKS,
                    shift=replace(LAUNCH_SPREAD, scale=scale),
                )
                for workload in race.tokens:
                    numbers = launch_numbers(race, workload, metric)
                    unchanged, slower = resample_launches(numbers, policy, (0.0, slowdown))
                    cells = [
                        record.id,
                        race.head.engine,
                        str(len(numbers)),
                        f"{metric} {workload.split('-')[0]}",
                        f"{100 * np.std(numbers, ddof=1):.2f}",
                        f"{unchanged.fails:.2%}",
                        f"{slowdown:.0%}: {slower.fails:.1%}",
                        f"{slower.mean_launches:.1f}, {slower.mean_launches * each:.0f}",
                    ]
                    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])
