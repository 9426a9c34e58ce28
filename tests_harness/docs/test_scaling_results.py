"""docs/optimization_techniques.md: its tables of KV caches and scaling are what their records say."""

from __future__ import annotations

import sys

import pytest
from docs_text import REPOSITORY, read
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts" / "scaling"))
    monkeypatch.delitem(sys.modules, "tables", raising=False)
    import tables

    yield tables
    del sys.modules["tables"]


def test_the_tables_are_those_of_the_records(tables):
    text, found = read("optimization_techniques.md"), tables.records()
    assert tables.written(text, found) == text, "run `python scripts/scaling/tables.py --write`"
    for name in tables.NAMES:
        assert text.count(tables.MARK.format(name)) == 2


def test_their_verdicts_are_judged_alike_today(tables):
    for record in tables.records():
        for entry in record.verdicts:
            verdict = judge(restore_inputs(entry.inputs), record)
            assert (verdict.status.value, verdict.explanation) == (entry.status, entry.explanation), record.id
