"""``enginegate history bisect``: which commit made an engine slower, each step a live race."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginegate.cli.common import Subparsers, add_json, add_runs, command, folder, fraction, print_json, say

if TYPE_CHECKING:
    from enginegate.core.records import VerdictEntry
    from enginegate.verdicts.bisect import Answer, Found, Race

#: Stands for a commit in ``--side``.
COMMIT = "{commit}"


def add_bisect(below: Subparsers) -> None:
    """Declare the search."""
    parser = command(
        below,
        "bisect",
        "find the commit that made an engine slower: each step races a commit live against the good one",
        "enginegate history bisect v1.2 main --precision int8_wo --size 5%",
    )
    parser.add_argument("good", metavar="GOOD", help="a commit before the change")
    parser.add_argument("bad", metavar="BAD", help="a commit after it")
    parser.add_argument(
        "--size", type=fraction, default=0.05, metavar="SHARE", help="the slowdown to look for (default: 5%%)"
    )
    parser.add_argument("--metric", default="speedup", choices=["speedup", "ttft", "itl"], help="default: %(default)s")
    parser.add_argument(
        "--side",
        default=f"git:{COMMIT}",
        metavar="WHAT",
        help=f"what runs a commit, in --against's words, {COMMIT} in its place (default: %(default)s);"
        f" e.g. 'exec:docker run --rm -i IMAGE:{COMMIT} python3'",
    )
    parser.add_argument(
        "--repository", type=folder, default=None, metavar="DIR", help="whose commits they are (default: this one)"
    )
    parser.add_argument("--trust-ends", action="store_true", help="do not first see whether BAD is slower than GOOD")
    for name, what in (
        ("model", "a model by configuration name"),
        ("config", "a configuration file of your own"),
        ("engine", "a backend"),
        ("precision", "a precision"),
        ("batch-size", "a batch size"),
    ):
        parser.add_argument(f"--{name}", default="", help=what)
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", default=1200.0, help="of each step's rounds")
    add_json(parser)
    add_runs(parser)
    parser.epilog = (
        f"{parser.epilog}\n\nexit codes: 0 the commit was found, 1 BAD is not slower than GOOD, 2 bad input,"
        "\n            3 skipped commits leave it open which one it is"
    )
    parser.set_defaults(handler=run)


def commits_between(repository: Path, good: str, bad: str) -> list[str]:
    """The commits after ``good`` up to ``bad``, along first parents, oldest first. Raises ConfigError."""
    from enginegate.core.errors import ConfigError

    for name in (good, bad):
        _git(
            repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", problem=f"there is no commit {name!r}"
        )
    found = _git(repository, "rev-list", "--first-parent", "--reverse", f"{good}..{bad}", problem="no commits").split()
    first = _git(repository, "rev-parse", f"{found[0]}^" if found else bad, problem="no commits").strip()
    start = _git(repository, "rev-parse", f"{good}^{{commit}}", problem="no commits").strip()
    if not found or first != start:
        raise ConfigError(
            f"{good} is not before {bad} along first parents", "name an earlier commit of the same branch first"
        )
    return found


def _git(repository: Path, *arguments: str, problem: str) -> str:
    from enginegate.core.errors import ConfigError, edge

    with edge(ConfigError, f"git cannot be asked about {repository}", "install it, or name another --repository"):
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0]
        raise ConfigError(f"{problem} in {repository}{f': {said}' if said else ''}", "see `git log`")
    return done.stdout


def run(arguments: argparse.Namespace) -> int:
    """Search, and tell each step."""
    from enginegate.config.project import find_project
    from enginegate.core.errors import ConfigError
    from enginegate.verdicts.bisect import Answer, race_of, search, steps_of

    if not arguments.size:
        raise ConfigError("--size 0 is no slowdown", "name the one to look for, such as 5%")
    if COMMIT not in arguments.side:
        raise ConfigError(f"--side {arguments.side!r} has no {COMMIT}", f"for example git:{COMMIT}")
    repository = arguments.repository or find_project().root
    commits = commits_between(repository, arguments.good, arguments.bad)
    steps = steps_of(len(commits), ends=not arguments.trust_ends)
    race = race_of(arguments.size, steps)
    told: list[dict[str, Any]] = []

    def ask(place: int) -> Answer:
        answer, row = _step(arguments, commits[place], race)
        told.append({"commit": commits[place], "answer": answer.name.lower(), **row})
        if not arguments.json:
            say(f"{commits[place][:12]}  {answer.name.lower():<4}  {row['said']}")
        return answer

    if not arguments.json:
        say(
            f"{len(commits)} commits, about {steps} steps: a slowdown of {100 * arguments.size:.3g} %,"
            f" alpha and beta {100 * race.alpha:.2g} % each, margin {100 * race.margin:.3g} %,"
            f" tolerated {100 * race.tolerated:.3g} %"
        )
    if not arguments.trust_ends and ask(len(commits) - 1) is not Answer.BAD:
        slower = told[-1]["answer"] == "skip"
        problem = "cannot be told from" if slower else "is not slower than"
        return _end(arguments, told, None, [], f"{arguments.bad} {problem} {arguments.good}", 3 if slower else 1)
    found = search(len(commits), ask)
    return _say_found(arguments, repository, commits, found, told)


def _say_found(
    arguments: argparse.Namespace, repository: Path, commits: list[str], found: Found, told: list[dict[str, Any]]
) -> int:
    among = [commits[place] for place in found.among]
    if found.first is None:
        names = ", ".join(commit[:12] for commit in among[:6]) + (" …" if len(among) > 6 else "")
        return _end(arguments, told, None, among, f"one of {len(among)} commits is the first slower one: {names}", 3)
    subject = _git(repository, "log", "-1", "--format=%h %ad %s", "--date=short", among[0], problem="no commit").strip()
    measured = next((row for row in told if row["commit"] == among[0]), None)
    size = f"; {measured['said']}" if measured is not None else ""
    return _end(arguments, told, among[0], among, f"first slower commit: {subject}{size}", 0)


def _end(
    arguments: argparse.Namespace, told: list[dict[str, Any]], first: str | None, among: list[str], said: str, code: int
) -> int:
    if arguments.json:
        print_json({"first": first, "among": among, "said": said, "steps": told})
    else:
        say(said)
    return code


def _step(arguments: argparse.Namespace, commit: str, race: Race) -> tuple[Answer, dict[str, Any]]:
    """Race one commit against the good one, and what that said."""
    from enginegate.cli.duet import race as duet
    from enginegate.core.errors import EngineGateError
    from enginegate.verdicts.bisect import Answer

    side = {name: arguments.side.replace(COMMIT, each) for name, each in (("base", arguments.good), ("head", commit))}
    asked = argparse.Namespace(
        **side,
        **{name: getattr(arguments, name) for name in ("model", "config", "engine", "precision", "batch_size")},
        **{name: getattr(arguments, name) for name in ("metric", "time_budget", "runs")},
        margin=race.margin,
        tolerated=race.tolerated,
        alpha=race.alpha,
        beta=race.beta,
        looks=",".join(map(str, race.looks)),
        audit=False,
        strict=True,
    )
    try:
        session, broken, _ = duet(asked)
    except EngineGateError as error:
        return Answer.SKIP, {"said": f"not raced: {error.problem}", "change": None, "record": ""}
    verdicts = [entry for record, _ in session.saved for entry in record.verdicts]
    record = str(session.saved[0][1]) if session.saved else ""
    if broken or len(verdicts) != 1:
        reason = broken[0] if broken else f"{len(verdicts)} verdicts in place of one: choose one engine and batch size"
        return Answer.SKIP, {"said": f"not judged: {reason}", "change": None, "record": record}
    (verdict,) = verdicts
    return _answer(verdict), {"said": verdict.explanation, "change": verdict.change, "record": record}


def _answer(verdict: VerdictEntry) -> Answer:
    from enginegate.verdicts.bisect import Answer

    return {"PASS": Answer.GOOD, "FAIL": Answer.BAD}.get(verdict.status, Answer.SKIP)
