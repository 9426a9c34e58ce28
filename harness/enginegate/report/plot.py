"""The 2 x 4 grid of metrics by model, batch size and precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.report.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Title, row attribute, whether it differs by batch size, whether less is better.
PANELS: tuple[tuple[str, str, bool, bool], ...] = (
    ("Latency (ms)", "latency_ms", True, True),
    ("Tokens/sec", "tokens_per_second", True, False),
    ("Memory, peak (MB)", "memory_mb", True, True),
    ("Accuracy (%)", "accuracy", False, False),
    ("ROUGE-1", "rouge1", False, False),
    ("ROUGE-2", "rouge2", False, False),
    ("ROUGE-L", "rouge_l", False, False),
    ("ROUGE-Lsum", "rouge_lsum", False, False),
)

#: Between two groups, in bars.
_GAP = 1.5


def draw(rows: Sequence[Row]) -> Figure:
    """Eight panels of bars, grouped by model (and batch size where it matters), coloured by engine and precision.

    What was not measured reads "n/a" at the foot of its place, so that it is not taken for a zero; a group has places
    for the engines that ran in it, and one of which nothing was measured has none in that panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    series = list(dict.fromkeys(f"{row.engine} {row.precision}" for row in rows))
    colors = _colors(series)
    bars = len({(row.model, row.workload, row.engine, row.precision) for row in rows if row.workload})
    width = max(16.0, 4 + 0.64 * bars)
    figure = Figure(figsize=(width, max(8.5, 0.4 * width)), layout="constrained")
    axes = figure.subplots(2, 4)
    for axis, (title, attribute, by_batch, less_is_better) in zip(axes.flat, PANELS, strict=True):
        _panel(axis, [row for row in rows if row.workload or not by_batch], attribute, by_batch, colors)
        axis.set_title(f"{title}   {'lower' if less_is_better else 'higher'} is better", fontsize=11)
    if series:
        handles = [Patch(color=color, label=name) for name, color in colors.items()]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(series), 6), frameon=False, fontsize=11
        )
    models = ", ".join(dict.fromkeys(_model_name(row) for row in rows)) or "no results"
    figure.suptitle(f"enginegate: {models}", fontsize=14)
    return figure


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw and write as PNG. Raises OSError."""
    draw(rows).savefig(path, dpi=110, format="png")


def _colors(series: Sequence[str]) -> dict[str, Any]:
    """A colour for each, of the palette that has enough of them."""
    from matplotlib import colormaps

    for palette, size in (("tab10", 10), ("tab20", 20)):
        if len(series) <= size:
            return {name: colormaps[palette](index) for index, name in enumerate(series)}
    return {name: colormaps["turbo"](index / (len(series) - 1)) for index, name in enumerate(series)}


def _panel(axis: Any, rows: Sequence[Row], attribute: str, by_batch: bool, colors: dict[str, Any]) -> None:
    values: dict[str, dict[str, float | None]] = {}
    for row in rows:
        group, name = values.setdefault(_group(row, by_batch), {}), f"{row.engine} {row.precision}"
        if group.get(name) is None:
            group[name] = getattr(row, attribute)
    measured = {group: bars for group, bars in values.items() if any(value is not None for value in bars.values())}
    shown = measured or values
    places: list[float] = []
    ticks: list[float] = []
    bars = []
    for group in shown.values():
        start = places[-1] + 1 + _GAP if places else 0.0
        places += [start + index for index in range(len(group))]
        ticks.append(start + (len(group) - 1) / 2)
        bars += [(name, group[name]) for name in colors if name in group]
    drawn = axis.bar(
        places, [value or 0.0 for _, value in bars], width=0.94, color=[colors[name] for name, _ in bars] or None
    )
    labels = ["n/a" if value is None else _number(value) for _, value in bars]
    axis.bar_label(drawn, labels, fontsize=8, padding=2, rotation=90 if len(bars) > 4 else 0)
    names = list(shown)
    if len(names) > 4:
        names = [name.replace("\n", ", ") for name in names]
        axis.set_xticks(ticks, names, fontsize=9, rotation=20, ha="right", rotation_mode="anchor")
    else:
        axis.set_xticks(ticks, names, fontsize=9)
    axis.set_xlim(-1, (places[-1] if places else 0) + 1)
    axis.set_ylim(0, max((value for _, value in bars if value is not None), default=1.0) * 1.22 or 1.0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.set_axisbelow(True)


def _group(row: Row, by_batch: bool) -> str:
    batch = "" if row.batch_size is None else f"\nbatch {row.batch_size}"
    return row.model + (batch if by_batch else "")


def _model_name(row: Row) -> str:
    if row.random_weights:
        return f"{row.model} (random weights)"
    return f"{row.model} (dequantized from {row.dequantized})" if row.dequantized else row.model


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
