"""A run in short, for a comment on a pull request: a line for each engine, then what is not PASS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from enginegate.core.records import RunRecord
from enginegate.report.markdown import RANDOM_WEIGHTS, incomplete, tally
from enginegate.report.markup import SYMBOLS, markdown_table, with_symbol
from enginegate.report.notes import data_notes
from enginegate.report.reasons import reasons
from enginegate.report.rows import SPEEDUP_HEADING, cell, record_rows, speedup_text
from enginegate.storage.summary import worst

#: Characters that a comment has at most: GitHub takes 65,536, and whoever posts it may add a line.
LIMIT = 60_000
#: Sentences on verdicts and warnings each, and the characters of one.
MOST, LONGEST = 20, 600
#: Metrics behind the columns.
_SHOWN = ("cloze", "letters", "perplexity", "similarity")
_COLUMNS = (
    ("Batch", "batch_size", None),
    ("Tokens/sec", "tokens_per_second", 1),
    ("Memory (MB)", "memory_mb", 0),
    ("Accuracy (%)", "accuracy", 1),
    ("BLEU", "bleu", 1),
    ("Perplexity", "perplexity", 2),
    ("KLD", "divergence", 4),
)


def markdown_comment(records: Sequence[RunRecord], limit: int = LIMIT) -> str:
    """The runs in short, in at most ``limit`` characters; what is cut is said to be."""
    note = "\n… The rest is in `summary.md`.\n"
    lines: list[str] = []
    room = limit - len(note)
    for line in (line for record in records for line in _lines(record)):
        room -= len(line) + 1
        if room < 0:
            return "\n".join(lines) + note
        lines.append(line)
    return "\n".join(lines) + "\n"


def _lines(record: RunRecord) -> Iterator[str]:
    withdrawn = [entry for entry in record.joint if entry.status == "FAIL"]
    status = worst([verdict.status for verdict in record.verdicts] + ["FAIL"] * bool(withdrawn))
    yield f"### {SYMBOLS.get(status, '➖')} enginegate: {record.model.label}: {tally(record)}\n"
    if (reason := incomplete(record)) is not None:
        yield f"**{reason}**\n"
    if record.model.random_weights:
        yield f"**{RANDOM_WEIGHTS}**\n"
    yield from _table(record)
    yield from (f"- data: {_short(note)}" for note in data_notes(record.quality, _SHOWN))
    yield from _not_passed(record)
    yield from (f"- {SYMBOLS['FAIL']} {_short(entry.explanation)}" for entry in withdrawn)
    if record.warnings:
        yield f"\n<details><summary>{len(record.warnings)} warning(s)</summary>\n"
        yield from (f"- {_short(line)}" for line in record.warnings[:MOST])
        yield from _more(len(record.warnings))
        yield "\n</details>"
    yield f"\nRun `{record.id}` of commit `{record.commit or 'unknown'}` on `{record.fingerprint.key}`.\n"


def _table(record: RunRecord) -> Iterator[str]:
    headings = ["Engine", *(heading for heading, _, _ in _COLUMNS), SPEEDUP_HEADING, "Verdict"]
    rows = [
        [
            f"{row.engine} {row.precision}",
            *(cell(row, attribute, decimals, "") for _, attribute, decimals in _COLUMNS),
            speedup_text(row),
            with_symbol(row.verdict) if row.verdict else "",
        ]
        for row in record_rows(record)
    ]
    if rows:
        yield from markdown_table(headings, rows)
        yield ""


def _not_passed(record: RunRecord) -> Iterator[str]:
    """What is not PASS, the same reason once for all that share it."""
    found = reasons(record)
    for reason in found[:MOST]:
        yield f"- {SYMBOLS[reason.status]} {reason.status} {_short(reason.sentence(record))}"
    yield from _more(len(found))


def _more(count: int) -> Iterator[str]:
    if count > MOST:
        yield f"- … and {count - MOST} more in `summary.md`"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
