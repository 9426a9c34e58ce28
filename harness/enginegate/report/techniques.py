"""Tables of techniques of serving: what each gave on each engine, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median

from enginegate.core.records import RunRecord
from enginegate.core.technique_records import TechniqueEntry
from enginegate.report.side_table import SideTable

#: Figures by technique: the one that its gate compares, whether more of it is better, and the others that are shown.
_SHOWN: Mapping[str, tuple[str, bool, tuple[str, ...]]] = {
    "ngram": ("tokens_per_second", True, ("tokens_per_step", "acceptance")),
    "draft": ("tokens_per_second", True, ("tokens_per_step", "acceptance")),
    "prefix_cache": ("ttft", False, ("hit_rate_by_time",)),
    "prefix_off": ("ttft", True, ()),
    "inflight": ("tokens_per_second", True, ("latency", "longest_wait", "overtaken")),
    "sjf": ("latency", False, ("longest_wait", "overtaken")),
    "priority": ("latency_urgent", False, ("latency_others", "longest_wait", "overtaken")),
    "chunked_prefill": ("longest_itl", False, ("ttft_long", "itl_p50")),
}
#: Units by the figure's name; without one it is a plain number.
_SECONDS = ("ttft", "latency", "wait", "itl")
HEADINGS = ("Engine", "Technique", "Figure", "With", "Without", "Better by", "Verdicts")


@dataclass(frozen=True)
class TechniqueRow:
    """One technique on one engine, as texts under ``HEADINGS``. ``also``: what else was seen, for a note."""

    engine: str
    technique: str
    figure: str
    on: str
    off: str
    better: str
    also: str
    verdicts: str

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of HEADINGS."""
        return (self.engine, self.technique, self.figure, self.on, self.off, self.better, self.verdicts)


def technique_rows(record: RunRecord) -> list[TechniqueRow]:
    """One row for each technique of a record."""
    return [_row(record, entry) for entry in record.techniques]


def _row(record: RunRecord, entry: TechniqueEntry) -> TechniqueRow:
    figure, higher, others = _SHOWN.get(entry.technique, ("", True, ()))
    verdicts = [
        f"{verdict.status.replace('_', ' ')} {verdict.metric.removeprefix(f'{entry.technique}_').replace('_', ' ')}"
        for verdict in record.verdicts
        if verdict.engine == entry.engine and verdict.inputs.get("technique") == entry.technique
    ]
    also = [_other(entry, name) for name in others]
    if entry.answers:
        changed = sum(answer.differs for answer in entry.answers)
        also.append(f"{changed} of {len(entry.answers)} answers differ")
    if "hit_rate" in entry.settings:
        also.append(f"hit rate by the engine {entry.settings['hit_rate']}")
    label = next((each.precision_label for each in record.engines if each.id == entry.engine), entry.engine)
    return TechniqueRow(
        label,
        entry.technique.replace("_", " "),
        figure.replace("_", " "),
        _value(figure, typical(entry.on, figure)),
        _value(figure, typical(entry.off, figure)),
        f"{better(entry, figure, higher):.2f} x",
        "; ".join(filter(None, also)),
        ", ".join(verdicts) or "not gated",
    )


def typical(runs: list[dict[str, float]], figure: str) -> float:
    """The median over runs; NaN without any."""
    found = [run[figure] for run in runs if figure in run and math.isfinite(run[figure])]
    return median(found) if found else math.nan


def better(entry: TechniqueEntry, figure: str, higher: bool) -> float:
    """Geometric mean of the pairs' ratios; more is better."""
    logs = []
    for on, off in zip(entry.on, entry.off, strict=True):
        one, two = on.get(figure, math.nan), off.get(figure, math.nan)
        if one > 0 and two > 0:
            logs.append(math.log(one / two if higher else two / one))
    return math.exp(fmean(logs)) if logs else math.nan


def _other(entry: TechniqueEntry, figure: str) -> str:
    on, off = typical(entry.on, figure), typical(entry.off, figure)
    if math.isnan(on):
        return ""
    name = figure.replace("_", " ")
    return f"{name} {_value(figure, on)}" + ("" if math.isnan(off) else f" ({_value(figure, off)})")


def _value(figure: str, number: float) -> str:
    if math.isnan(number):
        return "n/a"
    if any(word in figure for word in _SECONDS):
        return f"{1000 * number:.4g} ms"
    return f"{100 * number:.0f} %" if figure in ("acceptance", "hit_rate_by_time") else f"{number:.4g}"


def technique_table(record: RunRecord) -> SideTable | None:
    """The table of a record; None where no technique was measured."""
    rows = technique_rows(record)
    if not rows:
        return None
    loads = [
        f"{entry.technique.replace('_', ' ')}: {entry.load}; {entry.with_} against {entry.without}, "
        f"{len(entry.on)} pairs"
        for entry in record.techniques
    ]
    also = [f"{row.engine} {row.technique}: {row.also}" for row in rows if row.also]
    notes = (*also, "medians of the runs; figures in brackets are those without the technique", *dict.fromkeys(loads))
    return SideTable("techniques", "Techniques of serving", HEADINGS, tuple(row.cells for row in rows), notes)
