"""Comparing sessions that never ran side by side: absolute values, each session shifted by its machine's mood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from enginegate.gates.robust import TRIM, Array
from enginegate.gates.sessions import ShiftPrior, combine
from enginegate.gates.verdict import TAIL, Status, Verdict

#: Belief about the shift of an absolute time between sessions, before two sessions are there to show it. Spreads of
#: 8 and 13 % of process medians were measured on a shared 2-core machine; half of this prior lies above 4.8 %.
ABSOLUTE_SHIFT = ShiftPrior(scale=0.04, df=2.0)
#: Samples of a session below which nothing is said of its noise.
_FEWEST = 3


def compare_samples(
    base_sessions: Sequence[Sequence[float]],
    new: Sequence[float],
    *,
    margin: float = 0.05,
    alpha: float = 0.01,
    beta: float = 0.05,
    tolerated: float | None = None,
    higher_is_better: bool = False,
    shift: ShiftPrior = ABSOLUTE_SHIFT,
    power: float = 0.90,
    metric: str = "time",
    subject: str = "",
) -> Verdict:
    """Judge a new session against base sessions, unpaired.

    Args:
        base_sessions: positive samples of each base session.
        new: positive samples of the new session.
        margin: a change for the worse up to this is no failure.
        alpha: probability that a session whose engine did not change is called a FAIL.
        beta: probability of PASS although the change reaches ``tolerated``.
        tolerated: a change that must not pass; None: twice the margin.
        higher_is_better: samples are a rate rather than a time.
        shift: belief about the session-to-session shift before the base sessions show it.
        power: power at which the smallest visible change is stated.
        metric, subject: names for the verdict.

    FAIL: "no change" is rejected, the session-to-session shift of the base sessions allowed for (a prediction bound
    for one more session, t on few degrees of freedom), and the change is more than the margin. PASS: a change of
    ``tolerated`` is rejected. Neither comes of a session with fewer than three samples, whose noise is not known. The
    unit of the estimate is the ratio new / base, oriented so that above 1 is worse.
    """
    groups = [np.asarray(session, dtype=np.float64) for session in (*base_sessions, new)]
    name = f"{subject}: " if subject else ""
    nothing = (float("nan"), float("nan"))
    if len(groups) < 2:
        text = f"{name}no base session to compare with"
        return _verdict(Status.NO_BASELINE, metric, float("nan"), nothing, None, margin, alpha, None, len(new), text)
    if any(group.size == 0 or not np.all(np.isfinite(group)) or np.any(group <= 0) for group in groups):
        text = f"{name}samples unusable: a session is empty or holds a value that is not positive and finite"
        return _verdict(Status.FAIL, metric, float("nan"), nothing, None, margin, alpha, None, len(new), text)
    sign = -1.0 if higher_is_better else 1.0
    located = [_centre(np.log(group)) for group in groups]
    estimates, errors, dfs = (np.array(part) for part in zip(*located, strict=True))
    anchor = combine(estimates[:-1], errors[:-1], dfs[:-1], shift)
    worse = sign * float(estimates[-1] - anchor.estimate)
    noise = float(np.hypot(anchor.error, errors[-1]))

    def reach(level: float) -> float:
        parts = ((errors[-1], dfs[-1]), (anchor.error, anchor.error_df), (anchor.shift, anchor.shift_df))
        return float(np.sqrt(sum((stdtrit(df, 1.0 - level) * error) ** 2 for error, df in parts if error)))

    low, high = np.log1p(margin), np.log1p(2 * margin if tolerated is None else tolerated)
    fail_reach, pass_reach, shown = reach(alpha), reach(beta), reach(TAIL)
    visible = max(low, fail_reach) + float(ndtri(power)) * float(np.hypot(noise, anchor.shift))
    change = float(np.expm1(worse))
    interval = (float(np.exp(worse - shown)), float(np.exp(worse + shown)))
    count = len(groups) - 1
    text = f"{name}{_change(change)} [{_change(interval[0] - 1)}, {_change(interval[1] - 1)}] against {count} "
    text += f"session{'s' if count > 1 else ''}, unpaired"
    if worse > fail_reach and worse > low:
        status, text = Status.FAIL, f"{text}, more than the {100 * margin:g} % margin{anchor.allowance()}"
    elif worse + pass_reach < high:
        status = Status.PASS
        if -worse > max(low, fail_reach):
            text += ", an improvement"
    else:
        status = Status.INCONCLUSIVE
        why = (
            "one base session says nothing of the shift between sessions" if count == 1 else "sessions differ too much"
        )
        text += f"; undecided: {why}, {100 * np.expm1(visible):.0f} % could have been seen"
    few = min(group.size for group in groups) < _FEWEST
    if few and status is not Status.INCONCLUSIVE:
        status, text = Status.INCONCLUSIVE, f"{text}; undecided: a session has fewer than {_FEWEST} samples"
    warnings: tuple[str, ...] = (
        "unpaired: the sessions did not run side by side, so their machine's shift is part of the error",
    )
    if few:
        warnings += (f"a session has fewer than {_FEWEST} samples, so its own noise is unknown",)
    return _verdict(
        status,
        metric,
        float(np.exp(worse)),
        interval,
        change,
        margin,
        alpha,
        float(np.expm1(visible)),
        len(new),
        text,
        warnings,
    )


def _centre(logs: Array) -> tuple[float, float, float]:
    """Trimmed mean, its standard error (0 where one sample says nothing of it) and its df (Yuen 1974)."""
    count = len(logs)
    if count < 2:
        return float(logs[0]), 0.0, 1.0
    ordered = np.sort(logs)
    cut = int(TRIM * count)
    kept = ordered[cut : count - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    centred = winsorized - winsorized.sum() / count
    df = max(kept.size - 1, 1)
    return float(kept.sum() / kept.size), float(np.sqrt(centred @ centred / (kept.size * df))), float(df)


def _change(change: float) -> str:
    return f"{100 * change:+.1f} %"


def _verdict(
    status: Status,
    metric: str,
    estimate: float,
    interval: tuple[float, float],
    change: float | None,
    margin: float,
    alpha: float,
    visible: float | None,
    samples: int,
    explanation: str,
    warnings: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        status=status,
        metric=metric,
        estimate=estimate,
        interval=interval,
        unit="x",
        baseline=None if change is None else 1.0,
        change=change,
        margin=margin,
        alpha=alpha,
        smallest_visible=visible,
        samples=samples,
        explanation=explanation,
        warnings=warnings,
    )
