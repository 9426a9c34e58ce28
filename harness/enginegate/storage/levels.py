"""Levels: whether a new session lies where an engine's stored ones lie.

Two levels in one baseline read as a large shift between sessions, and blind the gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

from enginegate.core.records import RunRecord
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import NO_SHIFT, Baseline, level_change
from enginegate.storage.baselines import PerfEngine, PerfSession
from enginegate.storage.configured import speed_as_written
from enginegate.storage.summary import session_shift


class Level(Enum):
    """What becomes of the stored sessions of an engine whose ratio moved.

    ``ASK`` refuses; ``REPLACE`` starts a new level with this session, for a deliberate change; ``APPEND`` keeps the old
    ones beside it, where nothing changed but the machine.
    """

    ASK = "ask"
    REPLACE = "replace"
    APPEND = "append"


def moved_levels(
    engines: Mapping[str, PerfEngine], sessions: Mapping[str, PerfSession], workload: str, record: RunRecord
) -> dict[str, str]:
    """Engines whose new session lies at another level than their stored ones, and a sentence on each.

    One that was loaded with other settings is another engine under the same name, at whatever level.

    Args:
        engines: what is stored at this workload.
        sessions: the run's own, by engine.
        workload: workload id.
        record: the run.
    """
    found = {}
    for name, session in sessions.items():
        stored = engines.get(name)
        runs = {entry.provenance.run for entry in stored.sessions} if stored is not None else set()
        if stored is None or not runs or session.provenance.run in runs:
            continue
        newest = stored.sessions[-1]
        if newest.runtime_digest and newest.runtime_digest != session.runtime_digest:
            found[name] = f"{name} at {workload}: other runtime settings"
            continue
        other_build = bool(newest.key) and newest.key != session.key
        changes = _level_changes(stored, session, record, other_build)
        if changes:
            build = "another build" if other_build else "the same build" if newest.key else "of an unknown build before"
            found[name] = f"{name} at {workload}: {', '.join(changes)} ({build})"
    return found


def _level_changes(stored: PerfEngine, session: PerfSession, record: RunRecord, other_build: bool) -> list[str]:
    """Metrics whose level moved, and how far."""
    configured = speed_as_written(record).margin
    margin = SpeedPolicy.margin if configured is None else configured
    changes = []
    for metric, ratios in session.log_ratios.items():
        before = stored.log_ratios(metric)
        if before:
            baseline = Baseline(tuple(map(tuple, before)), tuple(map(tuple, stored.orders(metric))))
            shift = NO_SHIFT if other_build else session_shift(record, metric)
            change = level_change(baseline, ratios, shift, margin=margin, order=session.orders)
            changes += [] if change is None else [f"{metric} {100 * math.expm1(change):+.1f} %"]
    return changes
