"""The records of KV caches and scaling, which docs/optimization_techniques.md shows, are judged alike today."""

from __future__ import annotations

from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge
from scripted import scripts_of


def test_their_verdicts_are_judged_alike_today():
    with scripts_of("scaling") as script:
        records = script("page").records()
    assert records
    for record in records:
        for entry in record.verdicts:
            verdict = judge(restore_inputs(entry.inputs), record)
            assert (verdict.status.value, verdict.explanation) == (entry.status, entry.explanation), record.id
