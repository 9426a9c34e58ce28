"""The gate's own error rates on the machine at hand: measured A/A blocks, resampled through the real gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy

from enginegate.core.errors import MeasurementError
from enginegate.gates.robust import Array, alternating, lag_one, locate, without_order_effect
from enginegate.gates.sequential import FAILED, PASSED, SpeedPolicy, decide_many
from enginegate.gates.sessions import Anchor, combine
from enginegate.gates.verdict import CONFIDENCE

#: Log ratios of one session, or of several.
Samples: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | Sequence[Array] | Array
#: The order of each block of each session.
Orders: TypeAlias = Sequence[Sequence[int]] | Sequence[Array]

#: Slowdowns whose power an audit states.
SLOWDOWNS = (0.02, 0.03, 0.05, 0.08, 0.10, 0.15)
#: Power at which a slowdown counts as seen.
SEEN = 0.90
#: No session is resampled that has fewer blocks.
FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class Rate:
    """A share of resampled sessions, with its 95 % binomial interval (Wilson 1927)."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Power:
    """What the gate does at one true slowdown."""

    slowdown: float
    fails: Rate
    passes: Rate
    mean_blocks: float


@dataclass(frozen=True)
class AuditResult:
    """What the gate does on this machine.

    Attributes:
        false_alarms: share of FAIL where nothing changed.
        false_passes: share of PASS at a slowdown of exactly ``policy.tolerated``.
        unchanged_passes: share of PASS where nothing changed.
        mean_blocks: blocks used where nothing changed.
        powers: one for each slowdown.
        blocks: A/A blocks measured, over all sessions.
        sessions: A/A sessions measured.
        block_length: length of the resampled runs of blocks.
        autocorrelation: mean lag-1 autocorrelation of the sessions; give it to the gates as
            ``SpeedPolicy.correlation``, for their early looks cannot see it.
        noise: robust standard deviation of a block's log ratio.
        offset: mean A/A log ratio, which should be 0, and its standard error.
        resamples: resampled sessions behind every rate.
        baseline_sessions: stored sessions that were simulated; 0: judged against a ratio of exactly 1.
        warnings: what weakens the audit.
    """

    false_alarms: Rate
    false_passes: Rate
    unchanged_passes: Rate
    mean_blocks: float
    powers: tuple[Power, ...]
    blocks: int
    sessions: int
    block_length: int
    autocorrelation: float
    noise: float
    offset: tuple[float, float]
    resamples: int
    baseline_sessions: int
    warnings: tuple[str, ...] = ()


def audit(
    aa_log_ratios: Samples,
    policy: SpeedPolicy,
    *,
    orders: Orders = (),
    slowdowns: Sequence[float] = SLOWDOWNS,
    resamples: int = 2000,
    block_length: int | None = None,
    baseline_sessions: int = 0,
    seed: int = 0,
) -> AuditResult:
    """Resample measured A/A blocks through the sequential gate.

    Args:
        aa_log_ratios: log ratios per block of an engine against itself: one session, or a list of sessions.
        policy: the policy of the gate that is audited.
        orders: of each session's blocks, +1 where the reference ran first, else -1; an empty one, or none at all: they
            alternate.
        slowdowns: true slowdowns injected into the resampled sessions.
        resamples: resampled sessions for every rate.
        block_length: even number of consecutive blocks drawn together; None: about n^(1/3), more where
            the blocks are correlated.
        baseline_sessions: judge against this many resampled stored sessions, instead of a ratio of exactly 1.
        seed: of the resampling.

    Circular block bootstrap (Politis and Romano 1992). Runs start at even blocks, so a block and its reverse stay
    together, and each ratio keeps the order in which it was taken. The grand mean is taken out, because the A/A blocks
    cannot tell it from chance (it is reported as ``offset``); differences between sessions stay in.
    """
    sessions, signs = _sessions(aa_log_ratios), _orders(aa_log_ratios, orders)
    locations = [locate(session, order=order) for session, order in zip(sessions, signs, strict=True)]
    centres = np.array([float(location.estimate) for location in locations])
    errors = np.array([float(location.error) for location in locations])
    offset = float(centres.mean())
    offset_error = float(
        max(np.sqrt(np.sum(errors**2)) / len(errors), centres.std(ddof=1) / np.sqrt(len(centres)))
        if len(centres) > 1
        else errors[0]
    )
    centred = [session - offset for session in sessions]
    shortest = min(len(session) for session in sessions)
    memory = autocorrelation(sessions, signs)
    length = block_length or _block_length(shortest, memory)
    if length < 2 or length % 2 or length > shortest:
        raise MeasurementError(f"a block length of {length} is not an even number up to {shortest}")
    generator = np.random.default_rng(seed)

    def draw(count: int, blocks: int) -> tuple[Array, Array]:
        return _resample(centred, signs, count, blocks, length, generator)

    rates = []
    for slowdown in (0.0, policy.tolerated, *slowdowns):
        anchor = Anchor(0.0)
        if baseline_sessions:
            drawn, ran = draw(resamples * baseline_sessions, policy.looks[-1])
            stored = locate(drawn, correlation=policy.correlation, order=ran)
            shape = (resamples, baseline_sessions)
            anchor = combine(stored.estimate.reshape(shape), stored.error.reshape(shape), stored.df, policy.shift)
        drawn, ran = draw(resamples, policy.looks[-1])
        outcome = decide_many(drawn - np.log1p(slowdown), anchor, policy, order=ran)
        fails, passes = (_rate(int(np.sum(outcome.status == kind)), resamples) for kind in (FAILED, PASSED))
        rates.append(Power(float(slowdown), fails, passes, float(outcome.blocks.mean())))
    noise = float(np.median([scipy.stats.median_abs_deviation(session, scale="normal") for session in sessions]))
    return AuditResult(
        false_alarms=rates[0].fails,
        false_passes=rates[1].passes,
        unchanged_passes=rates[0].passes,
        mean_blocks=rates[0].mean_blocks,
        powers=tuple(rates[2:]),
        blocks=sum(len(session) for session in sessions),
        sessions=len(sessions),
        block_length=length,
        autocorrelation=memory,
        noise=noise,
        offset=(offset, offset_error),
        resamples=resamples,
        baseline_sessions=baseline_sessions,
        warnings=_warnings(shortest, len(sessions), offset, offset_error, policy),
    )


def autocorrelation(log_ratios: Samples, orders: Orders = ()) -> float:
    """Mean lag-1 autocorrelation of the sessions: what ``SpeedPolicy.correlation`` is to be told."""
    pairs = zip(_sessions(log_ratios), _orders(log_ratios, orders), strict=True)
    return float(np.mean([_memory(session, order) for session, order in pairs]))


def smallest_seen(result: AuditResult) -> Power | None:
    """The smallest audited slowdown that FAILs with a power of SEEN or more."""
    return next((power for power in result.powers if power.fails.value >= SEEN), None)


def one_line(result: AuditResult) -> str:
    """The line under a speed table."""
    return f"this gate on this machine: {100 * result.false_alarms.value:.1f} % false alarms, {power_line(result)}"


def power_line(result: AuditResult) -> str:
    """What the gate sees, and judged by what."""
    judge = judged_against(result.baseline_sessions)
    seen = smallest_seen(result)
    if seen is not None:
        return f"sees {100 * seen.slowdown:g} % with {100 * seen.fails.value:.0f} % power against {judge}"
    last = result.powers[-1]
    return f"does not see even {100 * last.slowdown:g} % ({100 * last.fails.value:.0f} % power) against {judge}"


def judged_against(sessions: int) -> str:
    """So many stored sessions, in words; without any a floor, or the ratio that resampling itself knows."""
    return f"{sessions} stored session{'s' * (sessions > 1)}" if sessions else "a ratio known exactly"


def sees(result: AuditResult, change: float, power: float = SEEN) -> bool:
    """Whether the audited gate shows a slowdown of ``change`` with ``power``, between audited ones by interpolation."""
    points = sorted((entry.slowdown, entry.fails.value) for entry in result.powers)
    slowdowns, values = [0.0, *(point[0] for point in points)], [result.false_alarms.value, *(p[1] for p in points)]
    return bool(np.interp(change, slowdowns, values) >= power)


def power_warning(result: AuditResult, policy: SpeedPolicy, power: float = SEEN) -> str | None:
    """The warning for a gate whose audit cannot see the very slowdown that it must not let pass, or None."""
    if sees(result, policy.tolerated, power):
        return None
    wanted = f"{100 * policy.tolerated:g} %"
    return f"by its audit this gate sees a slowdown of {wanted} with less than {100 * power:.0f} % power"


def restore(values: Mapping[str, Any]) -> AuditResult:
    """An audit from what ``dataclasses.asdict`` made of it, through JSON or not."""
    rates = {name: _restored_rate(values[name]) for name in ("false_alarms", "false_passes", "unchanged_passes")}
    powers = tuple(
        Power(entry["slowdown"], _restored_rate(entry["fails"]), _restored_rate(entry["passes"]), entry["mean_blocks"])
        for entry in values["powers"]
    )
    rest = {"powers": powers, "offset": tuple(values["offset"]), "warnings": tuple(values["warnings"])}
    return AuditResult(**{**values, **rates, **rest})


def _restored_rate(values: Mapping[str, Any]) -> Rate:
    low, high = values["interval"]
    return Rate(values["value"], (low, high))


def _sessions(samples: Samples) -> list[Array]:
    sessions = [np.asarray(session, dtype=np.float64) for session in _nested(samples)]
    sessions = [session[: len(session) - len(session) % 2] for session in sessions]
    if any(len(session) < FEWEST_BLOCKS or not np.all(np.isfinite(session)) for session in sessions):
        raise MeasurementError(
            f"an audit needs at least {FEWEST_BLOCKS} finite A/A blocks in every session",
            "run pytest --eg-gate-audit (short: --gate-audit) with more blocks",
        )
    return sessions


def _nested(samples: Samples) -> list[Any]:
    return [samples] if np.ndim(samples[0]) == 0 else list(samples)


def _orders(samples: Samples, orders: Orders) -> list[Array]:
    """The order of each session's blocks, as many of them as ``_sessions`` keeps."""
    nested = _nested(samples)
    told: Sequence[Sequence[int] | Array] = orders or [()] * len(nested)
    signs = []
    for session, order in zip(nested, told, strict=True):
        blocks = len(session) - len(session) % 2
        signs.append(np.asarray(order, dtype=np.float64)[:blocks] if len(order) else alternating(blocks))
    return signs


def _memory(session: Array, order: Array) -> float:
    """Lag-1 autocorrelation, outliers clipped at three robust standard deviations.

    Gentler than the winsorized one that a gate takes from its few blocks, which comes out 7 % low in a long series.
    """
    series = without_order_effect(session, order)[0]
    reach = 3.0 * float(scipy.stats.median_abs_deviation(series, scale="normal"))
    centre = float(np.median(series))
    return float(lag_one(np.clip(series, centre - reach, centre + reach)))


def _block_length(blocks: int, memory: float) -> int:
    """Even, of the order n^(1/3) (Hall, Horowitz and Jing 1995), and four times the memory of correlated blocks."""
    remembered = 4.0 * (1.0 + max(memory, 0.0)) / (1.0 - min(max(memory, 0.0), 0.8))
    wanted = 2 * int(np.ceil(max(blocks ** (1 / 3), remembered) / 2))
    return max(2, min(wanted, 2 * (blocks // 4)))


def _resample(
    sessions: list[Array], orders: list[Array], count: int, blocks: int, length: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    """``count`` series of ``blocks`` log ratios, and the order of each of their blocks."""
    runs = -(-blocks // length)
    chosen = generator.integers(0, len(sessions), count)
    drawn = np.empty((count, runs * length))
    ran = np.empty_like(drawn)
    for number, (session, order) in enumerate(zip(sessions, orders, strict=True)):
        rows = np.flatnonzero(chosen == number)
        starts = 2 * generator.integers(0, len(session) // 2, (len(rows), runs, 1))
        index = (starts + np.arange(length)) % len(session)
        drawn[rows] = session[index].reshape(len(rows), runs * length)
        ran[rows] = order[index].reshape(len(rows), runs * length)
    return drawn[:, :blocks], ran[:, :blocks]


def _rate(hits: int, count: int) -> Rate:
    interval = scipy.stats.binomtest(hits, count).proportion_ci(CONFIDENCE, "wilson")
    return Rate(hits / count, (float(interval.low), float(interval.high)))


def _warnings(shortest: int, sessions: int, offset: float, error: float, policy: SpeedPolicy) -> tuple[str, ...]:
    found: list[str] = []
    if shortest < 2 * policy.looks[-1]:
        found.append(f"{shortest} A/A blocks a session are few to resample {policy.looks[-1]} from; measure more")
    if sessions == 1:
        found.append("one A/A session says nothing of the shift between sessions")
    if abs(offset) > 3.0 * error:
        found.append(f"the engine against itself differs by {100 * np.expm1(offset):.2f} %: the arena is not fair")
    return tuple(found)
