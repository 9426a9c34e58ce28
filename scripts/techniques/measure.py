"""Measure all techniques of serving on one engine and keep the record:

python scripts/techniques/measure.py [--model NAME] [--engine NAME] [--precision NAME] [--out FOLDER] [PYTEST ARGUMENTS]
python scripts/techniques/measure.py --keep RUN [--out FOLDER]     (a run that was taken elsewhere, as on a GPU)

Runs ``pytest tests_perf -m techniques`` and puts the session's run record into FOLDER (docs/results/techniques),
named by model, engine and machine. Gates that fail are in the record, and end this command with 1, too. Then
``python scripts/techniques/page.py`` fills the tables of docs/optimization_techniques.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from enginegate.core.records import RunRecord
from enginegate.storage.runs import latest_record, load_record, save_record

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "results" / "techniques"


def main() -> int:
    """Measure, and keep what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="int8_wo")
    parser.add_argument("--out", type=Path, default=RECORDS)
    parser.add_argument("--keep", type=Path, help="a run's folder: keep its record, and measure nothing")
    asked, more = parser.parse_known_args()
    if asked.keep is not None:
        return keep(load_record(asked.keep), asked.out)
    with tempfile.TemporaryDirectory(prefix="enginegate-") as runs:
        chosen = [f"--model={asked.model}", f"--engine={asked.engine}", f"--precision={asked.precision}"]
        tests = [sys.executable, "-m", "pytest", str(ROOT / "tests_perf"), "-m", "techniques", *chosen, *more]
        code = subprocess.run([*tests, f"--runs={runs}", "--no-require-baseline"], cwd=ROOT, check=False).returncode
        record = load_record(latest_record(Path(runs)))
    return keep(record, asked.out) or code


def keep(record: RunRecord, out: Path) -> int:
    """Put a record with techniques where the page looks for it, under a name that the next one replaces."""
    if not record.techniques:
        sys.exit("no technique was measured")
    name = f"{record.techniques[0].engine}-{record.fingerprint.key}"
    print(save_record(record.model_copy(update={"id": name}), out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
