"""The accuracy gate: the same questions to both engines, so only the answers that flip carry evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import scipy

from enginegate.gates.items import QualityPolicy, pair, refuse, too_few
from enginegate.gates.mcnemar import items_needed, loss_bound, mcnemar, sign_flip, visible_loss
from enginegate.gates.verdict import TAIL, Status, Verdict

#: Level at which the reference must be above chance.
_CHANCE_LEVEL = 0.01
#: Decimals to which two credits are compared: stored ones have seven digits.
_DECIMALS = 6


def judge_accuracy(
    candidate: Mapping[str, float],
    baseline: Mapping[str, float] | None,
    policy: QualityPolicy,
    *,
    reference_items: Mapping[str, float] | None = None,
    chance: float | None = None,
    limit: float | None = None,
    metric: str = "accuracy",
    subject: str = "",
) -> Verdict:
    """Judge accuracy, item by item.

    Args:
        candidate: item hash to the credit: 1.0 (right), 0.0 (wrong), or between where choices tie.
        baseline: likewise, accepted before; None where there is none.
        policy: tolerance, visibility and error probabilities.
        reference_items: likewise, of the reference engine in this session.
        chance: accuracy of guessing; where the reference (else the baseline) is not above it, no loss can be seen.
        limit: loss against ``reference_items`` that is tolerated where there is no baseline (0.03 = 3 points).
        metric: name for the verdict.
        subject: what is judged, for the explanation.

    Without a tolerance FAIL rejects "no loss" by the exact one-sided McNemar test, and PASS needs that it does not,
    and that the test would have shown a loss of ``policy.visible`` with ``policy.power`` among the flips seen.
    With a tolerance (or a limit) d, FAIL rejects "loss <= d" and PASS rejects "loss >= d", by Tango's score test.
    Where items are lost or gained in part, the exact test is its generalization (``sign_flip``), and the others count
    an item by its part, which errs on the safe side (``score_z``).
    """
    known, tolerance, name = baseline, policy.tolerance, "baseline"
    if known is None and limit is not None and reference_items is not None:
        known, tolerance, name = reference_items, limit, "reference"
    for label, answers in (("candidate", candidate), ("baseline", known or {}), ("reference", reference_items or {})):
        wrong = sum(not 0.0 <= value <= 1.0 for value in answers.values())
        if wrong:
            fault = f"{wrong} of {len(answers)} {label} items have no credit between 0 (wrong) and 1 (right)"
            return refuse(metric, fault, policy, unit="accuracy", subject=subject, samples=len(candidate))
    if not candidate:
        return refuse(metric, "no items were answered", policy, unit="accuracy", subject=subject)
    if known is None:
        return _verdict(Status.NO_BASELINE, candidate, None, policy, metric, subject, "no baseline to compare with")
    pairing = pair(candidate, known)
    items = len(pairing.common)
    lost = [round(known[item] - candidate[item], _DECIMALS) for item in pairing.common]
    losses = math.fsum(each for each in lost if each > 0)
    gains = math.fsum(-each for each in lost if each < 0)
    discordance = (losses + gains + 1) / (items + 1)
    seen = visible_loss(items, discordance, policy.alpha, policy.power) if items else None
    reason = too_few(pairing, policy) or not_above_chance(reference_items or known, chance)
    text = f"{_count(losses)} lost and {_count(gains)} gained of {items} against the {name}"
    if reason is not None:
        status, text = Status.INCONCLUSIVE, f"{text}; undecided: {reason}"
    elif tolerance is not None:
        low = loss_bound(losses, gains, items, policy.alpha, upper=False)
        high = loss_bound(losses, gains, items, policy.beta, upper=True)
        status = Status.FAIL if low > tolerance else Status.PASS if high < tolerance else Status.INCONCLUSIVE
        text += f"; the loss is between {100 * low:.1f} and {100 * high:.1f} points, tolerated {100 * tolerance:.1f}"
    else:
        whole = all(abs(each) in (0.0, 1.0) for each in lost)
        probability = mcnemar(round(losses), round(gains)) if whole else sign_flip(lost)
        if probability <= policy.alpha:
            status, text = Status.FAIL, f"{text}, a loss (p = {probability:.2g})"
        elif seen is not None and seen <= policy.visible:
            status, text = Status.PASS, f"{text}, no loss shown; {100 * seen:.1f} points would have been"
        else:
            needed = items_needed(discordance, policy.visible, policy.alpha, policy.power)
            status = Status.INCONCLUSIVE
            text += f"; undecided: a loss of {100 * policy.visible:.1f} points needs about {needed} items to be seen"
    shared = {item: candidate[item] for item in pairing.common}
    before = float(np.mean([known[item] for item in pairing.common])) if items else None
    return _verdict(
        status, shared or candidate, before, policy, metric, subject, text, pairing.warnings, seen, tolerance or 0.0
    )


def not_above_chance(answers: Mapping[str, float], chance: float | None) -> str | None:
    """Why credits by item (1.0 right, 0.0 wrong) tell nothing: they may as well be guessed. None where they do.

    The one-sided binomial test against ``chance``, the accuracy of guessing; None where that is not known. Shared
    credits vary less than whole ones, and what is left of their sum over a whole number is not counted.
    """
    if chance is None:
        return None
    right, count = round(math.fsum(answers.values()), _DECIMALS), len(answers)
    if float(scipy.stats.binom.sf(math.floor(right) - 1, count, chance)) <= _CHANCE_LEVEL:
        return None
    return (
        f"the reference scores {right / count:.2f}, not above the {chance:.2f} of guessing, so no loss could be seen"
        if count
        else "the reference answered nothing"
    )


def _verdict(
    status: Status,
    answers: Mapping[str, float],
    baseline: float | None,
    policy: QualityPolicy,
    metric: str,
    subject: str,
    text: str,
    warnings: tuple[str, ...] = (),
    seen: float | None = None,
    margin: float = 0.0,
) -> Verdict:
    count = len(answers)
    score = round(math.fsum(answers.values()), _DECIMALS) / count
    low, high = wilson(score, count)
    name = f"{subject}: " if subject else ""
    return Verdict(
        status=status,
        metric=metric,
        estimate=score,
        interval=(low, high),
        unit="accuracy",
        baseline=baseline,
        change=(1.0 - score / baseline) if baseline else None,
        margin=margin,
        alpha=policy.alpha,
        smallest_visible=seen,
        samples=count,
        explanation=f"{name}{score:.3f} [{low:.3f}, {high:.3f}], {text}",
        warnings=warnings,
    )


def wilson(share: float, count: int) -> tuple[float, float]:
    """Score interval of a mean between 0 and 1 over so many items (Wilson, *JASA* 22, 1927), as of right and wrong.

    A mean of shared credits varies less, so the interval is then too wide rather than too narrow.
    """
    z = float(scipy.stats.norm.isf(TAIL))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (0.0 if share == 0 else centre - reach, 1.0 if share == 1 else centre + reach)


def _count(items: float) -> str:
    """Items, or parts of them: ``30``, ``2.33``."""
    return f"{items:.2f}".rstrip("0").rstrip(".")
