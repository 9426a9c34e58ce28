"""What a speed-up is judged against, and how much a session alone can move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from enginegate.core.errors import BaselineError
from enginegate.gates.robust import MIN_BLOCKS, Array, locate


@dataclass(frozen=True)
class Baseline:
    """Stored samples.

    Attributes:
        sessions: log(t_reference / t_candidate) per block, one tuple for each stored session, in order.
        orders: for each session +1 per block where the reference ran first, else -1; an empty one for a session that
            keeps none (its blocks alternate), and no orders at all where no session keeps any.
    """

    sessions: tuple[tuple[float, ...], ...]
    orders: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.sessions:
            raise BaselineError("the baseline holds no session", "record one and accept it")
        if self.orders and len(self.orders) != len(self.sessions):
            raise BaselineError(
                f"the baseline has {len(self.orders)} orders for {len(self.sessions)} sessions",
                "the file is damaged: restore it, or record the baseline again and accept it",
            )
        for number, (session, order) in enumerate(self.samples(), start=1):
            if len(session) < MIN_BLOCKS:
                raise BaselineError(
                    f"session {number} of the baseline has {len(session)} blocks, fewer than {MIN_BLOCKS}",
                    "record the baseline again and accept it",
                )
            if not np.all(np.isfinite(session)):
                raise BaselineError(
                    f"session {number} of the baseline holds a sample that is not a finite number",
                    "the file is damaged: restore it, or record the baseline again and accept it",
                )
            if order is not None and (len(order) != len(session) or not set(order) <= {1, -1}):
                raise BaselineError(
                    f"session {number} of the baseline does not tell the order of each of its {len(session)} blocks",
                    "the file is damaged: restore it, or record the baseline again and accept it",
                )

    def samples(self) -> list[tuple[tuple[float, ...], tuple[int, ...] | None]]:
        """Each session with its order, or with None where it keeps none."""
        orders = self.orders or ((),) * len(self.sessions)
        return [(session, order or None) for session, order in zip(self.sessions, orders, strict=True)]


@dataclass(frozen=True)
class Floor:
    """A speed-up that is at least this, on any machine; nothing stored."""

    ratio: float

    def __post_init__(self) -> None:
        _positive(self.ratio, "floor")


@dataclass(frozen=True)
class Known:
    """A speed-up that should be exactly this: 1.0 where the reference is the previous build, run in the same arena."""

    ratio: float = 1.0

    def __post_init__(self) -> None:
        _positive(self.ratio, "known speed-up")


@dataclass(frozen=True)
class ShiftPrior:
    """What is believed of the session-to-session shift of a log ratio before any session is stored.

    A scaled inverse chi-square distribution of the shift's variance.

    Attributes:
        scale: typical standard deviation of the shift.
        df: how many sessions' worth of belief that is.
    """

    scale: float
    df: float


#: For two builds that are known to differ: nothing between their sessions is put down to chance.
NO_SHIFT = ShiftPrior(scale=0.0, df=1e9)


@dataclass(frozen=True)
class Anchor:
    """The log ratio compared with, and its uncertainty in this session; arrays where many baselines are simulated.

    Attributes:
        estimate: log ratio expected of an unchanged engine.
        error: standard error of the estimate from the noise of the stored blocks.
        shift: standard deviation of (this session's shift - mean shift of the stored sessions).
        shift_df: degrees of freedom of ``shift``.
        error_df: degrees of freedom of ``error``.
    """

    estimate: Array | float
    error: Array | float = 0.0
    shift: Array | float = 0.0
    shift_df: float = float("inf")
    error_df: Array | float = float("inf")

    def allowance(self) -> str:
        """What a failure takes for granted, to end its sentence; empty where nothing was stored."""
        shift = 100 * float(self.shift)
        return f" (a session by itself is taken to shift it by about {shift:.2g} %)" if shift else ""

    def at(self, index: NDArray[np.int64]) -> Anchor:
        """The anchors of some of the simulated series."""
        parts = (self.estimate, self.error, self.shift, self.error_df)
        estimate, error, shift, error_df = (part[index] if isinstance(part, np.ndarray) else part for part in parts)
        return Anchor(estimate, error, shift, self.shift_df, error_df)


def combine(estimates: Array, errors: Array, dfs: Array | float, prior: ShiftPrior) -> Anchor:
    """Stored sessions to an anchor.

    Args:
        estimates: location of each session, last axis sessions.
        errors: their standard errors, same shape.
        dfs: degrees of freedom of those errors, same shape or one number.
        prior: belief about the shift.

    With K sessions of variance S^2 and mean squared error e^2, the shift's variance is the moderated
    (d0 s0^2 + (K-1) max(S^2 - e^2, 0)) / (d0 + K - 1) on d0 + K - 1 degrees of freedom (Smyth 2004; for one session
    the prior alone), and a new session differs from the mean of the stored ones with variance shift^2 (1 + 1/K).
    The noise of the stored blocks has Welch and Satterthwaite's degrees of freedom.
    """
    count = estimates.shape[-1]
    spread = estimates.var(axis=-1, ddof=1) if count > 1 else np.zeros(estimates.shape[:-1])
    noise = np.mean(errors * errors, axis=-1)
    between = np.maximum(spread - noise, 0.0)
    df = prior.df + count - 1
    variance = (prior.df * prior.scale**2 + (count - 1) * between) / df
    return Anchor(
        estimate=np.asarray(estimates.mean(axis=-1)),
        error=np.asarray(np.sqrt(noise / count)),
        shift=np.asarray(np.sqrt(variance * (1.0 + 1.0 / count))),
        shift_df=df,
        error_df=_pooled_df(errors, dfs),
    )


def anchor_of(against: Baseline | Floor | Known, prior: ShiftPrior, correlation: float = 0.0) -> Anchor:
    """The anchor of one gate. A floor and a known ratio are exact and claim something about this session alone."""
    if isinstance(against, Baseline):
        locations = [locate(session, correlation=correlation, order=order) for session, order in against.samples()]
        return combine(
            np.array([float(location.estimate) for location in locations]),
            np.array([float(location.error) for location in locations]),
            np.array([float(location.df) for location in locations]),
            prior,
        )
    return Anchor(float(np.log(against.ratio)))


def level_change(
    stored: Baseline,
    new: Sequence[float],
    prior: ShiftPrior,
    *,
    margin: float,
    order: Sequence[int] | None = None,
    alpha: float = 0.01,
) -> float | None:
    """How far a new session's log ratio lies from the level of the stored ones, where that is more than a shift.

    Two levels in one baseline read as a large shift between sessions, which blinds the gate to real changes.

    Args:
        stored: the accepted sessions.
        new: log ratios of the blocks of the session that would join them.
        prior: belief about the shift.
        margin: a change up to this share is none, in either direction.
        order: of the new blocks; see Baseline. None where they alternate.
        alpha: two-sided probability that an unchanged engine's session is called a new level; the bound is that of a
            prediction for one more session (t on the degrees of freedom of each part).

    Returns:
        The change of the log ratio, positive for faster; None where the level is the same.
    """
    anchor, location = anchor_of(stored, prior), locate(new, order=order or None)
    change = float(location.estimate) - float(anchor.estimate)
    parts = ((location.error, location.df), (anchor.error, anchor.error_df), (anchor.shift, anchor.shift_df))
    reach = float(np.sqrt(sum(float(stdtrit(df, 1.0 - alpha / 2.0) * error) ** 2 for error, df in parts if error)))
    return change if abs(change) > max(reach, float(np.log1p(margin))) else None


def _pooled_df(errors: Array, dfs: Array | float) -> Array:
    square = errors * errors
    weight = np.sum(square * square / dfs, axis=-1)
    return np.asarray(np.divide(np.sum(square, axis=-1) ** 2, weight, out=np.ones_like(weight), where=weight > 0))


def _positive(value: float, name: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise BaselineError(f"a {name} of {value} is not a ratio", "give a positive number, such as 1.5")
