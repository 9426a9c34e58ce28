"""What stands under the tables: what the gate sees here, how near the memory's speed is, letters, whose data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from enginegate.core.records import QualityEntry, RunRecord
from enginegate.measure.roofline import rooflines
from enginegate.report.cost import price_of
from enginegate.verdicts.quality import why_guessed

NOT_AUDITED = (
    "this gate on this machine: no accepted audit of its error rates (pytest --eg-gate-audit, short --gate-audit,"
    " measures one; it counts after enginegate accept RUN)"
)
NOT_AUDITED_LIVE = (
    "this gate on this machine: launches are taken to spread as the configuration says, as no audit of them was"
    " accepted (pytest --eg-gate-audit --eg-against python:COPY, short --gate-audit --against, measures one; it counts"
    " after enginegate accept RUN)"
)


def cost_notes(record: RunRecord) -> list[str]:
    """What the columns of cost and energy mean, where there are any."""
    price = price_of(record)
    notes = [] if price is None else [price.note]
    if any("joules" in turn.figures for arena in record.arenas for block in arena.blocks for turn in block.rounds):
        source = record.fingerprint.context.get("energy", "")
        notes.append(f"Joules/token: of the whole device, whoever used it ({source}): advice.")
    return notes


def speed_notes(record: RunRecord) -> list[str]:
    """Lines for the foot of the speed table: the audit of each engine's gates, then the rooflines."""
    return [*_audits(record), *map(str, rooflines(record))]


def quality_notes(record: RunRecord) -> list[str]:
    """Lines for the foot of the quality scores: how each engine answers by letter, and which metrics are not gated."""
    return [*_letters(record), *_not_gated(record)]


def _letters(record: RunRecord) -> Iterator[str]:
    """What the answers are, as one letter for nearly all of them is no ability; older records do not tell."""
    for entry in record.quality:
        scores = entry.scores
        answers = {name.partition("/")[2]: share for name, share in scores.items() if name.startswith("chosen/")}
        if entry.metric == "letters" and answers and {"accuracy", "accuracy_calibrated", "ties"} <= scores.keys():
            histogram = ", ".join(f"{letter} {100 * share:.0f} %" for letter, share in answers.items())
            plain, known = (100 * scores[name] for name in ("accuracy", "accuracy_calibrated"))
            yield (
                f"letters of {entry.engine}: accuracy {plain:.1f} %, with each letter's mean taken off {known:.1f} %;"
                f" answers {histogram}; {100 * scores['ties']:.1f} % tie"
            )


def _not_gated(record: RunRecord) -> Iterator[str]:
    """Multiple choice that the reference can only guess, so that no engine was asked."""
    tested = {engine.id for engine in record.engines if engine.role == "candidate"}
    for entry in record.quality:
        gated = any(verdict.metric.startswith(f"{entry.metric}_") for verdict in record.verdicts)
        if not gated and entry.engine not in tested and (reason := why_guessed(entry)) is not None:
            yield f"not gated: {reason}"


def _audits(record: RunRecord) -> Iterator[str]:
    found: dict[str, str] = {}
    for verdict in record.verdicts:
        if verdict.inputs.get("gate") == "speed":
            gate = f"{verdict.engine} {verdict.workload} {verdict.metric}"
            without = NOT_AUDITED_LIVE if verdict.is_raced else NOT_AUDITED
            found.setdefault(gate, str(verdict.inputs.get("audit") or without))
    lines = set(found.values())
    if len(lines) == 1:
        yield lines.pop()
    else:
        yield from (f"{gate}: {line}" for gate, line in found.items())


def data_notes(entries: Iterable[QualityEntry], metrics: Collection[str] = ()) -> list[str]:
    """A line for each data set behind quality scores; older records kept none.

    ``metrics``: those that are looked at; none for all.
    """
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.data is not None and (not metrics or entry.metric in metrics):
            known = found.setdefault(data_text(entry), [])
            if entry.metric not in known:
                known.append(entry.metric)
    return [f"{', '.join(known)}: {text}" for text, known in found.items()]


def data_text(entry: QualityEntry) -> str:
    """How many items of which set were asked, chosen how and behind what; "" where the record does not say."""
    data = entry.data
    if data is None:
        return ""
    count = f"{len(entry.items):,}" + (f" of {data.size:,}" if data.subset else "")
    parts = [f"{count} items of {data.name} (sha256 {data.digest[:12]})"]
    if data.subset:
        parts.append(f"chosen {data.subset}")
    if data.shots:
        parts.append(f"{data.shots}-shot, examples {data.examples}")
    return ", ".join(parts)
