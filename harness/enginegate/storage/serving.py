"""Whether the serving of a record can be what a session wrote."""

from __future__ import annotations

from collections.abc import Sequence

from enginegate.core.serving_records import ServingEntry, ServingRun

_COLUMNS = ("sent", "first", "last", "finished", "tokens")


def serving_problem(entries: Sequence[ServingEntry]) -> str | None:
    """What is laid out otherwise than it must be, or None."""
    for entry in entries:
        if entry.base_runs and len(entry.base_runs) != len(entry.runs):
            return f"serving of {entry.engine} has {len(entry.runs)} runs beside {len(entry.base_runs)} of its base"
        for run in (*entry.runs, *entry.base_runs):
            problem = _run_problem(run)
            if problem is not None:
                return f"serving of {entry.engine}: {problem}"
    return None


def _run_problem(run: ServingRun) -> str | None:
    count = len(run.due)
    for name in _COLUMNS:
        if len(getattr(run, name)) != count:
            return f"a run has {count} requests and {len(getattr(run, name))} values of {name}"
    if not run.begin < run.end <= count:
        return f"a run of {count} requests measures those from {run.begin} to {run.end}"
    if any(not 0 <= index < count for index in run.failed):
        return f"a run of {count} requests has a failed one beyond them"
    return None
