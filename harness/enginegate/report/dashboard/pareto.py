"""Which engines no other one beats in everything. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], more_is_better: Sequence[bool]) -> list[bool]:
    """Of each point, whether it is on the Pareto front: no other is at least as good in all, and better in one.

    Points that are equal in all are on it together.

    Args:
        points: by engine, its figures, all finite.
        more_is_better: of each figure, whether more is better; else less is.
    """
    signs = [1.0 if more else -1.0 for more in more_is_better]
    gains = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points]
    return [not any(_beats(other, gain) for other in gains) for gain in gains]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)
