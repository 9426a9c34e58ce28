"""The throughput-latency curve of an engine: as a plot, a table and plain values."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.report.serving import PERCENTILES, SHOWN, milliseconds
from enginegate.verdicts.capacity import Curve, CurvePoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"PASS": "tab:green", "FAIL": "tab:red", "INCONCLUSIVE": "tab:orange"}


def capacity_text(curve: Curve) -> str:
    """The capacity in words."""
    low, high = curve.capacity.low, curve.capacity.high
    share = f"{100 * curve.slo.share:g} % within {curve.slo}"
    if low == 0 and math.isinf(high):
        return f"capacity: no rate was decided ({share})"
    if low == 0:
        return f"capacity: below {high:.3g} requests/s ({share})"
    if math.isinf(high):
        return f"capacity: at least {low:.3g} requests/s ({share})"
    return f"capacity: between {low:.3g} and {high:.3g} requests/s ({share})"


def curve_rows(curve: Curve) -> list[list[str]]:
    """A table, headings first."""
    rows = [["offered/s", "goodput/s", "tokens/s", "within", "TTFT p99", "E2EL p50", "E2EL p99", "runs", "level kept"]]
    for point in curve.points:
        said = point.figures

        def cell(metric: str, name: str, point: CurvePoint = point) -> str:
            return milliseconds(point.figures.percentiles.get(metric, {}).get(name), interval=False)

        rows.append(
            [
                f"{point.rate:.3g}",
                f"{said.goodput:.3g}",
                f"{said.tokens_per_second:.4g}",
                f"{100 * point.verdict.estimate:.1f} %",
                f"{cell('ttft', 'p99')} ms",
                f"{cell('e2el', 'p50')} ms",
                f"{cell('e2el', 'p99')} ms",
                str(point.runs),
                point.verdict.status.value + (", requests pile up" if point.saturated else ""),
            ]
        )
    return rows


def curve_values(curve: Curve) -> dict[str, Any]:
    """Plain values, for JSON: what is not known, or has no end, is None."""
    return {
        "engine": curve.engine,
        "load": curve.load,
        "slo": curve.slo.model_dump(),
        "capacity": {"low": _known(curve.capacity.low), "high": _known(curve.capacity.high)},
        "knee": curve.knee,
        "error_probability_of_each_rate": curve.level,
        "points": [_values(point) for point in curve.points],
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _values(point: CurvePoint) -> dict[str, Any]:
    said = point.figures
    return {
        "rate": point.rate,
        "status": point.verdict.status.value,
        "explanation": point.verdict.explanation,
        "kept": _known(point.verdict.estimate),
        "kept_interval": [_known(end) for end in point.verdict.interval],
        "saturated": point.saturated,
        "believed": point.believed,
        "runs": point.runs,
        "goodput": _known(said.goodput),
        "requests_per_second": _known(said.requests_per_second),
        "tokens_per_second": _known(said.tokens_per_second),
        "seconds": {
            metric: {
                name: [_known(each) for each in (found.value, found.low, found.high)] for name, found in names.items()
            }
            for metric, names in said.percentiles.items()
        },
    }


def write_curve_csv(curves: Sequence[Curve], path: Path) -> None:
    """One row for each engine and rate, latencies in milliseconds with their intervals. Raises OSError."""
    latencies = [(metric, name) for metric in SHOWN for name in PERCENTILES]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *(
                    "Engine",
                    "Rate /s",
                    "Goodput /s",
                    "Requests /s",
                    "Tokens /s",
                    "Within (%)",
                    "Level Kept",
                    "Saturated",
                ),
                *(f"{metric.upper()} {name}{end} (ms)" for metric, name in latencies for end in ("", " Low", " High")),
            ]
        )
        for curve in curves:
            for point in curve.points:
                said = point.figures
                row = [
                    curve.engine,
                    f"{point.rate:.6g}",
                    *(_number(each) for each in (said.goodput, said.requests_per_second)),
                ]
                row += [_number(said.tokens_per_second), f"{100 * point.verdict.estimate:.2f}"]
                row += [point.verdict.status.value, "yes" if point.saturated else "no"]
                for metric, name in latencies:
                    found = said.percentiles.get(metric, {}).get(name)
                    ends = (found.value, found.low, found.high) if found is not None else (math.nan,) * 3
                    row += [_number(1000 * each) for each in ends]
                writer.writerow(row)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def draw_curves(curves: Sequence[Curve]) -> Figure:
    """For each engine a row of two panels: latency over the offered rate, and what is answered of it.

    The capacity's interval is shaded, the knee is a line, and what each rate's verdict was is its colour.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6 * len(curves)), layout="constrained")
    axes = figure.subplots(len(curves), 2, squeeze=False)
    for (left, right), curve in zip(axes, curves, strict=True):
        _latency(left, curve)
        _throughput(right, curve)
    told = "dots: level kept (green), not kept (red), undecided (orange); bars: 95 % intervals"
    figure.supxlabel(told, fontsize=8, color="0.35")
    return figure


def _latency(axis: Any, curve: Curve) -> None:
    for metric, name, colour, style in (
        ("e2el", "p99", "tab:blue", "-"),
        ("e2el", "p50", "tab:blue", "--"),
        ("ttft", "p99", "tab:purple", "-"),
        ("ttft", "p50", "tab:purple", "--"),
    ):
        seen = [point for point in curve.points if metric in point.figures.percentiles]
        found = [point.figures.percentiles[metric][name] for point in seen]
        rates, values = [point.rate for point in seen], [1000 * each.value for each in found]
        axis.plot(rates, values, style, color=colour, label=f"{metric.upper()} {name}", linewidth=1.4)
        for rate, each in zip(rates, found, strict=True):
            low = each.value if math.isnan(each.low) else each.low
            high = each.value if math.isnan(each.high) else each.high
            axis.plot([rate, rate], [1000 * low, 1000 * high], color=colour, alpha=0.35, linewidth=3)
    for point in curve.points:
        if "e2el" in point.figures.percentiles:
            colour = _COLOURS[point.verdict.status.value]
            axis.plot(point.rate, 1000 * point.figures.percentiles["e2el"]["p99"].value, "o", color=colour, zorder=3)
    for name in ("ttft", "e2el"):
        limit = getattr(curve.slo, name)
        if limit is not None:
            axis.axhline(1000 * limit, color="tab:red", linewidth=0.8, linestyle=":")
            axis.text(
                1.0,
                1000 * limit,
                f" {name.upper()} limit",
                fontsize=8,
                color="tab:red",
                va="center",
                transform=axis.get_yaxis_transform(),
            )
    _common(axis, curve)
    axis.set_yscale("log")
    axis.set_ylabel("latency from the scheduled arrival (ms)")
    axis.set_title(f"{curve.engine}: latency\n{curve.load}", fontsize=11)
    axis.legend(fontsize=8, frameon=False)


def _throughput(axis: Any, curve: Curve) -> None:
    rates = [point.rate for point in curve.points]
    axis.plot(rates, rates, color="0.7", linewidth=0.8, label="offered")
    answered = [point.figures.requests_per_second for point in curve.points]
    axis.plot(rates, answered, "-", color="tab:blue", label="answered", linewidth=1.4)
    axis.plot(rates, [point.figures.goodput for point in curve.points], "-", color="tab:green", label="goodput")
    for point in curve.points:
        axis.plot(point.rate, point.figures.goodput, "o", color=_COLOURS[point.verdict.status.value], zorder=3)
    _common(axis, curve)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("requests/s")
    axis.set_title(capacity_text(curve).replace(" (", "\n("), fontsize=9)
    axis.legend(fontsize=8, frameon=False)


def _common(axis: Any, curve: Curve) -> None:
    low, high = curve.capacity.low, curve.capacity.high
    if low > 0 and math.isfinite(high):
        axis.axvspan(low, high, color="tab:orange", alpha=0.18, label="capacity")
    if curve.knee is not None:
        axis.axvline(curve.knee, color="0.4", linewidth=0.9, linestyle="-.", label="knee")
    axis.set_xlabel("offered load (requests/s)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
