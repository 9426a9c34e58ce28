"""Views of one engine's memory against its law: the KV cache to the byte, the total within a share.

Nothing here is random but the allocator, so no error rate is given: a fixed allowance states what moves by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from enginegate.gates.verdict import Status, Verdict

MB = 1e6


def judge_views(
    *,
    kv: int,
    kv_views: Mapping[str, int | None],
    at_most: bool,
    total: int | None,
    measured: int,
    tolerated: float,
    spread: int,
    unsure: str,
    metric: str,
    subject: str,
) -> Verdict:
    """FAIL where a KV cache is not the law's, or the total is off by more than ``tolerated`` and ``spread`` together.

    Where the total is off and ``unsure`` says why the law may not hold here, that is INCONCLUSIVE.

    Args:
        kv: bytes of the KV pool by the law.
        kv_views: the same as others see it; None where they do not tell.
        at_most: whether a smaller pool is as right, since something else limits it.
        total, measured: bytes of everything by the law (None: it says none), and as the driver or kernel counts them.
        tolerated: share of ``total``.
        spread: bytes by which the law is known to lie off.
        unsure: see above; empty where the law was measured on such a machine.
        metric, subject: for the verdict.
    """
    told = {view: value for view, value in kv_views.items() if value is not None}
    wrong = {view: value for view, value in told.items() if value > kv or (value != kv and not at_most)}
    off = None if total is None else measured - total
    allowed = 0.0 if total is None else tolerated * total + spread
    parts = []
    if wrong:
        others = ", ".join(f"{view} {value:,}" for view, value in wrong.items())
        parts.append(f"the KV cache should have {kv:,} bytes; {others}")
    elif told:
        parts.append(f"KV cache of {kv:,} bytes, as predicted")
    else:
        parts.append("nobody tells the size of the KV cache")
    if total is None or off is None:
        parts.append("no total was predicted")
    else:
        parts.append(f"{measured / MB:.1f} MB in all, predicted {total / MB:.1f} ({measured / total - 1:+.1%})")
    status = Status.PASS
    if off is not None and abs(off) > allowed:
        status = Status.INCONCLUSIVE if unsure else Status.FAIL
        parts.append(f"more than {allowed / MB:.1f} MB off" + (f", but {unsure}" if unsure else ""))
    if wrong:
        status = Status.FAIL
    return Verdict(
        status=status,
        metric=metric,
        estimate=float(measured),
        interval=(math.nan, math.nan),
        unit="bytes",
        baseline=None if total is None else float(total),
        change=None if total is None else measured / total - 1.0,
        margin=0.0 if total is None else allowed / total,
        alpha=0.0,
        smallest_visible=None if total is None else allowed / total,
        samples=1,
        explanation=f"{subject}: {'; '.join(parts)}".replace("%", " %"),
    )
