"""Heat maps of predicted memory: batch size against sequence length, one for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCALES = ((1e9, "GB"), (1e6, "MB"))
_COLUMNS = 3


def draw_heat_map(reports: Sequence[Mapping[str, Any]]) -> Figure:
    """One panel for each engine, all of one colour scale; where no total is known, the KV cache alone is shown.

    Args:
        reports: as ``enginegate memory --json`` prints them.
    """
    from matplotlib.figure import Figure

    across = min(_COLUMNS, len(reports))
    down = -(-len(reports) // across)
    figure = Figure(figsize=(5.4 * across, 4.2 * down + 0.6), layout="constrained")
    grids = [_grid(report) for report in reports]
    largest = max(value for _, _, rows, _ in grids for row in rows for value in row)
    scale, unit = next((each for each in _SCALES if largest >= each[0]), _SCALES[-1])
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(reports) :]:
        axis.set_axis_off()
    image = None
    for axis, report, (batches, lengths, rows, what) in zip(axes.flat, reports, grids, strict=False):
        values = [[value / scale for value in row] for row in rows]
        image = axis.imshow(values, cmap="viridis", vmin=0, vmax=largest / scale, aspect="auto", origin="lower")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                dark = value < 0.6 * largest / scale
                axis.text(x, y, f"{value:.3g}", ha="center", va="center", color="white" if dark else "black")
        axis.set_xticks(range(len(lengths)), [f"{tokens:,}" for tokens in lengths])
        axis.set_yticks(range(len(batches)), [f"{batch:,}" for batch in batches])
        axis.set_xlabel("tokens of a sequence")
        axis.set_ylabel("batch size")
        axis.set_title(f"{report['engine']}\n{what}, KV cache {report['kv']['format']}", fontsize=10)
    if image is not None:
        figure.colorbar(image, ax=axes, label=unit)
    figure.suptitle("predicted memory")
    return figure


def save_heat_map(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw and write as PNG. Raises OSError."""
    draw_heat_map(reports).savefig(path, dpi=110, format="png")


def _grid(report: Mapping[str, Any]) -> tuple[list[int], list[int], list[list[int]], str]:
    """Batch sizes, lengths, bytes by both, and what these are of."""
    rows = report["rows"]
    part, what = ("total", "total") if all(row["total"] is not None for row in rows) else ("kv", "KV cache alone")
    batches = sorted({row["batch_size"] for row in rows})
    lengths = sorted({row["tokens"] for row in rows})
    found = {(row["batch_size"], row["tokens"]): row[part] for row in rows}
    return batches, lengths, [[found[batch, tokens] for tokens in lengths] for batch in batches], what
