"""``--eg-shard I/N``: all tests are collected and planned, those of the shard's own engines run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from enginegate.plugin.ours import CANDIDATE, parameter

if TYPE_CHECKING:
    from enginegate.plan.plan import Plan
    from enginegate.session.gate_session import GateSession


def leave_the_rest(session: pytest.Session, plan: Plan) -> None:
    """Leave out the tests of engines that other shards run. A test of no engine runs in every shard."""
    others = [item for item in session.items if (engine := _engine(item)) is not None and not plan.runs(engine)]
    if others:
        session.config.hook.pytest_deselected(items=others)
        left = set(others)
        session.items[:] = [item for item in session.items if item not in left]


def shard_line(plan: Plan) -> str:
    """What this shard runs of the session; that it is empty, where it runs nothing."""
    count = sum(map(len, plan.dealt))
    assert plan.shard is not None
    if not plan.own:
        every = ", ".join(engine for engines in plan.dealt for engine in engines)
        return f"shard {plan.shard} is empty: the session's {count} engine(s) are run by other shards ({every})"
    return (
        f"shard {plan.shard}: {', '.join(plan.own)} ({len(plan.own)} of {count} engines; all {plan.gates} gates of the"
        " session share its error budget)"
    )


def is_empty(session: GateSession) -> bool:
    """Whether a session is a shard to which no engine was dealt: nothing is wrong where nothing ran."""
    plan = session.planned
    return session.empty_shard or (plan is not None and plan.shard is not None and not plan.own)


def _engine(item: pytest.Item) -> str | None:
    return getattr(parameter(item, CANDIDATE), "id", None)
