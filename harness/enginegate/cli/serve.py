"""``enginegate serve``: the rate up to which engines keep a service level, and their throughput-latency curves."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from enginegate.cli.common import Subparsers, add_engines, add_json, columns, command, folder, fraction, print_json, say

if TYPE_CHECKING:
    from enginegate.core.serving_records import CheckEntry, ServingRun
    from enginegate.plan.selection import Candidate
    from enginegate.report.progress import Display
    from enginegate.verdicts.capacity import Curve

#: Rates that a search tries for one engine.
_MOST = 12


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "serve",
        "find the rate up to which engines keep a service level, and their throughput-latency curves",
        "enginegate serve --precision int8_wo --out results",
    )
    add_engines(parser)
    parser.add_argument("--rates", type=rates, default=(), metavar="R,R", help="requests/s to try, instead of a search")
    parser.add_argument("--requests", type=requests, metavar="N", help="requests of one run")
    parser.add_argument(
        "--tolerance", type=fraction, default=0.15, metavar="SHARE", help="how well to know the capacity (default 15%%)"
    )
    parser.add_argument("--out", type=folder, metavar="DIR", help="where to write the CSV, the JSON and the plot")
    parser.add_argument(
        "--generator",
        action="store_true",
        help="no engine: does the load generator keep its schedule beside a server that computes nothing? "
        "exit 1 where it does not (default: 200 requests/s)",
    )
    add_json(parser)
    parser.set_defaults(handler=run)


def rates(text: str) -> tuple[float, ...]:
    """``2,4,8``, for argparse: positive rates, each once."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            raise argparse.ArgumentTypeError(f"{part!r} is no rate of requests a second above 0")
        found.append(rate)
    if not found:
        raise argparse.ArgumentTypeError("no rate is named; for example --rates 2,4,8")
    return tuple(sorted(set(found)))


def requests(text: str) -> int:
    """A whole number of at least 10, for argparse."""
    if not text.isdecimal() or not 10 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests from 10 to 1,000,000")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Serve, print, write."""
    if arguments.generator:
        return check_generator(arguments)
    from enginegate.config.project import find_project
    from enginegate.plan.selection import names, select
    from enginegate.report.progress import shown_on_stderr
    from enginegate.report.serving_curve import capacity_text, curve_rows, curve_values

    project = find_project()
    selection = select(
        models=names(arguments.model),
        configs=names(arguments.config),
        engines=names(arguments.engine),
        precisions=names(arguments.precision),
        folder=project.root / "configs",
        default=project.model,
    )
    curves: list[Curve] = []
    with shown_on_stderr() as progress:
        for candidate in selection.candidates:
            curve = _curve(candidate, arguments, progress)
            curves.append(curve)
            if not arguments.json:
                progress.settle()
                say(f"{curve.engine}: {curve.load}\n" + "\n".join(columns(curve_rows(curve))))
                say(capacity_text(curve) + (f"; knee at {curve.knee:.3g}/s" if curve.knee is not None else ""))
                for point in curve.points:
                    if not point.believed:
                        say(f"  at {point.rate:.3g}/s: {point.verdict.explanation}")
                say(f"  each rate errs with probability {curve.level:.2g} at most, either way\n")
    if arguments.json:
        print_json([curve_values(curve) for curve in curves])
    if arguments.out is not None:
        _write(curves, arguments.out, quiet=arguments.json)
    return 0


def _curve(candidate: Candidate, arguments: argparse.Namespace, progress: Display) -> Curve:
    from enginegate.core.cache import cache_folder
    from enginegate.core.progress import Step
    from enginegate.gates.serving import SloPolicy
    from enginegate.machine.fingerprint import fingerprint
    from enginegate.measure.serving.pairs import serve_run
    from enginegate.session.bench import ModelBench
    from enginegate.session.serving import ServingLoad
    from enginegate.verdicts.capacity import find_curve

    config = candidate.config
    load = ServingLoad.of(config, candidate.spec)
    bench = ModelBench.of(
        config, fingerprint(), cache_folder(), progress, expected=[(candidate.spec, candidate.runtime)]
    )
    try:
        engine = bench.engines.get(candidate.spec, candidate.runtime, "candidate")
        bench.engines.settle()
        bench.monitor([candidate.spec])
        pool, policy = load.pool(bench.files), load.policy(bench.vocabulary())

        def serve(rate: float, number: int) -> ServingRun:
            trace, seed = load.made(number, rate, arguments.requests)
            progress(Step(f"serving {candidate.id}", f"{len(trace)} requests at {rate:.3g}/s"))
            return serve_run(engine, trace, pool, seed, policy)

        beta = config.file.gates.serving.beta
        return find_curve(
            candidate.id,
            serve,
            load.slo,
            SloPolicy(share=load.slo.share, alpha=beta, beta=beta),
            rates=arguments.rates,
            start=config.file.serving.rate,
            tolerance=arguments.tolerance,
            most=_MOST,
            load=load.entry(load.made()[0]).shape,
        )
    finally:
        bench.close()


def _write(curves: list[Curve], out: Path, *, quiet: bool) -> None:
    from enginegate.core.errors import RecordError, edge
    from enginegate.core.files import to_json
    from enginegate.report.serving_curve import curve_values, draw_curves, write_curve_csv

    table, values, plot = out / "serving_curve.csv", out / "serving_curve.json", out / "serving_curve.png"
    with edge(RecordError, f"the curve cannot be written to {out}", "name another folder with --out DIR"):
        out.mkdir(parents=True, exist_ok=True)
        write_curve_csv(curves, table)
        values.write_text(to_json([curve_values(curve) for curve in curves]), encoding="utf-8")
        draw_curves(curves).savefig(plot, dpi=110, format="png")
    if not quiet:
        for path in (table, values, plot):
            say(f"written: {path}")


def check_generator(arguments: argparse.Namespace) -> int:
    """Whether the load generator keeps its own schedule: 0, or 1 where an invariant is broken."""
    from enginegate.core.serving_records import SloEntry
    from enginegate.measure.serving.certify import certify
    from enginegate.measure.serving.figures import figures

    broken, told = False, []
    for rate in arguments.rates or (200.0,):
        run = certify(rate, arguments.requests or 2000)
        checks = [check.model_dump() for check in run.checks]
        told.append({"rate": rate, "requests": len(run.due), "checks": checks})
        broken |= bool(run.why_not)
        if not arguments.json:
            said = figures(run, SloEntry())
            say(f"{len(run.due)} requests at {said.offered:.4g}/s beside a server of known service times:")
            say("\n".join(columns([["CHECK", "FOUND", "LIMIT", ""], *(_check_row(check) for check in run.checks)])))
    if arguments.json:
        print_json(told)
    return 1 if broken else 0


def _check_row(check: CheckEntry) -> list[str]:
    found = {
        "lag": ("sent late, p99", f"{1e3 * check.value:.3f} ms", f"{1e3 * check.limit:.3f} ms"),
        "little": ("Little's law, off by", f"{check.value:.2%}", f"{check.limit:.2%}"),
        "tokens": ("answers of other lengths", f"{check.value:.0f}", f"{check.limit:.0f}"),
        "peak": ("mean tokens/s, at most the peak", f"{check.value:.4g}", f"{check.limit:.4g}"),
        "identity": ("TTFT + ITL against latency, off by", f"{check.value:.2%}", f"{check.limit:.2%}"),
    }[check.name]
    return [*found, check.reason or "holds"]
