"""One error budget over all gates of a session: 60 gates at 1 % each would raise a false alarm in 45 % of sessions.

The budget is *split* before anything is measured where a gate may stop early: a sequential gate must know its own
error probability at its first look, and k is known once the tests are collected. *Holm* is for gates whose p-values
are all there at the end; it is never weaker than splitting, but its verdicts hang together and wait for the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def split_alpha(budget: float, gates: int) -> float:
    """The alpha of each of ``gates`` gates so that any false FAIL in the session has probability at most ``budget``.

    Bonferroni's inequality: holds however the gates depend on one another, as those that share an arena's reference do.
    """
    if not 0 < budget < 1:
        raise ValueError(f"a budget of {budget} is not a probability between 0 and 1")
    if gates < 1:
        raise ValueError(f"a family of {gates} gates has no budget to split")
    return budget / gates


def holm(p_values: Sequence[float], budget: float) -> list[bool]:
    """Which hypotheses are rejected, in the order given, at a family-wise error of ``budget`` (Holm 1979)."""
    values = np.asarray(p_values, dtype=np.float64)
    if np.any(~(values >= 0) | ~(values <= 1)):
        raise ValueError("every p-value must lie between 0 and 1")
    order = np.argsort(values, kind="stable")
    passed = values[order] <= budget / (len(values) - np.arange(len(values)))
    rejected = np.zeros(len(values), dtype=bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return [bool(value) for value in rejected]
