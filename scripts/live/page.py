"""Fill docs/live_results.md from its records: python scripts/live/page.py [--check]

Below a line ``<!-- tables: RUN... -->`` or ``<!-- power: RUN... -->`` stands what tables.py or power.py says of these
runs (of docs/results/live/records), up to ``<!-- end -->``.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import power
import tables

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "live_results.md"
RECORDS = ROOT / "docs" / "results" / "live" / "records"


def _said(script: Callable[[list[str]], object], runs: str) -> list[str]:
    """What a script prints of these runs, in lines."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        script([str(RECORDS / run) for run in runs.split()])
    return said.getvalue().splitlines()


TABLES = {"tables": partial(_said, tables.main), "power": partial(_said, power.main)}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
