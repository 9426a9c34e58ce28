"""Measure serving of the default model's engines for docs/serving.md.

    python scripts/serving/measure.py cpu                      # on this machine, minutes
    python scripts/serving/measure.py h200 --engine vllm --precision fp16 --config FILE

The load generator is certified first. Further options are those of ``enginegate serve``. Results go to
docs/results/serving: NAME.json, .csv and .png. Then ``python scripts/serving/page.py`` fills the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from enginegate.cli import main as enginegate
from enginegate.machine.fingerprint import fingerprint
from enginegate.measure.serving.certify import certify

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "serving"


def measure(name: str, options: list[str], generator_rate: float) -> None:
    """Take the curves and the generator's own figures."""
    run = certify(generator_rate, 2000)
    with tempfile.TemporaryDirectory() as folder:
        code = enginegate(["serve", "--out", folder, *options])
        if code:
            sys.exit(code)
        RESULTS.mkdir(parents=True, exist_ok=True)
        for ending in ("csv", "png"):
            shutil.copyfile(Path(folder) / f"serving_curve.{ending}", RESULTS / f"{name}.{ending}")
        curves = json.loads((Path(folder) / "serving_curve.json").read_text(encoding="utf-8"))
    found = {
        "machine": fingerprint().key,
        "generator": {
            "rate": generator_rate,
            "requests": len(run.due),
            "checks": {check.name: [check.value, check.limit, check.reason] for check in run.checks},
        },
        "curves": curves,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the results: cpu, h200")
    parser.add_argument("--generator-rate", type=float, default=200.0)
    known, options = parser.parse_known_args()
    measure(known.name, options, known.generator_rate)


if __name__ == "__main__":
    main()
