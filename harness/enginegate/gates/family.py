"""One error budget over all gates of a session: 60 gates at 1 % each would raise a false alarm in 45 % of sessions.

The budget is *split* before anything is measured: a gate that may stop early must know its own error probability at
its first look, and how many gates there are is known once the tests are collected.
"""

from __future__ import annotations


def split_alpha(budget: float, gates: int) -> float:
    """The alpha of each of ``gates`` gates so that any false FAIL in the session has probability at most ``budget``.

    Bonferroni's inequality: holds however the gates depend on one another, as those that share an arena's reference do.
    """
    if not 0 < budget < 1:
        raise ValueError(f"a budget of {budget} is not a probability between 0 and 1")
    if gates < 1:
        raise ValueError(f"a family of {gates} gates has no budget to split")
    return budget / gates
