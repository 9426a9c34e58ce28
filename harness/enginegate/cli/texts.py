"""``enginegate texts``: what two engines of a run wrote, beside each other, where they differ most."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, add_runs, command, count, folder, runs_folder, say

if TYPE_CHECKING:
    from pathlib import Path

    from enginegate.storage.texts import MetricTexts

#: By score that sorts, the order in which both are told.
SCORES = {"rougeL": ("ROUGE-L", "BLEU"), "bleu": ("BLEU", "ROUGE-L")}


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "texts",
        "show the texts in which two engines of a run differ most, with the token where they part",
        "enginegate texts latest --engines reference,int4_awq --worst 5 --output texts.html",
    )
    parser.add_argument("run", metavar="RUN", help="a run: a folder, a run.json, an id, or 'latest'")
    parser.add_argument(
        "--engines",
        metavar="A,B",
        help="two engines, by their ids or what those end in, such as int4_awq; 'reference' is what answers are"
        " compared with (default: the two that differ most)",
    )
    parser.add_argument(
        "--metric", default="similarity", help="similarity (answers to prompts), or summaries (default: similarity)"
    )
    parser.add_argument(
        "--worst",
        type=count,
        default=10,
        metavar="N",
        help="how many items, the least alike first (default: 10; 0: all)",
    )
    parser.add_argument("--by", choices=list(SCORES), default="rougeL", help="the score that sorts (default: rougeL)")
    parser.add_argument(
        "--format", choices=["markdown", "html"], help="default: html for a file of that name, else markdown"
    )
    parser.add_argument("--output", type=folder, metavar="FILE", help="where to write it (default: print it)")
    add_runs(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the texts, compare, write or print."""
    from enginegate.core.errors import RecordError, edge
    from enginegate.core.files import write_atomically
    from enginegate.report.texts import differences, least_alike
    from enginegate.report.texts_pages import heading, texts_html, texts_markdown
    from enginegate.report.texts_scores import scorer
    from enginegate.storage.runs import find_record, load_record, record_file

    path = record_file(find_record(arguments.run, runs_folder(arguments)))
    record = load_record(path)
    texts = _texts(path, arguments.metric)
    score = scorer(record, SCORES[arguments.by])
    engines = _named(arguments.engines, texts) if arguments.engines is not None else least_alike(texts, score)
    found = differences(record.id, arguments.metric, texts, engines, score)
    output: Path | None = arguments.output
    as_html = arguments.format == "html" or (
        arguments.format is None and output is not None and output.suffix.lower() in (".html", ".htm")
    )
    page = (texts_html if as_html else texts_markdown)(found, arguments.worst)
    if output is None:
        say(page.removesuffix("\n"))
        return 0
    with edge(RecordError, f"the texts cannot be written to {output}", "name another file with --output FILE"):
        write_atomically(output, page)
    say(f"{heading(found)}: {found.items} prompts, {len(found.found)} with different texts: written to {output}")
    return 0


def _texts(path: Path, metric: str) -> MetricTexts:
    from enginegate.core.errors import RecordError
    from enginegate.storage.texts import TEXTS_NAME, load_texts

    texts = load_texts(path.parent)
    if texts is None:
        raise RecordError(
            f"there are no texts beside {path}: {TEXTS_NAME} is written by sessions that test answers or summaries, and"
            " not by older versions",
            "run pytest tests_quality/test_similarity.py, or name another run",
        )
    if metric not in texts.metrics:
        known = ", ".join(texts.metrics) or "none"
        raise RecordError(f"{path.parent / TEXTS_NAME} has no texts of {metric!r}, but of {known}", "name one of them")
    return texts.metrics[metric]


def _named(names: str, texts: MetricTexts) -> tuple[str, str]:
    from enginegate.core.errors import ConfigError
    from enginegate.report.texts import resolve

    found = [resolve(name.strip(), texts) for name in names.split(",")]
    if len(found) != 2 or found[0] == found[1]:
        raise ConfigError(f"--engines {names} names {', '.join(found)}", "name two different ones: --engines A,B")
    return found[0], found[1]
