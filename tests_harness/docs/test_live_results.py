"""docs/live_results.md: its tables are what its records say."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from docs_text import REPOSITORY
from enginegate.config.schema import ShiftSection


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts" / "live"))
    import page

    yield page
    for name in ("page", "tables", "power", "shift"):
        sys.modules.pop(name, None)


def test_the_tables_of_races_are_those_of_their_records(page, monkeypatch):
    monkeypatch.setattr(page, "PART", page.re.compile(page.PART.pattern.replace("tables|power", "tables"), page.re.S))
    text = page.PAGE.read_text(encoding="utf-8")
    assert len(page.PART.findall(text)) >= 4
    assert page.filled(text) == text


@pytest.mark.heavy
def test_so_are_the_tables_of_power(page):
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text


def test_the_belief_about_sessions_is_what_the_stored_ones_show(page):
    import shift

    shown = {metric: round(value, 3) for metric, value in shift.between_sessions().items()}
    assert shown == ShiftSection().model_dump()


def test_every_record_is_shown(page):
    """Or named by the page on the gates."""
    told = page.PAGE.read_text(encoding="utf-8")
    assert not [run.name for run in page.RECORDS.iterdir() if run.name not in told]
