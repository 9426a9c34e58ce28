"""Measure serving of the default model's engines, and write its table into docs/serving.md.

    python scripts/serving_table.py cpu                      # measures on this machine, minutes; then writes the table
    python scripts/serving_table.py cpu --write-only         # writes the table from docs/results/serving/cpu.json again
    python scripts/serving_table.py h200 --engine vllm --precision fp16 --config FILE

The load generator is certified first. Results lie in docs/results/serving: NAME.json, .csv and .png.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginegate.cli import main
from enginegate.machine.fingerprint import fingerprint
from enginegate.measure.serving.certify import certify

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS, PAGE = REPOSITORY / "docs" / "results" / "serving", REPOSITORY / "docs" / "serving.md"
HEADINGS = [
    *("engine", "offered /s", "goodput /s", "tokens /s", "TTFT p50", "TTFT p99"),
    *("TPOT p50", "E2EL p50", "E2EL p99", "level"),
]


def measure(name: str, options: list[str], generator_rate: float) -> None:
    """Take the curves and the generator's own figures."""
    run = certify(generator_rate, 2000)
    with tempfile.TemporaryDirectory() as folder:
        code = main(["serve", "--out", folder, *options])
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


def section(found: dict[str, Any], name: str) -> str:
    """What the page says of one set of results."""
    return "\n".join(_lines(found, name))


def _lines(found: dict[str, Any], name: str) -> Iterator[str]:
    yield f"On `{found['machine']}`; latencies in milliseconds, p99 with its 95 % interval:"
    yield ""
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|" + "---|" * len(HEADINGS)
    for curve in found["curves"]:
        for point in curve["points"]:
            yield "| " + " | ".join(_cells(curve["engine"], point)) + " |"
    yield ""
    for curve in found["curves"]:
        low, high = curve["capacity"]["low"], curve["capacity"]["high"]
        said = _between(low, high)
        slo = curve["slo"]
        limits = ", ".join(f"{key.upper()} {slo[key]:g} s" for key in ("ttft", "tpot", "e2el") if slo[key] is not None)
        yield (
            f"- `{curve['engine']}` ({curve['load']}): the capacity {said} requests/s"
            f" ({100 * slo['share']:g} % within {limits})."
        )
    generator = found["generator"]
    lag, limit, _ = generator["checks"]["lag"]
    little = generator["checks"]["little"][0]
    broken = [reason for _, _, reason in generator["checks"].values() if reason]
    yield (
        f"- The load generator beside a mock server, {generator['requests']} requests at {generator['rate']:g}/s: sent "
        f"{1e3 * lag:.2f} ms late at the 99th percentile ({1e3 * limit:g} allowed), Little's law off by {little:.2%}; "
        + ("; ".join(broken) if broken else "every invariant held")
        + "."
    )
    yield ""
    yield f"![Latency and goodput over the offered load](results/serving/{name}.png)"


def _between(low: float, high: float | None) -> str:
    if high is None:
        return f"is at least {low:.3g}" if low else "is not known"
    return f"lies between {low:.3g} and {high:.3g}" if low else f"is below {high:.3g}"


def _cells(engine: str, point: dict[str, Any]) -> list[str]:
    def ms(metric: str, percentile: str, *, interval: bool = False) -> str:
        found = point["seconds"].get(metric, {}).get(percentile)
        if found is None or found[0] is None:
            return "n/a"
        value, low, high = (None if each is None else f"{1e3 * each:.3g}" for each in found)
        return f"{value} [{low or '…'}, {high or '…'}]" if interval else str(value)

    return [
        f"`{engine}`",
        f"{point['rate']:.3g}",
        f"{point['goodput']:.3g}",
        f"{point['tokens_per_second']:.4g}",
        ms("ttft", "p50"),
        ms("ttft", "p99", interval=True),
        ms("tpot", "p50"),
        ms("e2el", "p50"),
        ms("e2el", "p99", interval=True),
        point["status"] + (", piles up" if point["saturated"] else ""),
    ]


def write(name: str, page: Path = PAGE) -> None:
    """Put the table of ``docs/results/serving/NAME.json`` between its marks in the page, at the end of them if new."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- serving: {name} -->", f"<!-- end of serving: {name} -->"
    body = f"{begin}\n{section(found, name)}\n{end}"
    if begin in text:
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: body, text, flags=re.DOTALL)
    else:
        text = text.replace("\n## When it does not help", f"\n{body}\n\n## When it does not help")
    page.write_text(text, encoding="utf-8")


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the results: cpu, h200")
    parser.add_argument("--write-only", action="store_true", help="measure nothing")
    parser.add_argument("--generator-rate", type=float, default=200.0)
    known, options = parser.parse_known_args()
    if not known.write_only:
        measure(known.name, options, known.generator_rate)
    write(known.name)


if __name__ == "__main__":
    run()
