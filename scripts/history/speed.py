"""How long `enginegate history ls` takes on a large history: it is made in a folder of its own, then asked.

python scripts/history/speed.py [SERIES POINTS]    # default: 1000 500, in about 2 minutes, most of it to make it
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from enginegate.storage.history import store
from enginegate.storage.history.entries import Entry, Figure, HistoryEngine, HistoryRun
from enginegate.storage.history.identity import SeriesKey

METRICS = ("latency", "ttft_seconds", "itl_seconds", "itl_p95", "itl_p99")
SEED = 20261130


def nights(series: int, points: int) -> list[Entry]:
    """Runs of one machine; every tenth engine has a change of 8 % in the middle. Noise of 3 %."""
    generator = np.random.default_rng(SEED)
    engines = [f"model-openvino-p{number}" for number in range(series // len(METRICS))]
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
    found = []
    for night in range(points):
        started = (begin + datetime.timedelta(days=night)).isoformat(timespec="seconds")
        run = HistoryRun(f"night-{night}", started, f"{night:07x}", "machine", "model", "complete", origin="enginegate")
        figures = []
        for number, engine in enumerate(engines):
            level = 1.08 if number % 10 == 0 and night >= points // 2 else 1.0
            for metric in METRICS:
                value = float(level * np.exp(0.03 * generator.standard_normal()))
                base = ("d" * 64, engine, "openvino", f"p{number}", "", "", "b1")
                key = SeriesKey(*base, metric, "seconds", "machine", "rounds")
                figures.append(Figure(key, value, None, None, ""))
        rows = [HistoryEngine(name, "openvino", name[-3:], "", "", "", "", "candidate") for name in engines]
        found.append(Entry(run, tuple(rows), tuple(figures)))
    return found


def main(series: int, points: int) -> None:
    """Make it, ask it, tell the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'history.sqlite'}"
        store.add(nights(series, points), url)
        for question in (["ls"], ["blame", "p10"]):
            command = [sys.executable, "-m", "enginegate", "history", *question, "--history", url]
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            last = done.stdout.strip().splitlines()[-1]
            print(f"history {' '.join(question)}: {time.perf_counter() - begun:.1f} s: {last}")


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        raise SystemExit(__doc__)
    main(*(map(int, sys.argv[1:]) if len(sys.argv) == 3 else (1000, 500)))
