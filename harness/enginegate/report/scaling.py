"""What a sweep found at each size, and its surface: throughput over batch size and input length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from enginegate.core.records import Round, RunRecord, SweepEntry, SweepPoint
from enginegate.report.cost import price_of
from enginegate.report.side_table import SideTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADINGS = (
    "Engine", "Input", "Output", "Batch", "Tokens/sec", "of half the batch", "TTFT (ms)", "ITL (ms)", "Cost/1M Output",
    "Cost/1M In+Out", "Joules/Token",
)  # fmt: skip
_NOTES = (
    "Medians over interleaved rounds of one engine. Tokens/sec: produced, end to end. Of half the batch: median of the"
    " ratios within blocks.",
)


def scaling_table(record: RunRecord) -> SideTable | None:
    """One line for each engine and size; None where nothing was swept."""
    rows = [
        row
        for entry in record.sweeps
        for point in sorted(entry.points, key=lambda each: (each.input_len, each.output_len, each.batch_size))
        if (row := _row(record, entry, point)) is not None
    ]
    if not rows:
        return None
    price = price_of(record)
    notes = _NOTES if price is None else (*_NOTES, price.note)
    return SideTable("scaling", f"{record.model.label}: scaling", _HEADINGS, tuple(rows), notes)


def _row(record: RunRecord, entry: SweepEntry, point: SweepPoint) -> tuple[str, ...] | None:
    rounds = _rounds(entry, point)
    if not rounds:
        return None
    price, rate = price_of(record), throughput(rounds)
    half = next(
        (
            each
            for each in entry.points
            if (2 * each.batch_size, each.input_len, each.output_len)
            == (point.batch_size, point.input_len, point.output_len)
        ),
        None,
    )
    return (
        entry.engine.removeprefix(f"{record.model.name}-"),
        str(point.input_len),
        str(point.output_len),
        str(point.batch_size),
        f"{rate:.1f}",
        "" if half is None else _gain(entry, half, point),
        _milliseconds(rounds, "ttft", 1),
        _milliseconds(rounds, "itl_p50", 2),
        "" if price is None else f"{price.of_a_million(rate):.4f}",
        "" if price is None else f"{price.of_a_million(rate * (1 + point.input_len / point.output_len)):.4f}",
        _joules(rounds),
    )


def _joules(rounds: Sequence[Round]) -> str:
    """Joules of an output token, the sum over rounds: single ones are coarse."""
    spent = [value for each in rounds if (value := each.figure("joules")) is not None]
    return f"{sum(spent) / sum(each.tokens for each in rounds):.4f}" if len(spent) == len(rounds) else ""


def throughput(rounds: Sequence[Round]) -> float:
    """Median over rounds of the tokens produced in a second."""
    return median(each.tokens / each.seconds for each in rounds)


def _rounds(entry: SweepEntry, point: SweepPoint) -> list[Round]:
    found = [each for block in entry.blocks for each in block.rounds if each.engine == point.id]
    return [each for each in found if not each.disturbed] or found


def _gain(entry: SweepEntry, small: SweepPoint, large: SweepPoint) -> str:
    gains = []
    for block in entry.blocks:
        turns = {each.engine: each.tokens / each.seconds for each in block.rounds}
        if small.id in turns and large.id in turns:
            gains.append(turns[large.id] / turns[small.id])
    return f"{median(gains):.2f}x" if gains else ""


def _milliseconds(rounds: Sequence[Round], figure: str, digits: int) -> str:
    values = [value for each in rounds if (value := each.figure(figure)) is not None]
    return f"{1000 * median(values):.{digits}f}" if values else ""


def draw_surfaces(records: Sequence[RunRecord]) -> Figure | None:
    """A panel for each swept engine and output length: tokens per second over batch size and input length.

    None where nothing was swept. Axes of sizes are logarithmic, so that each doubling takes one step.
    """
    panels = [
        (record, entry, length)
        for record in records
        for entry in record.sweeps
        for length in sorted({point.output_len for point in entry.points})
        if entry.blocks
    ]
    if not panels:
        return None
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.2 * columns, 5.4 * rows), layout="constrained")
    for number, (record, entry, length) in enumerate(panels):
        axis: Any = figure.add_subplot(rows, columns, number + 1, projection="3d")
        _surface(axis, entry, length)
        label = entry.engine.removeprefix(f"{record.model.name}-")
        axis.set_title(f"{record.model.name} {label}\n{length} tokens out", fontsize=11)
    figure.suptitle("Tokens per second over batch size and input length   higher is better", fontsize=14)
    return figure


def save_surfaces(records: Sequence[RunRecord], path: Path) -> list[Path]:
    """Draw and write as PNG, where anything was swept; the path, if so. Raises OSError."""
    figure = draw_surfaces(records)
    if figure is None:
        return []
    figure.savefig(path, dpi=110, format="png")
    return [path]


def _surface(axis: Any, entry: SweepEntry, length: int) -> None:
    """One surface where there are several input lengths, else a line; each point with its number."""
    import numpy as np

    points = {
        (point.batch_size, point.input_len): throughput(found)
        for point in entry.points
        if point.output_len == length and (found := _rounds(entry, point))
    }
    batches, inputs = (sorted({key[place] for key in points}) for place in (0, 1))
    heights = np.array([[points.get((batch, size), math.nan) for batch in batches] for size in inputs])
    across, along = np.meshgrid(np.log2(batches), np.log2(inputs))
    if len(batches) > 1 and len(inputs) > 1:
        axis.plot_surface(across, along, heights, cmap="viridis", alpha=0.75, edgecolor="0.3", linewidth=0.6)
    else:
        axis.plot(across.ravel(), along.ravel(), heights.ravel(), color="tab:blue")
    axis.scatter(across.ravel(), along.ravel(), heights.ravel(), color="black", s=14, depthshade=False)
    top = float(np.nanmax(heights)) if points else 1.0
    for x, y, z in zip(across.ravel(), along.ravel(), heights.ravel(), strict=True):
        if not math.isnan(z):
            axis.text(x, y, z + 0.05 * top, f"{z:,.0f}", fontsize=8, ha="center")
    axis.set_xticks(np.log2(batches), [str(value) for value in batches])
    axis.set_yticks(np.log2(inputs), [str(value) for value in inputs])
    axis.set_zlim(0, 1.15 * top)
    axis.set_xlabel("batch size")
    axis.set_ylabel("input tokens")
    axis.set_zlabel("tokens/s")
    axis.view_init(elev=24, azim=-128)
