"""Gates on what an engine takes: memory, size on disk, build time. Nearly deterministic, so no test is needed.

Two runs of one engine differ by allocator and page noise alone. A fixed allowance states that: a relative part and a
quantum, the coarsest step in which the number can move by itself (2 MiB pages on a GPU; a few MiB of pages on a CPU).
"""

from __future__ import annotations

import math
from dataclasses import replace

from enginegate.gates.verdict import Status, Verdict

MIB = 1 << 20
#: Page and allocator noise of a process on a CPU.
CPU_QUANTUM = 8 * MIB


def judge_memory(
    value: float,
    baseline: float | None,
    *,
    quantum: float = CPU_QUANTUM,
    relative: float = 0.005,
    limit: float | None = None,
    metric: str = "peak_memory",
    subject: str = "",
) -> Verdict:
    """Judge bytes of memory: FAIL beyond ``baseline * (1 + relative) + quantum`` or beyond ``limit``, else PASS.

    Args:
        value: measured bytes.
        baseline: accepted bytes, or None.
        quantum: bytes by which the number moves by itself.
        relative: share of the baseline that is tolerated.
        limit: "at most this many bytes", whatever the baseline says, or None.
        metric: name for the verdict.
        subject: what is judged, for the explanation.
    """
    return _judge(value, baseline, relative, quantum, limit, metric, subject, "bytes")


def judge_size(
    value: float,
    baseline: float | None,
    *,
    relative: float = 0.001,
    quantum: float = 4096,
    limit: float | None = None,
    metric: str = "engine_size",
    subject: str = "",
) -> Verdict:
    """Judge bytes on disk. As ``judge_memory``, tighter: only metadata may differ between two builds."""
    return _judge(value, baseline, relative, quantum, limit, metric, subject, "bytes")


def judge_build_time(
    value: float,
    baseline: float | None,
    *,
    relative: float = 0.25,
    quantum: float = 2.0,
    limit: float | None = None,
    metric: str = "build_seconds",
    subject: str = "",
) -> Verdict:
    """Judge seconds of one build. Advisory: one sample on a busy machine fails nothing.

    Beyond the allowance it is INCONCLUSIVE, with the number; it is a FAIL only where the value is no time at all.
    """
    verdict = _judge(value, baseline, relative, quantum, limit, metric, subject, "seconds")
    if verdict.status is not Status.FAIL or not _usable(value):
        return verdict
    return _with_status(verdict, Status.INCONCLUSIVE, "; one build is no evidence, so this is advice, not a failure")


def _judge(
    value: float,
    baseline: float | None,
    relative: float,
    quantum: float,
    limit: float | None,
    metric: str,
    subject: str,
    unit: str,
) -> Verdict:
    if baseline is not None and not _usable(baseline):
        raise ValueError(f"a {metric} baseline of {baseline} is not a positive number")
    if limit is not None and not _usable(limit):
        raise ValueError(f"a {metric} limit of {limit} is not a positive number")
    name = f"{subject}: " if subject else ""
    allowance = 0.0 if baseline is None else relative + quantum / baseline
    change = None if baseline is None or not _usable(value) else value / baseline - 1.0
    warnings: tuple[str, ...] = ()
    if not _usable(value):
        status, text = Status.FAIL, f"{name}samples unusable: {metric} of {value} is not a positive number"
    elif limit is not None and value > limit:
        status, text = Status.FAIL, f"{name}{_show(value, unit)}, more than the limit of {_show(limit, unit)}"
    elif baseline is None or change is None:
        status = Status.NO_BASELINE if limit is None else Status.PASS
        bound = "no baseline to compare with" if limit is None else f"within the limit of {_show(limit, unit)}"
        text = f"{name}{_show(value, unit)}, {bound}"
    else:
        more = "more" if change >= 0 else "less"
        text = f"{name}{_show(value, unit)}, baseline {_show(baseline, unit)}: {abs(change):.1%} {more}"
        text = text.replace("%", " %")
        if change > allowance:
            status = Status.FAIL
            text += f", beyond the {100 * allowance:.2g} % that moves by itself"
        else:
            status = Status.PASS
            if change < -allowance:
                warnings = (f"{metric} fell by {-change:.1%}: accept it, so that the gate guards the gain",)
    return Verdict(
        status=status,
        metric=metric,
        estimate=float(value),
        interval=(math.nan, math.nan),
        unit=unit,
        baseline=baseline,
        change=change,
        margin=allowance,
        alpha=0.0,
        smallest_visible=None if baseline is None else allowance,
        samples=1,
        explanation=text,
        warnings=warnings,
    )


def _with_status(verdict: Verdict, status: Status, addition: str) -> Verdict:
    return replace(verdict, status=status, explanation=verdict.explanation + addition)


def _usable(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _show(value: float, unit: str) -> str:
    return f"{value / MIB:.1f} MiB" if unit == "bytes" else f"{value:.1f} s"
