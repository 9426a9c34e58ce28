"""What stands under the speed table: what the gate can see on this machine, and how near the memory's own speed is."""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.records import RunRecord
from enginegate.measure.roofline import rooflines

NOT_AUDITED = (
    "this gate on this machine: no accepted audit of its error rates (pytest --eg-gate-audit, short --gate-audit,"
    " measures one; it counts after enginegate accept RUN)"
)
NOT_AUDITED_LIVE = (
    "this gate on this machine: launches are taken to spread as the configuration says, as no audit of them was"
    " accepted (pytest --eg-gate-audit --eg-against python:COPY, short --gate-audit --against, measures one; it counts"
    " after enginegate accept RUN)"
)


def speed_notes(record: RunRecord) -> list[str]:
    """Lines for the foot of the speed table: the audit of each engine's gates, then the rooflines."""
    return [*_audits(record), *map(str, rooflines(record))]


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
