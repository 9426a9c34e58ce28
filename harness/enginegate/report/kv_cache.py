"""KV caches of several precisions side by side, from a record."""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.errors import MeasurementError, RecordError
from enginegate.core.records import QualityEntry, RunRecord, VerdictEntry
from enginegate.report.side_table import SideTable
from enginegate.storage.summary import worst
from enginegate.verdicts.kv_cache import token_bytes

_HEADINGS = ("Engine", "KV cache", "Bytes/token", "of 16 bits", "Work", "Speed [95 %]", "Perplexity", "KLD", "Verdict")
_NOTES = (
    "Bytes of a token: over all layers, scales included, by the pool of the running engine. Speed: end to end, over the"
    " same engine with 16 bits in the same blocks. Perplexity and KLD: through decode steps, so that the cache"
    " takes part.",
)


def kv_cache_table(record: RunRecord) -> SideTable | None:
    """One line for each engine and cache, those of 16 bits first; None where none were compared."""
    pairs = dict.fromkeys(_pairs(record))
    if not pairs:
        return None
    rows = []
    for wide in dict.fromkeys(wide for wide, _ in pairs):
        rows.append(_row(record, wide, wide))
        rows += [_row(record, wide, narrow) for each, narrow in pairs if each == wide]
    return SideTable("kv_cache", f"{record.model.label}: KV caches", _HEADINGS, tuple(rows), _NOTES)


def _pairs(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Ids of an engine with 16 bits and of the same with fewer."""
    for race in record.kv_caches:
        yield from ((race.reference, name) for name in race.contestants if name != race.reference)
    for verdict in record.verdicts:
        if verdict.inputs.get("gate") in ("kv_bytes", "kv_speed"):
            yield str(verdict.inputs["reference"]), verdict.engine


def _row(record: RunRecord, wide: str, engine: str) -> tuple[str, ...]:
    entry = next((each for each in record.engines if each.id == engine), None)
    verdicts = [verdict for verdict in record.verdicts if verdict.engine == engine]
    speed = next((verdict for verdict in verdicts if verdict.metric == "kv_speed"), None)
    bytes_, whole = _token_bytes(record, engine), _token_bytes(record, wide)
    return (
        engine.removeprefix(f"{record.model.name}-"),
        str(entry.effective.get("kv_precision", "")) if entry is not None else "",
        "" if bytes_ is None else f"{bytes_:,.0f}",
        "" if bytes_ is None or whole is None else f"{bytes_ / whole:.3f}",
        (speed.workload or "") if speed is not None else "",
        _speed(speed) if engine != wide else "1.00x",
        _score(record, wide, engine, "perplexity", "perplexity"),
        _score(record, wide, engine, "divergence", "kld"),
        worst([verdict.status for verdict in verdicts]),
    )


def _token_bytes(record: RunRecord, engine: str) -> float | None:
    try:
        return token_bytes(record, engine)
    except (MeasurementError, RecordError):
        return None


def _speed(verdict: VerdictEntry | None) -> str:
    if verdict is None:
        return ""
    low, high = verdict.interval
    return f"{verdict.estimate:.2f}x" + ("" if low != low else f" [{low:.2f}, {high:.2f}]")


def _score(record: RunRecord, wide: str, engine: str, metric: str, name: str) -> str:
    """A score, and by how much it is above that of 16 bits."""
    own, other = (_scored(record, each, metric) for each in (engine, wide))
    if own is None:
        return ""
    value, digits = own.scores[name], 3 if metric == "perplexity" else 5
    if other is None or engine == wide:
        return f"{value:.{digits}f}"
    before = other.scores[name]
    change = f"{value / before - 1:+.2%}".replace("%", " %") if metric == "perplexity" else f"{value - before:+.5f}"
    return f"{value:.{digits}f} ({change})"


def _scored(record: RunRecord, engine: str, metric: str) -> QualityEntry | None:
    return next((each for each in record.quality if (each.engine, each.metric) == (engine, metric)), None)
