"""The audit of a gate against a live base: launches of an engine beside a copy of itself, resampled through the gate.

The launches lie in the run's record (session.duel); how they spread is what later gates on the machine believe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from enginegate.core.errors import ConfigError
from enginegate.core.records import SideEntry
from enginegate.gates.audit import SEEN
from enginegate.gates.launches import LaunchPower, believed_spread, resample_launches
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.storage.audits import AuditedLaunches, LaunchSession

#: Slowdowns at which an audit states what its gate does, besides none, the margin, and what must not pass.
SLOWDOWNS = (0.01, 0.02, 0.03, 0.05, 0.08)
#: Resampled races behind every share.
RESAMPLES = 4000
#: Standard errors beyond which two copies differ.
_DIFFERENT = 3.0


def new_launches(
    engine: str, base: str, workload: str, metric: str, policy: SpeedPolicy, session: LaunchSession
) -> AuditedLaunches:
    """The audit of one metric's gate by one session.

    Args:
        engine, base: ids of the engine and of its copy.
        workload: workload id.
        metric: ``speedup``, ``ttft`` or ``itl``.
        policy: as configured, without what earlier audits say of the spread.
        session: what was measured.
    """
    measured = AuditedLaunches(
        engine=engine,
        workload=workload,
        reference=base,
        metric=metric,
        policy=policy,
        sessions=[session],
        spread=policy.shift,
        rates=[],
    )
    return audited_launches(measured, [session])


def audited_launches(audit: AuditedLaunches, sessions: Sequence[LaunchSession]) -> AuditedLaunches:
    """The same gate audited over ``sessions``, with the belief about the spread that they lead to."""
    found = audit.model_copy(update={"sessions": list(sessions)})
    spread = belief(found, audit.policy.shift)
    rates = resampled(found, replace(audit.policy, shift=spread))
    return found.model_copy(update={"spread": spread, "rates": rates})


def belief(audit: AuditedLaunches, prior: ShiftPrior) -> ShiftPrior:
    """What a gate believes of the spread of launches after the audit. ``prior``: before it."""
    return believed_spread([session.numbers for session in audit.sessions], prior)


def resampled(audit: AuditedLaunches, policy: SpeedPolicy) -> list[LaunchPower]:
    """What a gate with that policy does at each slowdown, by ascending slowdown. A race draws from one session."""
    slowdowns = sorted({0.0, policy.margin, policy.tolerated, *SLOWDOWNS})
    share = -(-RESAMPLES // len(audit.sessions))
    parts = [
        resample_launches(session.numbers, policy, slowdowns, resamples=share, seed=number)
        for number, session in enumerate(audit.sessions)
    ]
    return [
        LaunchPower(
            slowdown,
            fails=_mean([part[place].fails for part in parts]),
            passes=_mean([part[place].passes for part in parts]),
            mean_launches=_mean([part[place].mean_launches for part in parts]),
        )
        for place, slowdown in enumerate(slowdowns)
    ]


def spread_line(spread: ShiftPrior, audit: AuditedLaunches) -> str:
    """What a verdict says of the spread that it takes launches to have. Without an audit the table's foot says it."""
    taken = f"launches are taken to spread by {100 * spread.scale:.2g} %"
    sessions = len(audit.sessions)
    count = sum(len(session.numbers) for session in audit.sessions)
    return f"{taken}, by an audit of {count}" + (f" in {sessions} sessions" if sessions > 1 else "")


def rate_line(rates: Sequence[LaunchPower], policy: SpeedPolicy) -> str:
    """The line under a speed table: what the gate does on this machine."""
    line = (
        f"this gate on this machine: {100 * at(rates, 0.0).fails:.2g} % false alarms,"
        f" {100 * at(rates, policy.margin).fails:.2g} % at its margin of {100 * policy.margin:g} %"
        f" (stated: {100 * policy.alpha:.2g} %)"
    )
    seen = next((rate for rate in rates if rate.slowdown > policy.margin and rate.fails >= SEEN), None)
    last = seen or rates[-1]
    sees = "sees" if seen else "does not see even"
    return f"{line}, {sees} {100 * last.slowdown:g} % ({100 * last.fails:.0f} % power) against a live base"


def blind(rates: Sequence[LaunchPower], policy: SpeedPolicy) -> str | None:
    """The warning for a gate whose audit cannot see the very slowdown that it must not let pass, or None."""
    if at(rates, policy.tolerated).fails >= SEEN:
        return None
    wanted = f"{100 * policy.tolerated:g} %"
    return f"by its audit this gate sees a slowdown of {wanted} with less than {100 * SEEN:.0f} % power"


def report(audit: AuditedLaunches) -> Iterator[str]:
    """What an audit found, line by line."""
    policy, latest = replace(audit.policy, shift=audit.spread), audit.sessions[-1]
    yield f"{audit.engine} {audit.workload} {audit.metric}: {rate_line(audit.rates, policy)}"
    for rate in audit.rates:
        yield (
            f"  slower by {100 * rate.slowdown:g} %: FAIL {100 * rate.fails:.1f} %, PASS {100 * rate.passes:.1f} %,"
            f" {rate.mean_launches:.1f} launches"
        )
    spread = 100 * float(np.std(latest.numbers, ddof=1))
    yield f"  {len(latest.numbers)} launches beside {latest.against} spread by {spread:.2g} %"
    yield f"  after acceptance {spread_line(audit.spread, audit)}"
    yield from (f"  {line}" for line in warnings(audit))


def warnings(audit: AuditedLaunches) -> list[str]:
    """What weakens an audit."""
    numbers = [number for session in audit.sessions for number in session.numbers]
    offset, error = float(np.mean(numbers)), float(np.std(numbers, ddof=1)) / float(np.sqrt(len(numbers)))
    found = []
    if abs(offset) > _DIFFERENT * error:
        slower = float(np.expm1(-offset))
        found.append(
            f"the engine is {'slower' if slower > 0 else 'faster'} than its copy by {100 * abs(slower):.2g} %, which is"
            " in none of these shares: a gate would take that for a change"
        )
    if len(audit.sessions) == 1:
        found.append("one session says nothing of how launches spread on another day")
    return found


def refuse_unlike(head: SideEntry, base: SideEntry, against: str) -> None:
    """Raise ConfigError where the two sides of an audit are not the same engine, naming what differs."""
    found = list(_differences(head, base))
    if found:
        raise ConfigError(
            f"an audit races two copies of the same engine, and {base.engine} ({against}) is not {head.engine} again: "
            + "; ".join(found),
            "name a copy of this environment, such as python:COPY, or lock:FILE with a lock of what is installed here",
        )


def _differences(head: SideEntry, base: SideEntry) -> Iterator[str]:
    """What differs, as ``name: the head's, the base's there``. A variant's name is none, and where both run one build,
    neither is a library that one of them lacks: only building needs it."""
    same_build = head.key == base.key
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [({"python": head.python}, {"python": base.python})]
    ours, theirs = _libraries(head.versions), _libraries(base.versions)
    if same_build:
        both = [name for name in ours if "absent" not in (ours[name], theirs.get(name, "absent"))]
        ours, theirs = ({name: side[name] for name in both} for side in (ours, theirs))
    parts += [(ours, theirs), (_flat(head.runtime, "runtime"), _flat(base.runtime, "runtime"))]
    parts.append((_flat(head.effective, "effective"), _flat(base.effective, "effective")))
    if not same_build:
        parts.append((_flat({**head.spec, "variant": ""}, "spec"), _flat({**base.spec, "variant": ""}, "spec")))
    found = [
        f"{name}: {_said(mine, name)} here, {_said(other, name)} there"
        for mine, other in parts
        for name in dict.fromkeys([*mine, *other])
        if mine.get(name) != other.get(name)
    ]
    yield from found
    if not found and not same_build:
        yield f"built engine: {head.key[:12]} here, {base.key[:12]} there"


def _libraries(versions: str) -> dict[str, str]:
    """``torch 2.13.0, transformers 5.17.0`` by name."""
    pairs = (each.rpartition(" ") for each in versions.split(", ") if each)
    return {name or version: version for name, _, version in pairs}


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested mappings as one, ``details.device`` for what lies in another."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = f"{prefix}.{name}"
        found |= _flat(value, inner) if isinstance(value, Mapping) else {inner: value}
    return found


def _said(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else "nothing"


def at(rates: Sequence[LaunchPower], slowdown: float) -> LaunchPower:
    """What the gate does at a slowdown that was resampled."""
    return next(rate for rate in rates if rate.slowdown == slowdown)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
