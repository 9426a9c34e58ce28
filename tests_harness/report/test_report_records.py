"""Every committed record: its blocks ran in reversing order, and its verdicts come out as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginegate.core.records import RunRecord
from enginegate.gates.robust import alternating
from enginegate.measure.ratios import orders
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import load_record

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "results" / "records"


@pytest.fixture(scope="module", params=sorted(path.parent.name for path in RECORDS.glob("*/run.json")))
def record(request: pytest.FixtureRequest) -> RunRecord:
    return load_record(RECORDS / request.param)


def test_what_the_record_tells_of_the_order_is_what_was_taken_for_granted(record: RunRecord) -> None:
    for arena in record.arenas:
        for engine in set(arena.contestants) - {arena.reference}:
            ran = orders(arena.blocks, arena.reference, engine)
            assert ran == alternating(len(ran)).tolist(), f"{arena.workload} {engine}"


def test_speed_verdicts_come_out_as_they_were(record: RunRecord) -> None:
    """But for the ratio where nothing was stored: one record took it at an earlier look.

    And but for those that stored sessions without times decided: nobody can tell whether their yardstick had moved.
    """
    judged = [entry for entry in record.verdicts if entry.inputs.get("gate") == "speed"]
    for outcome in recompute_verdicts(record.model_copy(update={"verdicts": judged})):
        assert outcome.again is not None, outcome.problem
        against = outcome.stored.inputs.get("against") or {}
        if against.get("kind") == "baseline" and not against.get("times"):
            assert outcome.again.status.value == "INCONCLUSIVE"
            continue
        assert outcome.again.status.value == outcome.stored.status, outcome.stored.test
        assert outcome.agrees or outcome.stored.status == "NO_BASELINE", outcome.stored.test
