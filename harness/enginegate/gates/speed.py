"""The speed gate: block log ratios of one candidate over the reference become a Verdict, or "take more blocks"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from enginegate.gates.robust import MIN_BLOCKS, Location, locate
from enginegate.gates.sequential import (
    FAILED,
    UNDECIDED,
    SpeedPolicy,
    bounds,
    half_width,
    level_at,
    next_look,
    sequential_test,
)
from enginegate.gates.sessions import Anchor, Baseline, Floor, Known, anchor_of
from enginegate.gates.verdict import TAIL, Status, Verdict

Against = Baseline | Floor | Known

#: Warn of autocorrelation beyond this many standard errors (1/sqrt(n)) of an independent series.
_MEMORY_WARNING = 2.33
#: Warn when the two orders of a block differ by this many standard errors.
_ORDER_WARNING = 4.0
_ONE_ORDER = "the two ran in one order in every block, so what the order does to the ratio cannot be taken out"


def judge_speed(
    log_ratios: Sequence[float],
    against: Against | None,
    policy: SpeedPolicy,
    *,
    metric: str = "speedup",
    subject: str = "",
    reference: str = "",
    final: bool,
    warnings: Sequence[str] = (),
    invalid: str | None = None,
    order: Sequence[int] | None = None,
) -> Verdict | None:
    """Judge a speed-up at one look.

    Args:
        log_ratios: log(t_reference / t_candidate) of every block so far, in the order they ran.
        against: stored sessions, a floor, a known ratio, or None where there is nothing to compare with.
        policy: margins, error probabilities and looks.
        metric: name for the verdict.
        subject: what is judged, for the explanation, e.g. ``int8_wo b8``.
        reference: what it is measured against, e.g. ``hf-bf16``.
        final: no more blocks will come, so the answer must be a Verdict.
        warnings: what the measurement itself has to say; carried on the verdict.
        invalid: why these samples can decide nothing (throttling, foreign load); forces INCONCLUSIVE.
        order: of each block, +1 where the reference ran before the candidate, else -1; None: they alternate.

    Returns:
        A verdict, or None: nothing is decided and more blocks may come. Between the policy's looks it is always None,
        so that asking after every block does not spend error probability that was not planned.

    The hypotheses: with s = log(expected ratio) - log(this ratio) and slowdown exp(s) - 1, FAIL rejects
    "slowdown <= margin" at ``policy.alpha`` and PASS rejects "slowdown >= tolerated" at ``policy.beta``, each over all
    looks together. Against a floor both compare with the floor itself. The interval is of the ratio measured in this
    session, two-sided at ``verdict.CONFIDENCE``, and holds over all looks together (repeated confidence interval,
    Jennison and Turnbull 1989).
    """
    gate = SpeedGate(against, policy, metric, subject, reference, tuple(warnings))
    count = len(log_ratios)
    broken = int(np.sum(~np.isfinite(np.asarray(log_ratios, dtype=np.float64)))) if count else 0
    if broken:
        return gate.unusable(count, f"{broken} of {count} samples are not positive finite times")
    if not count:
        return gate.unusable(0, "no samples were collected") if final else None
    if not final and count not in policy.looks:
        return None
    last = final or next_look(count, policy) is None
    if count < MIN_BLOCKS:
        ratio = float(np.exp(np.mean(log_ratios)))
        reason = f"only {count} blocks, fewer than the {MIN_BLOCKS} that an error can be had from"
        nothing = (np.nan, np.nan)
        status = Status.NO_BASELINE if against is None else Status.INCONCLUSIVE
        return gate.verdict(status, count, ratio, nothing, reason=reason)
    if order is not None and len(set(order)) == 1:
        gate = replace(gate, warnings=(*gate.warnings, _ONE_ORDER))
    return gate.look(locate(log_ratios, correlation=policy.correlation, order=order), count, last, invalid)


def replay_speed(
    log_ratios: Sequence[float],
    against: Against | None,
    policy: SpeedPolicy,
    *,
    metric: str = "speedup",
    subject: str = "",
    reference: str = "",
    warnings: Sequence[str] = (),
    invalid: str | None = None,
    order: Sequence[int] | None = None,
) -> Verdict:
    """The verdict that a session which took these blocks gave: the first look that decides, or the last.

    An arena goes on for its other readers after one gate has decided; what comes after that gate's decision is not
    looked at, else it would look once more than its error probability was planned for. Where there is nothing to
    compare with nothing is decided, and the ratio is that of all the blocks.
    """
    count = len(log_ratios)

    def judged(look: int, final: bool) -> Verdict | None:
        return judge_speed(
            log_ratios[:look],
            against,
            policy,
            metric=metric,
            subject=subject,
            reference=reference,
            final=final,
            warnings=warnings,
            invalid=invalid,
            order=None if order is None else order[:look],
        )

    return first_decision([] if against is None else [look for look in policy.looks if look < count], count, judged)


def first_decision(looks: Sequence[int], count: int, judged: Callable[[int, bool], Verdict | None]) -> Verdict:
    """The verdict at the first of ``looks`` that decides, else the final one at ``count``, which must.

    ``judged``: the verdict at a look, and whether it is the final one.
    """
    for look, final in (*((look, False) for look in looks), (count, True)):
        verdict = judged(look, final)
        if verdict is not None:
            return verdict
    raise AssertionError("a final look always gives a verdict")


@dataclass(frozen=True)
class SpeedGate:
    """What stays the same over one gate's looks. ``unit``: what is counted."""

    against: Against | None
    policy: SpeedPolicy
    metric: str
    subject: str
    reference: str
    warnings: tuple[str, ...]
    unit: str = "blocks"

    def look(self, location: Location, count: int, last: bool, invalid: str | None) -> Verdict | None:
        """The verdict after ``count`` blocks, or None where more are to come."""
        policy, floor = self.policy, isinstance(self.against, Floor)
        if invalid is not None and not last:
            return None
        tail = level_at(count, policy, TAIL, final=last)
        centre, reach = float(location.estimate), float(half_width(location, Anchor(0.0), tail))
        ratio, interval = float(np.exp(centre)), (float(np.exp(centre - reach)), float(np.exp(centre + reach)))
        gate = replace(self, warnings=(*self.warnings, *noise_warnings(location, count)))
        anchor = gate.anchor
        if anchor is None:
            kept = gate if invalid is None else replace(gate, warnings=(*gate.warnings, invalid))
            return kept.verdict(Status.NO_BASELINE, count, ratio, interval)
        seen = sequential_test(location, anchor, policy, count, final=last, floor=floor)
        slower, least, most = float(seen.slower), float(seen.least), float(seen.most)
        spread = float(np.sqrt(location.error**2 + anchor.error**2 + anchor.shift**2))
        low = bounds(policy, floor=floor)[0]
        visible = float(np.expm1(low + (slower - least) + float(ndtri(policy.power)) * spread))
        decided = int(seen.status)
        if invalid is None and decided != UNDECIDED:
            status = Status.FAIL if decided == FAILED else Status.PASS
            return gate.verdict(status, count, ratio, interval, slower, visible)
        if not last:
            return None
        if invalid is not None:
            reason = invalid
        elif bool(seen.correlated):
            reason = f"the blocks are too correlated (lag-1 autocorrelation {float(location.autocorrelation):.2f})"
        elif floor:
            ends = (float(np.exp(float(anchor.estimate) - bound)) for bound in (most, least))
            reason = f"after {count} {self.unit} the ratio lies between " + " and ".join(f"{end:.2f}x" for end in ends)
        else:
            reason = f"after {count} {self.unit} the slowdown lies between {_percent(least)} and {_percent(most)}"
        return gate.verdict(Status.INCONCLUSIVE, count, ratio, interval, slower, visible, reason)

    def verdict(
        self,
        status: Status,
        count: int,
        ratio: float,
        interval: tuple[float, float],
        slower: float | None = None,
        visible: float | None = None,
        reason: str | None = None,
    ) -> Verdict:
        """A verdict in words; ``reason`` says why nothing was decided, or could have been."""
        measured = f"{ratio:.2f}x"
        if np.isfinite(interval[0]):
            measured += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
        text = f"{self.subject}: {measured}" if self.subject else measured
        if self.reference:
            text += f" over {self.reference}"
        text += self._comparison(status, slower)
        if reason:
            # without a baseline nothing was to be decided; that the session is too short to become one is said
            text += f"; {reason}" if status is Status.NO_BASELINE else f"; undecided: {reason}"
            if visible is not None:
                text += f"; the smallest slowdown it could have seen is {100 * visible:.1f} %"
        return self._filled(status, count, text, ratio, interval, slower, visible)

    def unusable(self, count: int, reason: str) -> Verdict:
        """The verdict on samples that are no times: a failure, as a hole fails closed."""
        nothing = float("nan")
        text = f"{self.subject}: samples unusable: {reason}" if self.subject else f"samples unusable: {reason}"
        return self._filled(Status.FAIL, count, text, nothing, (nothing, nothing), None, None)

    def _filled(
        self,
        status: Status,
        count: int,
        text: str,
        ratio: float,
        interval: tuple[float, float],
        slower: float | None,
        visible: float | None,
    ) -> Verdict:
        return Verdict(
            status=status,
            metric=self.metric,
            estimate=ratio,
            interval=interval,
            unit="x",
            baseline=None if self.anchor is None else float(np.exp(self.anchor.estimate)),
            change=None if slower is None else float(np.expm1(slower)),
            margin=0.0 if isinstance(self.against, Floor) else self.policy.margin,
            alpha=self.policy.alpha,
            smallest_visible=visible,
            samples=count,
            explanation=text,
            warnings=self.warnings,
        )

    @cached_property
    def anchor(self) -> Anchor | None:
        """What the ratio is compared with, on the log scale; None where there is no baseline."""
        return None if self.against is None else anchor_of(self.against, self.policy.shift, self.policy.correlation)

    def _comparison(self, status: Status, slower: float | None) -> str:
        if self.anchor is None:
            return "; there is no baseline to compare with"
        if slower is None:
            return ""
        if isinstance(self.against, Floor):
            place = {Status.FAIL: "below", Status.PASS: "above"}.get(status, "not shown to be above or below")
            return f", {place} the floor of {self.against.ratio:.2f}x"
        text = ": "
        if not isinstance(self.against, Known):
            text = f", baseline {float(np.exp(self.anchor.estimate)):.2f}x: "
        elif self.against.ratio != 1.0:
            text = f", expected {self.against.ratio:.2f}x: "
        text += f"slower by {_percent(slower)}" if slower >= 0 else f"faster by {_percent(-slower)}"
        if status is Status.FAIL:
            return text + f", more than the {100 * self.policy.margin:.3g} % margin{self.anchor.allowance()}"
        if status is Status.PASS and np.expm1(slower) > self.policy.margin:
            return text + f", less than the {100 * self.policy.tolerated:.3g} % tolerated"
        return text


def noise_warnings(location: Location, count: int) -> tuple[str, ...]:
    """What the series itself says against its own verdict."""
    found: list[str] = []
    memory = float(location.autocorrelation)
    if memory * np.sqrt(count) > _MEMORY_WARNING:
        found.append(f"blocks are correlated (lag 1: {memory:.2f}); the interval is widened for it")
    if abs(float(location.order_effect)) > _ORDER_WARNING * float(location.error):
        found.append(
            f"the order within a block moves the ratio by {abs(float(location.order_effect)):.1%}; it is taken out"
        )
    return tuple(found)


def _percent(log_change: float) -> str:
    return f"{100 * float(np.expm1(log_change)):.1f} %"
