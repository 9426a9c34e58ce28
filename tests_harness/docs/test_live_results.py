"""docs/live_results.md: what it says beside its tables."""

from __future__ import annotations

from enginegate.config.schema import ShiftSection
from scripted import scripts_of


def test_the_belief_about_sessions_is_what_the_stored_ones_show():
    with scripts_of("live") as script:
        found = script("shift").between_sessions()
    shown = {metric: round(value, 3) for metric, value in found.items()}
    assert shown == ShiftSection().model_dump()


def test_every_record_is_shown():
    """Or named by the page on the gates."""
    with scripts_of("live") as script:
        page = script("page")
    told = page.PAGE.read_text(encoding="utf-8")
    assert not [run.name for run in page.RECORDS.iterdir() if run.name not in told]
