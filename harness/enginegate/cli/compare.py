"""``enginegate compare``: base sessions against a new one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import Subparsers, add_json, add_runs, command, fraction, print_json, runs_folder

if TYPE_CHECKING:
    from enginegate.verdicts.compare import Compared, Comparison

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
        type=fraction,
        metavar="SHARE",
        help="slowdown that is no regression, e.g. 2.5%%, and twice of which must not pass"
        " (default: gates.speed as NEW was configured; 3%% and 8%% where it tells none)",
    )
    parser.add_argument(
        "--alpha",
        type=fraction,
        default=0.01,
        metavar="SHARE",
        help="probability of a false regression, for each benchmark (default 0.01)",
    )
    parser.add_argument("--metric", default="", metavar="NAMES", help="only these metrics, comma separated")
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request")
    parser.add_argument("--strict", action="store_true", help="exit 3 where a benchmark is inconclusive or missing")
    add_json(parser)
    add_runs(parser)
    parser.epilog = (
        f"{parser.epilog}\n\nexit codes: 0 nothing regressed, 1 a regression, 2 bad input or nothing in common,"
        "\n            3 with --strict: something inconclusive or missing"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    from enginegate.core.errors import ConfigError
    from enginegate.storage.runs import find_record
    from enginegate.verdicts.compare import Rule, compare_sessions
    from enginegate.verdicts.sources import load_session

    if len(arguments.sessions) < 2:
        raise ConfigError("one session cannot be compared", "name one or more BASE sessions and, last, the NEW one")
    if not 0 < arguments.alpha < 0.5:
        raise ConfigError(f"--alpha {arguments.alpha} is not between 0 and 0.5", "for example --alpha 0.01")
    runs = runs_folder(arguments)
    *bases, new = [load_session(find_record(name, runs)) for name in arguments.sessions]
    metrics = frozenset(name.strip() for name in arguments.metric.split(",") if name.strip())
    comparison = compare_sessions(bases, new, Rule(arguments.margin, arguments.alpha, metrics))
    if arguments.json:
        print_json(_as_json(comparison))
    else:
        print("\n".join(_markdown(comparison) if arguments.markdown else _plain(comparison)))
    return exit_code(comparison, arguments.strict)


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
    from enginegate.report.markdown import markdown_table

    yield f"### enginegate compare: {_tally(comparison)}\n"
    yield from (f"> {text}\n" for text in comparison.warnings)
    rows = [
        [WORDS[item.outcome], item.benchmark, item.metric, _ratio(item), item.verdict.explanation]
        for item in _ordered(comparison)
    ]
    rows += [["missing", benchmark, metric, "", ""] for benchmark, metric in comparison.missing]
    rows += [["new", benchmark, metric, "", ""] for benchmark, metric in comparison.new]
    yield from markdown_table(["Outcome", "Benchmark", "Metric", "Change", "Explanation"], rows)
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
