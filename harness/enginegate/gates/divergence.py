"""The gate of KL divergence to the reference, paired by document."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from enginegate.gates.items import (
    QualityPolicy,
    bounded,
    no_baseline,
    pair,
    ratio_of_sums,
    refuse,
    t_bound,
    too_few,
)
from enginegate.gates.verdict import TAIL, Verdict

#: A divergence is at least 0; so much below it (nats a token) is rounding.
_ROUNDING = 1e-4
_UNIT, _DIGITS = "nats", 5


def judge_divergence(
    candidate: Mapping[str, tuple[float, float]],
    baseline: Mapping[str, tuple[float, float]] | None,
    policy: QualityPolicy,
    *,
    floor: float = 0.0,
    limit: float | None = None,
    metric: str = "divergence",
    subject: str = "",
) -> Verdict:
    """Judge how much further an engine is from the reference than before.

    Args:
        candidate: document hash to (sum of the KL divergence over its positions in nats, positions).
        baseline: likewise, accepted before or of the live base; None where there is none.
        policy: margin and tolerated are shares of the baseline's divergence (0.03 = 3 % more).
        floor: divergence of a second unquantized engine, nats a token. So much more is no failure, and twice as much
            is what must not pass, beside the shares: rounding alone may do that.
        limit: divergence at most this where there is no baseline, nats a token.
        metric, subject: names for the verdict.

    The difference of two means over the same positions is a ratio of sums over documents, which are the samples:
    positions of one document are not independent. It says how much the distributions changed, not whether for the
    worse: see accuracy and perplexity for that.
    """
    for part in (candidate, baseline or {}):
        values = np.array(list(part.values()), dtype=np.float64).reshape(-1, 2)
        if not len(part) and part is candidate:
            return refuse(metric, "no documents were scored", policy, unit=_UNIT, subject=subject)
        wrong = not np.all(np.isfinite(values)) or np.any(values[:, 1] <= 0)
        if wrong or np.any(values[:, 0] < -_ROUNDING * values[:, 1]):
            reason = "a document has a negative or non-finite divergence or no tokens"
            return refuse(metric, reason, policy, unit=_UNIT, subject=subject, samples=len(candidate))
    if not np.isfinite(floor) or floor < 0:
        reason = f"the floor of {floor:g} nats is no divergence"
        return refuse(metric, reason, policy, unit=_UNIT, subject=subject, samples=len(candidate))
    own = np.array([candidate[item] for item in sorted(candidate)], dtype=np.float64)
    if baseline is None and limit is None:
        value = float(own[:, 0].sum() / own[:, 1].sum())
        return no_baseline(value, metric, _UNIT, policy, len(own), subject, _DIGITS)
    against = "baseline" if baseline is not None else "reference"
    known = baseline if baseline is not None else {item: (0.0, tokens) for item, (_, tokens) in candidate.items()}
    pairing = pair(candidate, known)
    if not pairing.common:
        return refuse(metric, "no document is in both runs", policy, unit=_UNIT, subject=subject)
    mine, theirs = (np.array([part[item] for item in pairing.common], dtype=np.float64) for part in (candidate, known))
    if np.any(mine[:, 1] != theirs[:, 1]):
        reason = "token counts of the same document differ, so the tokenization or the scoring changed"
        return refuse(metric, reason, policy, unit=_UNIT, subject=subject, samples=len(mine))
    more, error = ratio_of_sums(mine[:, 0] - theirs[:, 0], mine[:, 1])
    level, level_error = ratio_of_sums(mine[:, 0], mine[:, 1])
    before = float(theirs[:, 0].sum() / theirs[:, 1].sum())
    low, high = policy.margin * before + floor, policy.tolerated * before + 2.0 * floor
    if baseline is None and limit is not None:
        low = high = limit
    reach = t_bound(max(len(mine) - 1, 1), TAIL) * level_error
    return bounded(
        more,
        error,
        low,
        high,
        policy,
        pairing,
        estimate=level,
        interval=(level - reach, level + reach),
        baseline=before,
        metric=metric,
        unit=_UNIT,
        subject=subject,
        reason=too_few(pairing, policy),
        against=against,
        digits=_DIGITS,
        said=f"{mine[:, 1].sum():,.0f} tokens in {len(mine)} documents",
    )
