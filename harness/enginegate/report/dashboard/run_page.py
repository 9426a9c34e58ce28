"""The page of one or several runs: what was concluded, what was measured, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from enginegate.core.records import RunRecord, ShardRun, VerdictEntry
from enginegate.gates.audit import one_line, power_line
from enginegate.gates.verdict import CONFIDENCE
from enginegate.report.dashboard import charts
from enginegate.report.dashboard.facts import (
    MEMORY,
    QUALITIES,
    SPEEDS,
    Cell,
    Pair,
    Tradeoff,
    matrix,
    pairs,
    speedups,
    tradeoffs,
    who,
)
from enginegate.report.dashboard.markup import (
    Html,
    Line,
    badge,
    folded,
    items,
    join,
    number,
    percent,
    section,
    table,
    tag,
)
from enginegate.report.dashboard.shell import Choice, Figure, filters, page
from enginegate.report.dashboard.sides import side_parts
from enginegate.report.markdown import RANDOM_WEIGHTS, incomplete, tally
from enginegate.report.notes import data_notes, quality_notes, speed_notes
from enginegate.report.reasons import reasons
from enginegate.report.rows import COLUMN_NOTES, COLUMNS, SPEEDUP_HEADING, cell, record_rows, speedup_text
from enginegate.report.texts import REFERENCE, Differences
from enginegate.report.texts_pages import articles, count, heading
from enginegate.report.verdicts import Recomputed, recompute_verdicts
from enginegate.storage.audits import AnyAudit, AuditedLaunches, AuditFile
from enginegate.storage.summary import SEVERITY, headline_scores, reruns, worst
from enginegate.verdicts import audit as block_audit
from enginegate.verdicts import launch_audit

#: Models that a title names; of more it says how many.
MODELS_NAMED = 3
#: Texts of two engines that a page shows, the least alike first.
TEXTS_SHOWN = 8


@dataclass(frozen=True)
class Run:
    """What a page shows of one run.

    Attributes:
        record: of the run.
        differences: texts of its engines beside each other.
        audit: what it measured of its gates, where it did.
        notes: what of the run's files could not be shown, and why.
    """

    record: RunRecord
    differences: Sequence[Differences] = ()
    audit: AuditFile | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def run_page(runs: Sequence[Run]) -> str:
    """The page, complete. Raises RecordError where a record or the chart library cannot be used."""
    records = [run.record for run in runs]
    verdicts = [verdict for record in records for verdict in record.verdicts]
    figures: list[Figure] = []
    parts: list[tuple[str, str, Html | None]] = [
        ("overview", "Overview", _overview(matrix(records))),
        ("why", "Why", _why(records)),
        ("live", "Live base", _live([pair for record in records for pair in pairs(record)], figures)),
        ("tradeoff", "Trade-off", _tradeoff(tradeoffs(records), figures)),
        ("results", "Results", _results(records, figures)),
        ("verdicts", "Verdicts", _verdicts(records)),
        ("gates", "Gates", _gates(runs)),
        ("texts", "Texts", _texts(runs)),
        ("runs", "Runs", _runs(runs)),
    ]
    shown = [(key, name, content) for key, name, content in parts if content is not None]
    labels = list(dict.fromkeys(record.model.label for record in records))
    models = ", ".join(labels) if len(labels) <= MODELS_NAMED else f"{len(labels)} models"
    return page(
        f"{models}: {_sentence(verdicts)} – enginegate",
        _header(runs, models, verdicts),
        [(key, name) for key, name, _ in shown],
        [_filters(records), *(content for _, _, content in shown)],
        figures,
    )


def _facets(record: RunRecord, engine: str, **more: str) -> dict[str, str]:
    return {**vars(who(record, engine)), **more}


def _engine(record: RunRecord, engine: str, records: Sequence[RunRecord]) -> Html:
    """An engine in a table; of several runs with its run."""
    name = who(record, engine)
    return join([name.name, tag("small", f" {record.id}", class_="below") if len(records) > 1 else ""])


def _filters(records: Sequence[RunRecord]) -> Html:
    values: dict[str, list[str]] = {name: [] for name in ("machine", "model", "backend", "precision", "status")}
    for record in records:
        for engine in dict.fromkeys(
            [*(entry.id for entry in record.engines), *(verdict.engine for verdict in record.verdicts)]
        ):
            for name, value in vars(who(record, engine)).items():
                values[name].append(value)
        values["status"] += [verdict.status for verdict in record.verdicts]
    found = {name: list(dict.fromkeys(given)) for name, given in values.items()}
    found["status"].sort(key=SEVERITY.index)
    return filters(found, "Find in the tables")


def _sentence(verdicts: Sequence[VerdictEntry]) -> str:
    counts = [(status, sum(verdict.status == status for verdict in verdicts)) for status in SEVERITY]
    return ", ".join(f"{count_} {status}" for status, count_ in counts if count_) or "no verdicts"


_KINDS = {"FAIL": "fail", "INCONCLUSIVE": "open", "NO_BASELINE": "none", "PASS": "pass"}
_SHORT = {"FAIL": "fail", "INCONCLUSIVE": "inconclusive", "NO_BASELINE": "without baseline", "PASS": "pass"}
_MEANINGS = {
    "FAIL": "worse than allowed, shown",
    "INCONCLUSIVE": "neither shown nor excluded",
    "NO_BASELINE": "nothing to compare with",
    "PASS": "no loss beyond what is tolerated",
}


def _header(runs: Sequence[Run], models: str, verdicts: Sequence[VerdictEntry]) -> Html:
    records = [run.record for run in runs]
    tiles, bars = [], []
    for status in SEVERITY:
        many = sum(verdict.status == status for verdict in verdicts)
        told = [tag("b", str(many)), badge(status), tag("small", f" {_MEANINGS[status]}")]
        tiles.append(tag("li", *told, **({} if many else {"class_": "nil"})))
        if many:
            bars.append(tag("i", class_=_KINDS[status], style=f"flex: {many}"))
    many = len(records)
    where = ", ".join(dict.fromkeys(machine for record in records for machine in record.machines))
    first = records[0]
    eyebrow = f"Run {first.id}, {first.started[:16].replace('T', ' ')}" if many == 1 else f"{many} runs"
    notices = [
        *(f"{record.id}: {reason}" for record in records if (reason := incomplete(record)) is not None),
        *([RANDOM_WEIGHTS] if any(record.model.random_weights for record in records) else []),
        *(note for run in runs for note in run.notes),
    ]
    return join(
        [
            tag("p", f"{eyebrow} · {where}", class_="eyebrow"),
            tag("h1", f"{models}: {_sentence(verdicts)}"),
            tag("ul", *tiles, class_="tiles"),
            tag("div", *bars, class_="share", aria_hidden="true") if bars else "",
            *(tag("p", notice, class_="notice") for notice in notices),
        ]
    )


def _overview(cells: Sequence[Cell]) -> Html | None:
    """One line for each machine, model and backend, one column for each precision."""
    if not cells:
        return None
    precisions = sorted({cell_.engine.precision for cell_ in cells})
    lines: dict[tuple[str, str, str], dict[str, Cell]] = {}
    for cell_ in cells:
        engine = cell_.engine
        lines.setdefault((engine.model, engine.backend, engine.machine), {})[engine.precision] = cell_
    body = []
    for (model, backend, machine), found in lines.items():
        first = join([f"{model}, {backend}", tag("small", machine, class_="soft")], "\n")
        cells_ = [_status_cell(found[precision]) if precision in found else Html("") for precision in precisions]
        facets = {"machine": machine, "model": model, "backend": backend}
        body.append(Line([first, *cells_], facets))
    shown = table("Worst verdict of each engine", ["Model, backend", *precisions], body, hidden=True)
    return section(
        "overview",
        "Verdicts by model, backend and precision",
        "Each cell is one engine: its worst verdict, and how many of each it has.",
        tag("div", shown, class_="matrix"),
    )


def _status_cell(cell_: Cell) -> Html:
    status = worst(list(cell_.counts))
    counts = [f"{cell_.counts[each]} {_SHORT[each]}" for each in SEVERITY if each in cell_.counts]
    return join([badge(status), *(tag("small", count_) for count_ in counts)])


def _why(records: Sequence[RunRecord]) -> Html | None:
    """One line for all verdicts that share a reason, as at the end of a session."""
    lines = [
        Line([badge(reason.status), str(len(reason.verdicts)), reason.sentence(record)], {"status": reason.status})
        for record in records
        for reason in reasons(record)
    ]
    if not lines:
        return None
    return section(
        "why",
        "Why it is not all PASS",
        "Verdicts that share a reason share a line, the worst first.",
        table("Reasons", ["Verdict", "Verdicts #", "Reason"], lines, hidden=True),
    )


def _verdicts(records: Sequence[RunRecord]) -> Html | None:
    found = [(record, verdict) for record in records for verdict in record.verdicts]
    if not found:
        return None
    found.sort(key=lambda each: SEVERITY.index(each[1].status))
    lines = []
    for record, verdict in found:
        many = len(verdict.warnings)
        told = f"{many} warning{'' if many == 1 else 's'}"
        warned = folded(told, items(verdict.warnings), class_="small") if many else ""
        explanation = join([verdict.explanation, warned])
        lines.append(
            Line(
                [
                    badge(verdict.status),
                    _engine(record, verdict.engine, records),
                    verdict.workload or "",
                    verdict.metric.replace("_", " "),
                    percent(verdict.change),
                    explanation,
                ],
                _facets(record, verdict.engine, status=verdict.status),
            )
        )
    shown = table(
        f"{len(lines)} verdicts, the worst first",
        ["Verdict", "Engine", "Workload", "Metric", "Worse by #", "Explanation"],
        lines,
        key="all-verdicts",
    )
    joint = [join([badge(entry.status), f" {entry.explanation}"]) for record in records for entry in record.joint]
    together = [tag("h3", "Speed and quality together"), items(joint, class_="plain")] if joint else []
    again = [str(rerun) for record in records for rerun in reruns(record)]
    repeated = [tag("h3", "Run again"), items(again)] if again else []
    return section(
        "verdicts",
        "Every verdict",
        f"Intervals in brackets are {100 * CONFIDENCE:g} % intervals. A change is how much worse, whatever the metric.",
        shown,
        *together,
        *repeated,
    )


def _tradeoff(points: Sequence[Tradeoff], figures: list[Figure]) -> Html | None:
    if not points:
        return None
    more = {quality.label: quality.more_is_better for quality in QUALITIES}
    order = [*more, MEMORY]
    labels = sorted({point.against for point in points}, key=order.index)
    choices = [
        Choice(
            label,
            charts.tradeoff(label, more.get(label, False)),
            [_tradeoff_value(point) for point in points if point.against == label],
        )
        for label in labels
    ]
    figure = Figure("tradeoff", "Speed against", choices, {"group": "Model and machine", "workload": "Workload"})
    figures.append(figure)
    lines = [
        Line(
            [
                join([point.engine.name, tag("small", f" {point.engine.model}", class_="soft")]),
                point.workload,
                number(point.speed, 1),
                point.against,
                number(point.y, 3 if point.y < 100 else 0),
                number(point.memory, 0),
                "yes" if point.front else "no",
            ],
            vars(point.engine),
        )
        for point in points
    ]
    columns = ["Engine", "Workload", "Tokens/s #", "Against", "Its value #", "Peak memory, MiB #", "On the front"]
    return section(
        "tradeoff",
        "Speed against quality against memory",
        "Up and to the right is better; a larger mark needs more memory. Filled marks are on the Pareto front: no"
        " engine beside them is at least as good in speed, quality and memory, and better in one. The dashed line is"
        " the front of the two axes alone. Machines, models and workloads are never mixed.",
        figure.markup(),
        folded(f"The {len(lines)} figures", table("Speed, quality and memory of each engine", columns, lines)),
    )


def _tradeoff_value(point: Tradeoff) -> dict[str, object]:
    return {
        **vars(point.engine),
        "group": f"{point.engine.model} on {point.engine.machine}",
        "workload": point.workload,
        "label": point.engine.name,
        "speed": point.speed,
        "y": point.y,
        "memory": point.memory,
        "front": point.front,
        "onfront": "yes" if point.front else "no",
        "edge": point.edge,
    }


def _live(found: Sequence[Pair], figures: list[Figure]) -> Html | None:
    if not found:
        return None
    choices = [
        Choice(
            SPEEDS.get(metric, metric),
            charts.raced(SPEEDS.get(metric, metric)),
            [_pair_value(pair) for pair in found if pair.metric == metric],
        )
        for metric in dict.fromkeys([*(name for name in SPEEDS), *(pair.metric for pair in found)])
        if any(pair.metric == metric for pair in found)
    ]
    figure = Figure("live", "Metric", choices, {"run": "Run"})
    figures.append(figure)
    lines = [
        Line(
            [
                join([pair.engine.name, tag("small", f"over {pair.base}, run {pair.run}", class_="below")]),
                pair.workload,
                SPEEDS.get(pair.metric, pair.metric),
                badge(pair.status),
                percent(pair.change),
                f"{percent(pair.low)} to {percent(pair.high)}" if math.isfinite(pair.low) else "none yet",
                percent(pair.margin),
                percent(pair.tolerated),
                str(len(pair.launches)),
            ],
            {**vars(pair.engine), "status": pair.status},
        )
        for pair in found
    ]
    columns = ["Engine", "Workload", "Metric", "Verdict", "Slower by #", "Interval", "Margin #", "Tolerated #"]
    columns += ["Launches #"]
    return section(
        "live",
        "Against the live base",
        "Each engine ran beside an accepted one, launched in pairs. A dot under an interval is one launch; the first"
        " tick behind zero is the margin up to which a slowdown is no alarm, the second the slowdown that must not"
        " pass.",
        figure.markup(),
        table("Each pair and its interval", columns, lines),
    )


def _pair_value(pair: Pair) -> dict[str, object]:
    return {
        **vars(pair.engine),
        "run": pair.run,
        "row": f"{pair.engine.name}, {pair.workload.partition('-')[0]}",
        "status": pair.status,
        "base": pair.base,
        **{name: 100 * getattr(pair, name) for name in ("change", "low", "high", "margin", "tolerated")},
        "launches": [100 * launch for launch in pair.launches] or [None],
    }


def _results(records: Sequence[RunRecord], figures: list[Figure]) -> Html | None:
    rows = [(record, row) for record in records for row in record_rows(record)]
    content: list[str] = []
    if values := [
        {
            **value,
            "run": record.id,
            "row": f"{value['backend']} {value['precision']}, {value['workload'].partition('-')[0]}",
        }
        for record in records
        for value in speedups(record)
    ]:
        figure = Figure("speedup", "", [Choice("", charts.over_reference(), values)], {"run": "Run"})
        figures.append(figure)
        content += [tag("h3", "Speed over the reference"), figure.markup()]
    if rows:
        shown = [
            column
            for column in COLUMNS
            if column[1] not in ("model", "engine", "precision", "verdict")
            and not column[1].startswith("speedup")
            and any(getattr(row, column[1]) is not None for _, row in rows)
        ]
        columns = ["Engine", *(f"{title} #" for title, _, _ in shown), f"{SPEEDUP_HEADING} #", "Verdict"]
        lines = []
        for record, row in rows:
            cells = [cell(row, attribute, decimals, "n/a") for _, attribute, decimals in shown]
            below = record.id if len(records) > 1 else row.model
            engine = join([f"{row.engine} {row.precision}", tag("small", f" {below}", class_="soft")])
            facets = {"machine": record.fingerprint.key, "model": row.model, "backend": row.engine}
            facets |= {"precision": row.precision}
            lines.append(Line([engine, *cells, speedup_text(row), badge(row.verdict)], facets))
        notes = [*COLUMN_NOTES, *(f"Data: {note}." for note in _once(data_notes(r.quality) for r in records))]
        content += [
            tag("h3", "All figures"),
            table("Results by engine and batch size", columns, lines),
            folded("What the columns mean", items(notes)),
        ]
    for record in records:
        content += side_parts(record)
    scores = [
        Line(
            [_engine(record, entry.engine, records), entry.metric, name, number(score, 4), str(len(entry.items))],
            _facets(record, entry.engine),
        )
        for record in records
        for entry in record.quality
        for name, score in headline_scores(entry.scores).items()
    ]
    if scores:
        inside = table("Every score", ["Engine", "Metric", "Score", "Value #", "Items #"], scores)
        remarks = [note for record in records for note in quality_notes(record)]
        content.append(folded(f"All {len(scores)} quality scores", inside, items(remarks) if remarks else Html("")))
    if not content:
        return None
    lead = "Medians over the rounds; what was not measured says n/a."
    return section("results", "What was measured", lead, *content)


def _once(lists: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(note for each in lists for note in each))


def _gates(runs: Sequence[Run]) -> Html | None:
    again = [(run.record, outcome) for run in runs for outcome in recompute_verdicts(run.record)]
    if not again:
        return None
    agree = sum(outcome.agrees for _, outcome in again)
    records = [run.record for run in runs]
    lines = [_gate_line(record, outcome, records) for record, outcome in again]
    columns = [
        "Engine",
        "Workload",
        "Metric",
        "Margin #",
        "False alarms stated #",
        "Smallest change seen #",
        "Samples #",
    ]
    columns += ["Recomputed", "Audit on this machine"]
    measured = [line for run in runs for line in _measured(run)]
    return section(
        "gates",
        "How far the gates can be trusted",
        f"{agree} of {len(again)} verdicts came out the same when they were recomputed from the records just now. A"
        " gate's audit is measured with engines that did not change, and with really slowed ones.",
        table("Each gate, what it states and what was measured of it", columns, lines),
        *([tag("h3", "Audits of these runs"), items(measured)] if measured else []),
        *_speed_notes(runs),
    )


def _speed_notes(runs: Sequence[Run]) -> Iterator[Html]:
    notes = _once(speed_notes(run.record) for run in runs)
    if notes:
        yield folded("Under the speed tables", items(notes))


def _gate_line(record: RunRecord, outcome: Recomputed, records: Sequence[RunRecord]) -> Line:
    verdict = outcome.stored
    if outcome.again is None:
        agrees = join([tag("span", "not recomputed", class_="worse"), f": {outcome.problem}"])
    elif outcome.agrees:
        agrees = Html("agrees")
    else:
        agrees = join([tag("span", "differs", class_="worse"), ": now ", badge(outcome.again.status.value)])
    audit: str = ""
    if verdict.inputs.get("gate") == "speed":
        audit = str(verdict.inputs.get("audit") or "none accepted").removeprefix("this gate on this machine: ")
    return Line(
        [
            _engine(record, verdict.engine, records),
            verdict.workload or "",
            verdict.metric.replace("_", " "),
            percent(verdict.margin),
            f"{100 * verdict.alpha:.2g} %" if verdict.alpha else "none",
            percent(verdict.smallest_visible),
            str(verdict.samples),
            agrees,
            audit,
        ],
        _facets(record, verdict.engine, status=verdict.status),
    )


def _measured(run: Run) -> Iterator[str]:
    for gate in run.audit.gates.values() if run.audit is not None else ():
        yield from _audit_lines(gate)


def _audit_lines(gate: AnyAudit) -> Iterator[str]:
    if isinstance(gate, AuditedLaunches):
        yield from launch_audit.report(gate)
        return
    result = block_audit.result(gate)
    name = f"{gate.engine} {gate.workload} {gate.metric}"
    yield f"{name}: {one_line(result)}"
    yield f"{name}: {power_line(result)}"
    for entry in gate.sessions[-1].confirmations:
        yield f"{name}: really slowed by {100 * entry.slowdown:g} %: {entry.status}: {entry.explanation}"


def _texts(runs: Sequence[Run]) -> Html | None:
    found = [differences for run in runs for differences in run.differences]
    if not found:
        return None
    parts = []
    for each in found:
        shown = Html("\n".join(articles(each, TEXTS_SHOWN, level=3)))
        title = f"{heading(each)}: {len(each.found)} of {each.items} differ"
        parts.append(folded(title, tag("p", count(each, TEXTS_SHOWN)), shown))
    return section(
        "texts",
        "What the engines wrote",
        f"Two engines' answers beside each other, the least alike first. “{REFERENCE}” is what answers are compared"
        " with.",
        *parts,
    )


def _runs(runs: Sequence[Run]) -> Html:
    return section(
        "runs",
        "Where this comes from",
        "Machine, versions and settings of each run. Everything on this page is from these records.",
        *(_run(run.record) for run in runs),
    )


def _run(record: RunRecord) -> Html:
    facts: list[tuple[str, str]] = [
        ("Started", record.started),
        ("Finished", record.finished),
        ("Commit", record.commit or "unknown"),
        ("Arguments", " ".join(record.arguments) or "none"),
        ("enginegate", record.enginegate),
        ("Model", f"{record.model.source}, digest {record.model.digest[:16]}"),
        ("Machine", ", ".join(record.machines)),
        *((name, str(value)) for name, value in record.fingerprint.identity.items()),
        *((name, str(value)) for name, value in record.fingerprint.context.items()),
        *((f"shard {shard.number}", f"{shard.run} on {shard.machine}") for shard in _shards(record)),
        *((f"{entry.id} ({entry.role})", f"{entry.version}, key {entry.key[:16]}") for entry in record.engines),
        *((race.head.engine, f"against {race.against}; {race.stopped}") for race in record.races),
        *((arena.workload, f"{len(arena.blocks)} blocks, {arena.stopped}") for arena in record.arenas),
    ]
    warnings = [*record.warnings, *(f"{arena.workload}: {text}" for arena in record.arenas for text in arena.warnings)]
    for arena in record.arenas:
        warnings += [f"{arena.workload}: {name} left the race: {why}" for name, why in arena.failures.items()]
    warnings += [warning for race in record.races for warning in (*race.warnings, race.failure) if warning]
    listed = tag("dl", *(part for name, value in facts for part in (tag("dt", name), tag("dd", value))))
    told = [tag("h3", "Warnings"), items(_once([warnings]))] if warnings else []
    return folded(f"{record.id}: {record.model.label}: {tally(record)}", listed, *told)


def _shards(record: RunRecord) -> Sequence[ShardRun]:
    return record.shards.held if record.shards is not None else ()
