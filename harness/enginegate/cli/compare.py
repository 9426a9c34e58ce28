"""``enginegate compare``: base sessions against a new one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import (
    Subparsers,
    add_json,
    add_runs,
    command,
    fraction,
    print_json,
    printable,
    runs_folder,
    say,
)

if TYPE_CHECKING:
    from enginegate.verdicts.compare import Compared, Comparison
    from enginegate.verdicts.compare_rule import Margin

#: Order and words of the outcomes.
WORDS = {"worse": "REGRESSION", "undecided": "INCONCLUSIVE", "better": "improvement", "same": "unchanged"}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "compare",
        "compare base sessions with a new one, benchmark by benchmark",
        "enginegate compare monday.json tuesday.json today.json --margin 5%",
    )
    parser.add_argument(
        "sessions",
        metavar="SESSION",
        nargs="+",
        help="BASE sessions and, last, the NEW one: run records, or pytest-benchmark JSON files with samples",
    )
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        type=_margin,
        metavar="[NAMES=]SHARE",
        help="slowdown that is no regression, e.g. 2.5%%, and twice of which must not pass (default: gates.speed as NEW"
        " was configured; 3%% and 8%% where it tells none); NAMES= limits it to a metric (itl=5%%), a group"
        " (group:decode=8%%) or benchmarks ('bench:*b8*=10%%'); may be given several times, see below",
    )
    parser.add_argument(
        "--alpha",
        type=fraction,
        default=0.01,
        metavar="SHARE",
        help="probability of a false regression, for each benchmark (default 0.01)",
    )
    parser.add_argument("--metric", type=_metrics, metavar="NAMES", help="only these metrics, comma separated")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only benchmarks whose whole name fits, e.g. '*b8*'; may be given several times",
    )
    parser.add_argument(
        "--renamed",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a benchmark (in run records: an engine) that NEW has under another name than the BASE sessions; may be"
        " given several times; @FILE reads a JSON object of old to new names",
    )
    parser.add_argument(
        "--across-machines",
        action="store_true",
        help="judge sessions of different machines or clocks, too; without it they are inconclusive",
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request")
    parser.add_argument("--strict", action="store_true", help="exit 3 where a benchmark is inconclusive or missing")
    add_json(parser)
    add_runs(parser)
    parser.epilog = f"{parser.epilog}\n\n{_EPILOG}"
    parser.set_defaults(handler=run)


_EPILOG = """patterns: * is any text, ? one character, all else itself; a pattern is for the whole name.
margins: one for a benchmark counts before one for its group, that before one for its metric, that before the one for
         all; the group of a benchmark in a run record is its workload. They are for speed; memory and quality are
         judged as NEW was configured. A pattern or name that fits nothing is an error.
machine: in a run record the fingerprint's key; in a file of pytest-benchmark system, architecture, processor and
         number of CPUs. A difference of node or Python is only a warning.

exit codes: 0 nothing regressed, 1 a regression and nothing else, 2 bad input or nothing in common,
            3 with --strict: something inconclusive or missing, 4 an unforeseen error: nothing was decided"""


def _margin(text: str) -> Margin:
    """``3%``, ``itl=5%``, ``group:decode=8%`` or ``bench:*b8*=10%``, for argparse."""
    from enginegate.verdicts.compare_rule import read_margin

    names, equals, share = text.rpartition("=")
    if equals and not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing before its =")
    try:
        return read_margin(names, fraction(share))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _metrics(text: str) -> frozenset[str]:
    """``speedup,itl``, for argparse."""
    names = frozenset(name.strip() for name in text.split(",")) - {""}
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: name metrics, or leave it out to compare all")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    from enginegate.core.errors import ConfigError
    from enginegate.storage.runs import find_record
    from enginegate.verdicts.compare import compare_sessions
    from enginegate.verdicts.compare_rule import Rule, read_renamed
    from enginegate.verdicts.sources import load_session

    if len(arguments.sessions) < 2:
        raise ConfigError("one session cannot be compared", "name one or more BASE sessions and, last, the NEW one")
    if not 0 < arguments.alpha < 0.5:
        raise ConfigError(f"--alpha {arguments.alpha} is not between 0 and 0.5", "for example --alpha 0.01")
    targets = [(margin.kind, margin.pattern) for margin in arguments.margin]
    if len(set(targets)) < len(targets):
        raise ConfigError("two of --margin are for the same", "give one margin for each name")
    runs = runs_folder(arguments)
    *bases, new = [load_session(find_record(name, runs)) for name in arguments.sessions]
    names = read_renamed(_renamings(arguments.renamed), bases, new)
    metrics = arguments.metric or frozenset()
    rule = Rule(tuple(arguments.margin), arguments.alpha, metrics, tuple(arguments.filter), arguments.across_machines)
    comparison = compare_sessions(bases, new, rule, names)
    if arguments.json:
        print_json(_as_json(comparison))
    else:
        say("\n".join(_markdown(comparison) if arguments.markdown else map(printable, _plain(comparison))))
    return exit_code(comparison, arguments.strict)


def _renamings(given: Sequence[str]) -> list[tuple[str, ...]]:
    """What --renamed says: pairs from files, and ``OLD=NEW`` yet to be split. Raises ConfigError."""
    from enginegate.core.errors import ConfigError
    from enginegate.storage.reading import read_strictly

    found: list[tuple[str, ...]] = []
    for text in given:
        if not text.startswith("@"):
            found.append((text,))
            continue
        try:
            content = read_strictly(Path(text[1:]))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--renamed {text} cannot be read: {error}", "give a JSON file") from error
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
            raise ConfigError(f"--renamed {text} is no JSON object of old to new names", 'for example {"old": "new"}')
        found += content.items()
    return found


def exit_code(comparison: Comparison, strict: bool) -> int:
    """0 nothing regressed, 1 a regression, 3 with ``strict`` where something is inconclusive or missing."""
    if comparison.worst == "FAIL":
        return 1
    return 3 if strict and (comparison.worst != "PASS" or comparison.missing) else 0


def _ordered(comparison: Comparison) -> list[Compared]:
    return sorted(comparison.compared, key=lambda item: (list(WORDS).index(item.outcome), item.benchmark, item.metric))


def _tally(comparison: Comparison) -> str:
    outcomes = [item.outcome for item in comparison.compared]
    counts = [f"{outcomes.count(name)} {word.lower()}" for name, word in WORDS.items() if name in outcomes]
    return ", ".join([*counts, f"{len(comparison.missing)} missing", f"{len(comparison.new)} new"])


def _expected(comparison: Comparison) -> str:
    from enginegate.gates.verdict import CONFIDENCE

    count = sum(item.verdict.alpha for item in comparison.compared)
    alpha = f"--alpha is for each benchmark; if nothing changed, up to {count:.2g} false regressions are expected"
    return f"in brackets: {100 * CONFIDENCE:g} % intervals; {alpha}"


def _plain(comparison: Comparison) -> Iterator[str]:
    yield from (f"warning: {text}" for text in comparison.warnings)
    for item in _ordered(comparison):
        yield f"{WORDS[item.outcome]:12}  {item.benchmark} {item.metric}: {item.verdict.explanation}"
    yield from (f"{'missing':12}  {benchmark} {metric}" for benchmark, metric in comparison.missing)
    yield from (f"{'new':12}  {benchmark} {metric}" for benchmark, metric in comparison.new)
    yield _tally(comparison)
    yield f"note: {_expected(comparison)}"


def _markdown(comparison: Comparison) -> Iterator[str]:
    from enginegate.report.markup import markdown_table

    yield f"### enginegate compare: {_tally(comparison)}\n"
    yield from (f"> {printable(text)}\n" for text in comparison.warnings)
    rows = [
        [WORDS[item.outcome], item.benchmark, item.metric, _ratio(item), item.verdict.explanation]
        for item in _ordered(comparison)
    ]
    rows += [["missing", benchmark, metric, "", ""] for benchmark, metric in comparison.missing]
    rows += [["new", benchmark, metric, "", ""] for benchmark, metric in comparison.new]
    shown = ([printable(cell) for cell in row] for row in rows)
    yield from markdown_table(["Outcome", "Benchmark", "Metric", "Change", "Explanation"], shown)
    yield f"\n{_expected(comparison)}"


def _ratio(item: Compared) -> str:
    return "" if item.verdict.change is None else f"{100 * item.verdict.change:+.1f} %"


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "compared": [
            {
                "benchmark": item.benchmark,
                "metric": item.metric,
                "outcome": item.outcome,
                "status": item.verdict.status.value,
                "estimate": item.verdict.estimate,
                "interval": list(item.verdict.interval),
                "unit": item.verdict.unit,
                "change": item.verdict.change,
                "margin": item.verdict.margin,
                "alpha": item.verdict.alpha,
                "smallest_visible": item.verdict.smallest_visible,
                "samples": item.verdict.samples,
                "explanation": item.verdict.explanation,
                "warnings": list(item.verdict.warnings),
            }
            for item in _ordered(comparison)
        ],
        "missing": [{"benchmark": benchmark, "metric": metric} for benchmark, metric in comparison.missing],
        "new": [{"benchmark": benchmark, "metric": metric} for benchmark, metric in comparison.new],
        "warnings": list(comparison.warnings),
    }
