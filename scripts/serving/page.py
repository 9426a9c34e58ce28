"""Fill the tables of docs/serving.md from their results: python scripts/serving/page.py [--check]

Below ``<!-- serving: NAME -->`` stands what docs/results/serving/NAME.json says, up to ``<!-- end -->``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginegate.core.serving_records import PercentileEntry
from enginegate.report.serving import milliseconds

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "docs" / "results" / "serving", ROOT / "docs" / "serving.md"
HEADINGS = [
    *("engine", "offered /s", "goodput /s", "tokens /s", "TTFT p50", "TTFT p99"),
    *("TPOT p50", "E2EL p50", "E2EL p99", "level"),
]


def serving(name: str) -> Iterator[str]:
    """What the page says of one file of results."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
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
        if found is None:
            return "n/a"
        value, low, high = (math.nan if each is None else each for each in found)
        return milliseconds(PercentileEntry(value=value, low=low, high=high), interval=interval)

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


TABLES = {"serving": serving}

if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
