"""The Markdown summary of a run, fit for a pull request or ``$GITHUB_STEP_SUMMARY``."""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.records import RunRecord
from enginegate.gates.verdict import CONFIDENCE
from enginegate.report.markup import markdown_table, with_symbol
from enginegate.report.notes import cost_notes, data_notes, quality_notes, speed_notes
from enginegate.report.rows import (
    COLUMN_NOTES,
    COLUMNS,
    EXTRA_COLUMNS,
    SPEEDUP_HEADING,
    Row,
    cell,
    record_rows,
    speedup_text,
)
from enginegate.report.serving import markdown_lines as serving_lines
from enginegate.report.side_tables import side_tables
from enginegate.storage.summary import SEVERITY, headline_scores, reruns

#: Said of a model with random weights, wherever its numbers stand.
RANDOM_WEIGHTS = "This model has random weights: its speed and memory are real, its quality has no meaning."


def markdown_summary(record: RunRecord) -> str:
    """Results, verdicts with their explanations, quality scores, warnings, machine and versions."""
    return "\n".join(_lines(record)) + "\n"


def tally(record: RunRecord) -> str:
    """How many verdicts of each status, worst first, e.g. ``1 FAIL, 12 PASS``."""
    counts = {status: sum(verdict.status == status for verdict in record.verdicts) for status in SEVERITY}
    text = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no verdicts"
    turned = sum(rerun.turned for rerun in reruns(record))
    return f"{text}; {turned} FAIL went away when run again" if turned else text


def incomplete(record: RunRecord) -> str | None:
    """Why a record is not all of its session, in a sentence; None where it is."""
    if record.status == "complete":
        return None
    if record.is_merged:
        return "Not all of the session is here, as the warnings say."
    return "The run was interrupted; this is what it had measured."


def _lines(record: RunRecord) -> Iterator[str]:
    yield f"# enginegate: {record.model.label}: {tally(record)}"
    yield ""
    reason = incomplete(record)
    partial = "" if reason is None else f" **{reason}**"
    yield f"Run `{record.id}`, commit `{record.commit or 'unknown'}`, {record.started} to {record.finished}.{partial}"
    if record.shards is not None:
        yield f"\nIt holds {record.shards} of one session."
    if record.model.random_weights:
        yield f"\n**{RANDOM_WEIGHTS}**"
    yield from _results(record_rows(record), [*speed_notes(record), *cost_notes(record)], data_notes(record.quality))
    for table in side_tables(record):
        yield f"\n### {table.title}\n" if table.brief else f"\n<details><summary>{table.title}</summary>\n"
        yield from markdown_table(table.headings, ([text or "n/a" for text in row] for row in table.rows))
        yield ""
        yield from (f"- {note}" for note in table.notes)
        if not table.brief:
            yield "\n</details>"
    yield from serving_lines(record)
    yield from _verdicts(record)
    yield from _joint(record)
    yield from _quality(record)
    yield from _warnings(record)
    yield from _provenance(record)


def _results(rows: list[Row], notes: list[str], data: list[str]) -> Iterator[str]:
    if not rows:
        return
    yield "\n## Results\n"
    shown = [column for column in COLUMNS if not column[1].startswith("speedup")]
    shown[-1:-1] = [column for column in EXTRA_COLUMNS if any(getattr(row, column[1]) is not None for row in rows)]
    headings = [heading for heading, _, _ in shown]
    headings.insert(-1, SPEEDUP_HEADING)
    cells = []
    for row in rows:
        line = [cell(row, attribute, decimals, "n/a") for _, attribute, decimals in shown[:-1]]
        cells.append([*line, speedup_text(row), with_symbol(row.verdict) if row.verdict else "not gated"])
    yield from markdown_table(headings, cells)
    yield ""
    yield from (f"- {note}" for note in (*notes, *COLUMN_NOTES))
    for kind in sorted({row.accuracy_kind for row in rows} - {""}):
        how = _ACCURACY[kind]
        yield f"- Accuracy: multiple choice, {how if not data else how.replace(', not its questions', '')}."
    yield from (f"- Data: {note}." for note in data)


_ACCURACY = {
    "cloze": "by the length-normalized likelihood of the answer text (cloze)",
    "letters": "by the likelihood of the answer letters (MMLU's format, not its questions)",
}


def _verdicts(record: RunRecord) -> Iterator[str]:
    if not record.verdicts:
        return
    yield f"\n## Verdicts\n\nIntervals in brackets are {100 * CONFIDENCE:g} % intervals.\n"
    ordered = sorted(record.verdicts, key=lambda verdict: SEVERITY.index(verdict.status))
    yield from markdown_table(
        ["Verdict", "Test", "Explanation"],
        (
            [with_symbol(verdict.status), f"`{verdict.test}`", " — ".join([verdict.explanation, *verdict.warnings])]
            for verdict in ordered
        ),
    )


def _joint(record: RunRecord) -> Iterator[str]:
    if record.joint:
        yield "\n### Speed and quality together\n"
        yield from (f"- {with_symbol(entry.status)} {entry.explanation}" for entry in record.joint)


def _quality(record: RunRecord) -> Iterator[str]:
    engines = list(dict.fromkeys(entry.engine for entry in record.quality))
    scores: dict[tuple[str, str], dict[str, str]] = {}
    for entry in record.quality:
        for name, score in headline_scores(entry.scores).items():
            scores.setdefault((f"{entry.metric} ({len(entry.items)} items)", name), {})[entry.engine] = f"{score:.4g}"
    if scores:
        yield "\n<details><summary>Quality scores</summary>\n"
        lines = ([*key, *(found.get(engine, "n/a") for engine in engines)] for key, found in scores.items())
        yield from markdown_table(["Metric", "Score", *engines], lines)
        if notes := [*data_notes(record.quality), *quality_notes(record)]:
            yield ""
            yield from (f"- {note}" for note in notes)
        yield "\n</details>"


def _warnings(record: RunRecord) -> Iterator[str]:
    warnings = [*record.warnings, *(f"{arena.workload}: {text}" for arena in record.arenas for text in arena.warnings)]
    warnings += map(str, reruns(record))
    left = ((arena.workload, *item) for arena in record.arenas for item in arena.failures.items())
    warnings += [f"{workload}: {engine} left the race: {reason}" for workload, engine, reason in left]
    if warnings:
        yield "\n## Warnings\n"
        yield from (f"- {text}" for text in warnings)


def _provenance(record: RunRecord) -> Iterator[str]:
    yield "\n<details><summary>Machine, engines and versions</summary>\n"
    yield f"- fingerprint: `{record.fingerprint.key}`"
    yield from (f"- {name}: {value}" for name, value in record.fingerprint.identity.items())
    yield from (f"- {name}: {value}" for name, value in record.fingerprint.context.items())
    yield f"- model: {record.model.source}, digest `{record.model.digest[:16]}`"
    yield f"- enginegate: {record.enginegate}; arguments: `{' '.join(record.arguments)}`"
    yield from (
        f"- {engine.id} ({engine.role}): {engine.version}, key `{engine.key[:16]}`" for engine in record.engines
    )
    for shard in record.shards.held if record.shards is not None else ():
        yield f"- shard {shard.number}: run `{shard.run}` on `{shard.machine}`"
    for arena in record.arenas:
        yield f"- {arena.workload}: {len(arena.blocks)} blocks, stopped: {arena.stopped}"
    yield "\n</details>"
