"""One line that shows a change again: the run after it raced live against the one before."""

from __future__ import annotations

import re
import shlex

from enginegate.storage.history.entries import SESSION
from enginegate.verdicts.history import Finding

_BATCH = re.compile(r"b(\d+)(?:-|$)")
_DIRTY = "-dirty"


def commits(finding: Finding) -> tuple[str, str]:
    """The commits before and after, without the mark of a changed checkout; "" where there is none."""
    before, after = (run.commit.removesuffix(_DIRTY) for run in (finding.before, finding.after))
    return before, after


def engine_options(finding: Finding) -> list[str]:
    """The options that choose the engine and batch size of a finding."""
    key = finding.series.key
    words = ["--model", finding.after.model, "--engine", key.backend]
    words += ["--precision", f"{key.precision}@{key.variant}" if key.variant else key.precision]
    batch = _BATCH.match(key.workload)
    return [*words, "--batch-size", batch[1]] if batch else words


def reproduce(finding: Finding) -> str:
    """The command. Where the commit did not change, the base is the environment before, which is to be filled in."""
    if finding.after.origin not in ("", SESSION) or not finding.series.key.backend:
        return f"run {finding.series.key.engine} of {finding.after.origin or 'that tool'} at both commits again"
    before, after = commits(finding)
    if not before or not after or before == after:
        words = ["enginegate", "duet", "--base", "python:ENVIRONMENT-BEFORE"]
    else:
        words = ["enginegate", "duet", "--base", f"git:{before}", "--head", f"git:{after}"]
    return shlex.join([*words, *engine_options(finding)])


def bisect(finding: Finding) -> str:
    """The command that looks for the commit of a change; "" where there is nothing to look through."""
    before, after = commits(finding)
    if not before or not after or before == after or finding.after.origin not in ("", SESSION):
        return ""
    words = ["enginegate", "history", "bisect", before, after]
    if finding.shift.relative:
        words += ["--size", f"{100 * abs(finding.shift.size):.3g}%"]
    return shlex.join([*words, *engine_options(finding)])


def reservations(finding: Finding) -> list[str]:
    """What a reader must know of the two runs."""
    found = [
        f"run {run.id} is of a checkout with changes that are in no commit"
        for run in (finding.before, finding.after)
        if run.commit.endswith(_DIRTY)
    ]
    if finding.before.status == "partial" or finding.after.status == "partial":
        found.append("one of the two runs did not come to its end")
    return found
