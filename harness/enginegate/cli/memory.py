"""``enginegate memory``: what engines take before they are built, what fits, and how a paged KV cache compares."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import (
    Subparsers,
    add_json,
    columns,
    command,
    count,
    folder,
    print_json,
    say,
    show_bytes,
    size,
)

if TYPE_CHECKING:
    from enginegate.session.memory_files import Subject
    from enginegate.session.memory_proof import Proof

#: More sequences, and more tokens of one, than anybody asks for.
_MOST = 1 << 30
_PARTS = ("weights", "kv", "activations", "own", "total")


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "memory",
        "say what engines take: weights, KV cache, activations, the runtime's own; and what fits",
        "enginegate memory --config configs/smollm2-135m.yaml --batch-sizes 1 4 8 16 --sequence-lengths 256 512 1024",
    )
    parser.add_argument("--config", default="", metavar="FILE", help="a configuration file of your own")
    parser.add_argument(
        "--model", default="", metavar="NAME|PATH", help="a configuration by name, a checkpoint, or a config.json"
    )
    parser.add_argument("--engine", default="", help="backends, comma separated")
    parser.add_argument("--precision", default="", help="precisions, comma separated")
    parser.add_argument(
        "--kv-format", default="", metavar="TYPE", help="element type of the KV cache, in the engine's own words"
    )
    parser.add_argument(
        *("--batch-sizes", "--batch_sizes"), type=_positive, nargs="+", default=[1, 4, 8, 16], metavar="N"
    )
    parser.add_argument(
        *("--sequence-lengths", "--sequence_lengths"),
        type=_positive,
        nargs="+",
        default=[256, 512, 1024],
        metavar="N",
        help="tokens of a sequence, prompt and answer together",
    )
    parser.add_argument("--fits", type=size, metavar="SIZE", help="the largest batch and length in so much memory")
    parser.add_argument(
        "--fraction", type=_share, default=1.0, metavar="SHARE", help="the engine's memory fraction (default: all)"
    )
    parser.add_argument(
        "--prove", action="store_true", help="with --fits: load the largest batch, and fail at the next one"
    )
    parser.add_argument("--lengths", type=folder, metavar="FILE", help="lengths of sequences, one in a line")
    parser.add_argument(
        "--draw",
        default="",
        metavar="KIND:MEAN:LONGEST",
        help="draw lengths: lognormal, uniform or constant (default: lognormal, about the middle length asked for)",
    )
    parser.add_argument("--seed", type=count, default=0, help="of drawn lengths (default 0)")
    parser.add_argument("--csv", type=folder, metavar="FILE", help="write the table as CSV")
    parser.add_argument("--plot", type=folder, metavar="FILE", help="write a heat map of the totals as PNG")
    add_json(parser)
    parser.epilog = f"{parser.epilog}\n\nexit codes: 0 all well, 1 --prove did not come to a proof, 2 bad input"
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict, print, write, and prove where asked."""
    from enginegate.config.project import find_project
    from enginegate.core.errors import ConfigError
    from enginegate.plan.selection import names
    from enginegate.report.progress import shown_on_stderr
    from enginegate.session.memory_files import subjects
    from enginegate.session.memory_report import MemoryQuestion, memory_report

    if arguments.prove and arguments.fits is None:
        raise ConfigError("--prove proves what fits, and nothing says into what", "give --fits too, as 24GB")
    project = find_project()
    with shown_on_stderr() as progress:
        found = subjects(
            config=arguments.config,
            model=arguments.model,
            engines=names(arguments.engine),
            precisions=names(arguments.precision),
            kv_format=arguments.kv_format,
            folder=project.root / "configs",
            default=project.model,
            progress=progress,
        )
        asked = MemoryQuestion(
            arguments.batch_sizes,
            arguments.sequence_lengths,
            arguments.fits,
            arguments.fraction,
            arguments.lengths,
            arguments.draw,
            arguments.seed,
        )
        reports = [memory_report(subject, asked) for subject in found]
        proofs = [_proved(each, report, arguments, progress) for each, report in zip(found, reports, strict=True)]
    for report, proof in zip(reports, proofs, strict=True):
        report["proof"] = None if proof is None else _proof_json(proof)
    if arguments.csv:
        _write_csv(reports, arguments.csv)
    if arguments.plot:
        from enginegate.report.memory_plot import save_heat_map

        _writing(arguments.plot, lambda: save_heat_map(reports, arguments.plot))
    if arguments.json:
        print_json(reports)
    else:
        say("\n\n".join("\n".join(_text(report)) for report in reports))
        for path in filter(None, (arguments.csv, arguments.plot)):
            say(f"written: {path}")
    return 1 if any(proof is not None and proof.largest is None for proof in proofs) else 0


def _proved(subject: Subject, report: dict[str, Any], arguments: argparse.Namespace, progress: Any) -> Proof | None:
    if not arguments.prove:
        return None
    from enginegate.session.memory_proof import prove

    tokens = arguments.sequence_lengths[0]
    return prove(subject, tokens, arguments.fits, report["fits"]["batch_at"][str(tokens)], progress)


def _proof_json(proof: Proof) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(proof)


def _text(report: dict[str, Any]) -> Iterator[str]:
    kinds = " + ".join(
        f"{kind['layers']} layers of {kind['kind']} ({kind['kv_heads']} KV heads of {kind['head_size']})"
        for kind in report["attention"]
    )
    kv = report["kv"]
    blocks = " + ".join(dict.fromkeys(f"{pool['block_tokens']} tokens" for pool in kv["pools"]))
    yield f"{report['engine']}: {kinds}"
    if report["note"]:
        yield f"  {report['note']}"
    yield f"  KV cache: {kv['format']}, {kv['bytes_per_token']:,.0f} bytes a token, blocks of {blocks}"
    heads = ["batch", "tokens", "weights", "KV cache", "activations", "runtime's own", "total"]
    rows = [
        [f"{row['batch_size']}", f"{row['tokens']:,}", *(_shown(row, part) for part in _PARTS)]
        for row in report["rows"]
    ]
    yield from (f"  {line}" for line in columns([heads, *rows]))
    copies = report["rows"][0]["copies"]
    if copies > 1:
        yield f"  in the total weights count {copies} times: mapped files, and what the runtime packs anew"
    yield f"  the runtime's own: {report['own_source'] or 'not measured for this engine, so there is no total'}"
    if report["no_weights"]:
        yield f"  weights unknown: {report['no_weights']}"
    yield from _paging_text(report["paging"])
    if report["fits"]:
        yield from _fits_text(report["fits"])
    if report["proof"]:
        yield from _proof_text(report["proof"])


def _shown(row: dict[str, Any], part: str) -> str:
    return "n/a" if row[part] is None else show_bytes(row[part])


def _paging_text(paging: dict[str, Any]) -> Iterator[str]:
    lengths = paging["lengths"]
    yield f"  paged against contiguous; lengths: {lengths['source']}; {lengths['mean']:,.0f} tokens on average"
    whole = paging["contiguous_bytes"]
    heads = paging["query_heads_over_kv_heads"]
    wrong = "" if heads == 1 else f" (with attention heads in place of KV heads it would be {heads:g} times that)"
    yield f"    contiguous, {lengths['longest']:,} tokens for each: {show_bytes(whole)}{wrong}"
    rows = [["    block", "paged", "saved", "empty", ""]]
    for each in paging["sizes"]:
        notes = [] if each["offered"] else ["this engine has no such blocks"]
        notes += ["recommended"] if each["block_tokens"] == paging["recommended"] else []
        notes += ["the rule by the mean"] if each["block_tokens"] == paging["rule_by_mean"] else []
        saved = 1 - each["bytes"] / whole
        rows.append(
            [
                f"    {each['block_tokens']}",
                show_bytes(each["bytes"]),
                f"{saved:.1%}",
                f"{each['waste']:.1%}",
                ", ".join(notes),
            ]
        )
    yield from (line.rstrip() for line in columns(rows))
    yield f"    {paging['recommended']}: {paging['reason']}"
    yield f"    the rule by the mean takes {paging['rule_by_mean']}: {paging['rule_problem'] or 'no worse here'}"


def _fits_text(fits: dict[str, Any]) -> Iterator[str]:
    share = "" if fits["fraction"] == 1 else f", {fits['fraction']:.0%} of what is {fits['fraction_of']}"
    yield f"  into {show_bytes(fits['memory'])}{share}:"
    for tokens, batch in fits["batch_at"].items():
        yield f"    at {int(tokens):,} tokens: " + (f"a batch of {batch:,}" if batch else "not one sequence")
    for batch, tokens in fits["tokens_at"].items():
        limit = ", all positions of the model" if tokens == fits["positions"] else ""
        yield f"    a batch of {int(batch):,}: " + (f"{tokens:,} tokens each{limit}" if tokens else "not one token")
    if fits["own_unknown"]:
        yield "    the runtime's own is not known for this engine, and not in it: less will fit"
    if fits["context"]:
        yield f"    a CUDA context of {show_bytes(fits['context'])} is left out of what may be taken"


def _proof_text(proof: dict[str, Any]) -> Iterator[str]:
    yield f"  loaded, {proof['tokens']:,} tokens a sequence, {show_bytes(proof['memory'])} to fit into:"
    for load in proof["loads"]:
        took, law = load["took"], load["predicted"]
        fits = took is not None and took <= proof["memory"]
        found = f"took {show_bytes(took)}" if took is not None else f"failed: {load['problem']}"
        said = "" if law is None else f" (law: {show_bytes(law)})"
        yield f"    a batch of {load['batch_size']:,} {found}{said}: {'fits' if fits else 'does not fit'}"
    largest = proof["largest"]
    if largest is None:
        yield f"    not proved in {len(proof['loads'])} loads"
    else:
        yield f"    proved: {largest:,} fit, {largest + 1:,} do not"


def _write_csv(reports: Sequence[dict[str, Any]], path: Path) -> None:
    import csv

    def write() -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["Engine", "KV Format", "Batch Size", "Tokens", *(f"{part} (bytes)" for part in _PARTS)])
            for report in reports:
                for row in report["rows"]:
                    figures = ["" if row[part] is None else row[part] for part in _PARTS]
                    writer.writerow(
                        [report["engine"], report["kv"]["format"], row["batch_size"], row["tokens"], *figures]
                    )

    _writing(path, write)


def _writing(path: Path, write: Any) -> None:
    from enginegate.core.errors import ConfigError, edge

    with edge(ConfigError, f"{path} cannot be written", "name a file in a folder that is there"):
        write()


def _positive(text: str) -> int:
    number = count(text)
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST:,}")
    return number


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and up to 1, such as 0.9 or 90%")
    return value
