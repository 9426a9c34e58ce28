"""What a page shows of a run, read from the run's folder."""

from __future__ import annotations

from pathlib import Path

from enginegate.core.errors import EngineGateError
from enginegate.core.records import RunRecord
from enginegate.report.dashboard.run_page import Run
from enginegate.report.texts import REFERENCE, Differences, differences, least_alike, names
from enginegate.report.texts_scores import scorer
from enginegate.storage.audits import AuditFile, load_run_audit
from enginegate.storage.runs import record_file
from enginegate.storage.texts import MetricTexts, load_texts


def read_run(path: Path, record: RunRecord) -> Run:
    """The run whose record was found at ``path``, with its texts and audit where they lie beside it.

    What lies beside and cannot be used is told on the page: no verdict needs it.
    """
    folder = record_file(path).parent
    notes: list[str] = []
    found: list[Differences] = []
    audit: AuditFile | None = None
    try:
        texts = load_texts(folder)
        for metric, each in (texts.metrics if texts is not None else {}).items():
            found += _differences(record, metric, each)
    except EngineGateError as error:
        notes.append(f"The texts of {record.id} are not shown: {error.problem}")
    try:
        audit = load_run_audit(folder)
    except EngineGateError as error:
        notes.append(f"The audit of {record.id} is not shown: {error.problem}")
    return Run(record, found, audit, notes)


def _differences(record: RunRecord, metric: str, texts: MetricTexts) -> list[Differences]:
    """The two engines that differ most, then each engine beside what its answers are compared with."""
    known = names(texts)
    if len(known) < 2:
        return []
    score = scorer(record)
    pairs = [least_alike(texts, score)]
    if REFERENCE in known:
        pairs += [(REFERENCE, name) for name in texts.answers if (REFERENCE, name) not in pairs]
    return [differences(record.id, metric, texts, pair, score) for pair in pairs]
