"""The gate on the bytes of a KV cache: exact, so no test is needed."""

from __future__ import annotations

import math

from enginegate.gates.verdict import Status, Verdict


def judge_kv_bytes(
    narrow: float, wide: float, limit: float, *, metric: str = "kv_bytes", subject: str = "", reference: str = ""
) -> Verdict:
    """Judge the bytes of one token in two KV pools: FAIL where ``narrow / wide`` is above ``limit``, else PASS.

    Args:
        narrow, wide: bytes of a token, over all layers, with the scales that are stored beside it.
        limit: share of ``wide`` that ``narrow`` may take.
        metric, subject: names for the verdict.
        reference: what ``wide`` is of, for the explanation.
    """
    usable = all(math.isfinite(value) and value > 0 for value in (narrow, wide))
    share = narrow / wide if usable else math.nan
    status = Status.PASS if usable and share <= limit else Status.FAIL
    if usable:
        place = "at most" if status is Status.PASS else "more than"
        text = (
            f"{narrow:,.0f} bytes a token, {share:.3f} of the {wide:,.0f} of {reference} ({1 / share:.2f} times"
            f" smaller), {place} the limit of {limit:g}"
        )
    else:
        text = f"samples unusable: {narrow} and {wide} bytes a token are not positive numbers"
    return Verdict(
        status=status,
        metric=metric,
        estimate=share,
        interval=(math.nan, math.nan),
        unit="x",
        baseline=limit,
        change=share / limit - 1 if usable else None,
        margin=0.0,
        alpha=0.0,
        smallest_visible=0.0,
        samples=1,
        explanation=f"{subject}: {text}" if subject else text,
    )
