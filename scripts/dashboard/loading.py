"""Measure how long the site of a large history takes to load in Debian's Chromium, and how large its files are.

    python scripts/dashboard/loading.py            # 10,000 runs of 7 and of 70 series; in about 3 minutes
    python scripts/dashboard/loading.py --runs 500

The time is from the start of the navigation until the first series is drawn, of a fresh page, the slowest of five. The
histories are generated: one run a night of ten machines, with a planted change each. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from enginegate.report.dashboard.history_site import write_site
from enginegate.storage.history.entries import Snapshot
from enginegate.verdicts.history import examine
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests_harness.report.dashboard_pages import snapshot_of
from tests_harness.storage.histories import CANDIDATES, nights

LOADS = 5


def history(runs: int, machines: int) -> Snapshot:
    """As many runs in all, shared by the machines."""
    entries = []
    for number in range(machines):
        count, machine = runs // machines, f"machine-{number}"
        for entry in nights(count, {CANDIDATES[1]: (count * 7 // 10, 1.1)}, seed=number, machine=machine):
            entries.append(replace(entry, run=replace(entry.run, id=f"{machine}-{entry.run.id}")))
    return snapshot_of(entries)


def loading(browser: Browser, index: Path) -> float:
    """Seconds until the first series is drawn, the slowest of several loads."""
    found = []
    for _ in range(LOADS):
        page = browser.new_page()
        page.goto(index.as_uri())
        page.wait_for_selector("html[data-shown] .chart svg")
        found.append(page.evaluate("performance.now()") / 1000)
        page.close()
    return max(found)


def run() -> None:
    """Write the sites, load them, print the table."""
    parser = argparse.ArgumentParser(description="How long the site of a large history takes to load.")
    parser.add_argument("--runs", type=int, default=10_000)
    runs: int = parser.parse_args().runs
    print("| runs | series | written in (s) | page (MB) | all files (MB) | loads in (s) |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for machines in (1, 10):
            snapshot = history(runs, machines)
            site = Path(folder) / str(machines)
            begin = time.perf_counter()
            files = write_site(snapshot, examine(snapshot), site)
            seconds = time.perf_counter() - begin
            sizes = [path.stat().st_size / 1e6 for path in files]
            told = (
                f"{len(snapshot.runs):,} | {len(snapshot.series)} | {seconds:.1f} | {sizes[0]:.2f} | {sum(sizes):.1f}"
            )
            print(f"| {told} | {loading(browser, files[0]):.2f} |", flush=True)
        browser.close()


if __name__ == "__main__":
    run()
