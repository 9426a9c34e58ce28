"""The other quality gates, paired by item: corpus scores, perplexity, flips and output lengths."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from enginegate.gates.accuracy import judge_accuracy
from enginegate.gates.ceiling import Ceiling, hidden_loss
from enginegate.gates.items import (
    Hidden,
    QualityPolicy,
    bounded,
    no_baseline,
    pair,
    ratio_of_sums,
    refuse,
    t_bound,
    too_few,
)
from enginegate.gates.robust import Array
from enginegate.gates.verdict import CONFIDENCE, TAIL, Status, Verdict

__all__ = ["QualityPolicy", "judge_accuracy", "judge_corpus", "judge_flips", "judge_lengths", "judge_nll"]


def judge_corpus(
    candidate_stats: Mapping[str, Sequence[float]],
    baseline_stats: Mapping[str, Sequence[float]] | None,
    score: Callable[[Array], float],
    policy: QualityPolicy,
    *,
    limit: float | None = None,
    reference_stats: Mapping[str, Sequence[float]] | None = None,
    metric: str = "bleu",
    unit: str = "points",
    subject: str = "",
    ceiling: Ceiling | None = None,
    unquantized: Mapping[str, Sequence[float]] | None = None,
) -> Verdict:
    """Judge a corpus score by paired bootstrap over items (Koehn 2004).

    Args:
        candidate_stats: item hash to that item's statistics: for BLEU matches, totals and lengths; for ROUGE its F.
        baseline_stats: likewise, accepted before; None where there is none.
        score: statistics of shape (items, columns) to the corpus score; higher is better.
        policy: FAIL rejects "loss <= margin" at alpha, PASS rejects "loss >= tolerated" at beta, in the score's unit.
        limit: loss against ``reference_stats`` tolerated where there is no baseline; takes the place of both bounds.
        reference_stats: likewise, of the reference engine on the same items.
        metric, unit, subject: names for the verdict.
        ceiling: what each item of the reference scores against itself; None where that was not measured.
        unquantized: likewise, of a second unquantized engine beside the reference. Where it scores lower than the
            baseline it takes its place: answers as good as rounding leaves them are no loss.

    A score that sees nothing decides nothing. Where it does not see some of the items, what may be hidden there counts
    as lost for PASS, and as kept for FAIL. Nor is there a PASS where what is compared with has no ``tolerated`` to
    lose, as the score ends at 0. Where there is nothing to compare with, a warning says what is not seen.

    The bounds are the observed loss plus or minus a t quantile times the bootstrap standard error: percentiles of
    2,000 resamples could not resolve the small alpha of a gate in a family.
    """
    known, margin, tolerated, against = baseline_stats, policy.margin, policy.tolerated, "baseline"
    if known is None and limit is not None:
        known, margin, tolerated, against = reference_stats, limit, limit, "reference"
    if not candidate_stats:
        return refuse(metric, "no items were scored", policy, unit=unit, subject=subject)
    items = sorted(candidate_stats)
    mine = np.array([candidate_stats[item] for item in items], dtype=np.float64)
    if not np.all(np.isfinite(mine)):
        return refuse(metric, "a statistic is not a finite number", policy, unit=unit, subject=subject)
    if known is None:
        value = float(score(mine))
        hidden = Hidden() if ceiling is None else ceiling.hidden(items, value)
        verdict = no_baseline(value, metric, unit, policy, len(items), subject)
        return replace(verdict, warnings=(hidden.reason,)) if hidden.reason else verdict
    pairing = pair(candidate_stats, known)
    reason = too_few(pairing, policy)
    if not pairing.common:
        return refuse(metric, "no item is in both runs", policy, unit=unit, subject=subject)
    mine = np.array([candidate_stats[item] for item in pairing.common], dtype=np.float64)
    theirs = np.array([known[item] for item in pairing.common], dtype=np.float64)
    if against == "baseline" and unquantized is not None and unquantized.keys() >= set(pairing.common):
        rounded = np.array([unquantized[item] for item in pairing.common], dtype=np.float64)
        if rounded.shape == theirs.shape and float(score(rounded)) < float(score(theirs)):
            theirs, against = rounded, "an unquantized engine"
    if not np.all(np.isfinite(theirs)):
        return refuse(metric, f"a {against} statistic is not a finite number", policy, unit=unit, subject=subject)
    if mine.shape != theirs.shape:
        return refuse(metric, f"the {against} keeps other statistics", policy, unit=unit, subject=subject)
    count = len(mine)
    draws = np.random.default_rng(policy.seed).integers(0, count, (policy.resamples, count))
    ours = np.array([score(mine[draw]) for draw in draws])
    differences = np.array([score(theirs[draw]) for draw in draws]) - ours
    value, before = float(score(mine)), float(score(theirs))
    if not np.isfinite(value + before):
        return refuse(metric, "the score is not a finite number", policy, unit=unit, subject=subject, samples=count)
    return bounded(
        before - value,
        float(differences.std(ddof=1)),
        margin,
        tolerated,
        policy,
        pairing,
        estimate=value,
        estimate_error=float(ours.std(ddof=1)),
        baseline=before,
        metric=metric,
        unit=unit,
        subject=subject,
        reason=reason,
        against=against,
        hidden=hidden_loss(ceiling, pairing.common, before, tolerated, against),
    )


def judge_nll(
    candidate: Mapping[str, tuple[float, float]],
    baseline: Mapping[str, tuple[float, float]] | None,
    policy: QualityPolicy,
    *,
    limit: float | None = None,
    reference: Mapping[str, tuple[float, float]] | None = None,
    metric: str = "perplexity",
    subject: str = "",
) -> Verdict:
    """Judge perplexity, paired by document.

    Args:
        candidate: document hash to (sum of negative log-likelihood in nats, scored tokens).
        baseline: likewise, accepted before; None where there is none.
        policy: margin and tolerated are relative perplexity (0.01 = 1 % higher).
        limit: perplexity over that of ``reference`` at most this (1.30) where there is no baseline.
        reference: likewise, of the reference engine on the same documents.
        metric, subject: names for the verdict.

    The log of the perplexity ratio is the sum of differences over the sum of tokens, a ratio of sums over documents.
    """
    known, low, high, against = baseline, np.log1p(policy.margin), np.log1p(policy.tolerated), "baseline"
    if known is None and limit is not None and reference is not None:
        known, low, high, against = reference, np.log(limit), np.log(limit), "reference"
    for part in (candidate, known or {}):
        values = np.array(list(part.values()), dtype=np.float64).reshape(-1, 2)
        if not len(part) and part is candidate:
            return refuse(metric, "no documents were scored", policy, unit="ppl", subject=subject)
        if not np.all(np.isfinite(values)) or np.any(values[:, 0] < 0) or np.any(values[:, 1] <= 0):
            reason = "a document has a negative or non-finite likelihood or no tokens"
            return refuse(metric, reason, policy, unit="ppl", subject=subject, samples=len(candidate))
    own = np.array([candidate[item] for item in sorted(candidate)], dtype=np.float64)
    if known is None:
        value = float(np.exp(own[:, 0].sum() / own[:, 1].sum()))
        return no_baseline(value, metric, "ppl", policy, len(own), subject)
    pairing = pair(candidate, known)
    if not pairing.common:
        return refuse(metric, "no document is in both runs", policy, unit="ppl", subject=subject)
    mine = np.array([candidate[item] for item in pairing.common], dtype=np.float64)
    theirs = np.array([known[item] for item in pairing.common], dtype=np.float64)
    if np.any(mine[:, 1] != theirs[:, 1]):
        reason = "token counts of the same document differ, so the tokenization or the scoring changed"
        return refuse(metric, reason, policy, unit="ppl", subject=subject, samples=len(mine))
    worse, error = ratio_of_sums(mine[:, 0] - theirs[:, 0], mine[:, 1])
    level, level_error = ratio_of_sums(mine[:, 0], mine[:, 1])
    reach = t_bound(max(len(mine) - 1, 1), TAIL) * level_error
    before = float(np.exp(theirs[:, 0].sum() / theirs[:, 1].sum()))
    return bounded(
        worse,
        error,
        float(low),
        float(high),
        policy,
        pairing,
        estimate=float(np.exp(level)),
        interval=(float(np.exp(level - reach)), float(np.exp(level + reach))),
        baseline=before,
        metric=metric,
        unit="ppl",
        subject=subject,
        reason=too_few(pairing, policy),
        relative=True,
        against=against,
    )


def judge_flips(
    candidate: Mapping[str, object],
    baseline: Mapping[str, object] | None,
    policy: QualityPolicy,
    *,
    limit: float,
    metric: str = "flips",
    subject: str = "",
    same: Callable[[Any, Any], bool] = operator.eq,
) -> Verdict:
    """Judge how many answers changed at all, right or wrong: equal accuracy with many flips is another model.

    Args:
        candidate: item hash to the answer given.
        baseline: likewise, of the baseline or the reference; None where there is none.
        policy: FAIL rejects "rate <= limit" at alpha, PASS rejects "rate >= limit" at beta, exact binomial tests.
        limit: tolerated share of changed answers.
        metric, subject: names for the verdict.
        same: whether two answers are one: where several are equally likely, whether they have one in common.
    """
    if not candidate:
        return refuse(metric, "no items were answered", policy, unit="share", subject=subject)
    if baseline is None:
        return no_baseline(float("nan"), metric, "share", policy, len(candidate), subject)
    pairing = pair(candidate, baseline)
    count = len(pairing.common)
    if not count:
        return refuse(metric, "no item is in both runs", policy, unit="share", subject=subject)
    flips = sum(not same(candidate[item], baseline[item]) for item in pairing.common)
    reason = too_few(pairing, policy)
    more = float(scipy.stats.binom.sf(flips - 1, count, limit))
    fewer = float(scipy.stats.binom.cdf(flips, count, limit))
    status = Status.FAIL if more <= policy.alpha else Status.PASS if fewer <= policy.beta else Status.INCONCLUSIVE
    text = f"{flips} of {count} answers changed, tolerated {100 * limit:.1f} %"
    if reason is not None:
        status, text = Status.INCONCLUSIVE, f"{text}; undecided: {reason}"
    elif status is Status.INCONCLUSIVE:
        text += "; undecided: too close to it for this many items"
    interval = scipy.stats.binomtest(flips, count).proportion_ci(CONFIDENCE, "exact")
    name = f"{subject}: " if subject else ""
    return Verdict(
        status=status,
        metric=metric,
        estimate=flips / count,
        interval=(float(interval.low), float(interval.high)),
        unit="share",
        baseline=None,
        change=None,
        margin=limit,
        alpha=policy.alpha,
        smallest_visible=None,
        samples=count,
        explanation=name + text,
        warnings=pairing.warnings,
    )


def judge_lengths(
    candidate: Mapping[str, float],
    reference: Mapping[str, float] | None,
    policy: QualityPolicy,
    *,
    minimum: float = 0.90,
    metric: str = "output_length",
    subject: str = "",
) -> Verdict:
    """Judge output length: a speed-up cannot come from shorter output (the rule of MLPerf inference, 90 %).

    Args:
        candidate: item hash to tokens produced.
        reference: likewise, of the engine that it is compared with; None where there is none.
        policy: FAIL rejects "ratio >= minimum" at alpha, PASS rejects "ratio <= minimum" at beta.
        minimum: smallest tolerated ratio of the mean lengths.
        metric, subject: names for the verdict.
    """
    for part in (candidate, reference or {}):
        values = np.array(list(part.values()), dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            reason = "a length is negative or not a finite number"
            return refuse(metric, reason, policy, unit="x", subject=subject, samples=len(candidate))
    if not candidate or sum(candidate.values()) <= 0:
        return refuse(metric, "nothing was produced", policy, unit="x", subject=subject, samples=len(candidate))
    if reference is None:
        return no_baseline(float("nan"), metric, "x", policy, len(candidate), subject)
    pairing = pair(candidate, reference)
    mine = np.array([candidate[item] for item in pairing.common], dtype=np.float64)
    theirs = np.array([reference[item] for item in pairing.common], dtype=np.float64)
    if not len(mine) or theirs.sum() <= 0:
        return refuse(metric, "no item with output is in both runs", policy, unit="x", subject=subject)
    ratio, error = ratio_of_sums(mine, theirs)
    return bounded(
        1.0 - ratio,
        error,
        1.0 - minimum,
        1.0 - minimum,
        policy,
        pairing,
        estimate=ratio,
        estimate_error=error,
        baseline=1.0,
        against="reference",
        metric=metric,
        unit="x",
        subject=subject,
        reason=too_few(pairing, policy),
    )
