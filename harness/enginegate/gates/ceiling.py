"""What a score cannot see: the reference's own text, scored against itself, shows what there is to lose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enginegate.gates.items import Hidden
from enginegate.gates.robust import Array

#: Stored numbers have seven significant digits.
_ROUNDED = 1e-6


@dataclass(frozen=True)
class OwnText:
    """One item's reference against itself.

    Attributes:
        ceiling: its score by itself.
        weight: its share of the text, in any unit.
        kept: its statistics, as the corpus score takes them.
    """

    ceiling: float
    weight: float
    kept: Sequence[float]


@dataclass(frozen=True)
class Ceiling:
    """What a corpus score can see at all.

    Attributes:
        items: item hash to the reference's own text.
        full: the ceiling of an item that is seen: 1 for ROUGE, 100 for BLEU.
        remedy: what would make it so of the others.
        shares: statistics of shape (items, columns), of texts that are all right, to what each item shows as it begins
            to be lost: the share of the score that goes, per share of the item.
    """

    items: Mapping[str, OwnText]
    full: float
    remedy: str
    shares: Callable[[Array], Array]

    def hidden(self, items: Sequence[str], before: float) -> Hidden:
        """The loss on these items that the score would not show, where it was ``before``.

        Where the share x_i of each item that is not seen is lost, w_i x full x x_i should be gone, w_i being its share
        of the text. A score that is concave in what is lost, as the mean and BLEU are, shows at least sum g_i x_i, with
        its slopes g_i where nothing is lost yet. It shows at most m, so at most the largest sum of (w_i full - g_i) x_i
        is hidden, over all x between 0 and 1 with sum g_i x_i <= m. ROUGE shows nothing of such items (g_i = 0).
        The slopes are those of a score ``before`` that had these items right: where it had not, there is less to lose.
        """
        if any(item not in self.items for item in items):
            return Hidden("what the reference scores against itself is not known of every item", _anything, True)
        own = [self.items[item] for item in items]
        unseen = np.array([not text.ceiling >= self.full * (1 - _ROUNDED) for text in own])
        if not unseen.any():
            return Hidden()
        reason = (
            f"{int(unseen.sum())} of {len(own)} items cannot be seen: the reference's own text does not reach "
            f"{self.full:g} against itself, or is too short to count for as much as it is; {self.remedy}"
        )
        shares = self.shares(np.nan_to_num(np.array([text.kept for text in own], dtype=np.float64)))
        nothing = not shares.any()
        weights = np.array([text.weight for text in own], dtype=np.float64)
        if not (np.all(np.isfinite(weights)) and np.all(weights >= 0) and weights.sum() > 0):
            return Hidden(reason, _anything, everything=nothing)
        lost = self.full * weights[unseen] / weights.sum()
        shown = max(before, 0.0) * shares[unseen]
        return Hidden(reason, lambda loss: _most_hidden(lost - shown, shown, loss), everything=nothing)


def _most_hidden(hidden: Array, shown: Array, most: float) -> float:
    """The largest sum of ``hidden`` times x, where that of ``shown`` times x is ``most`` at most, and 0 <= x <= 1.

    A fractional knapsack: what hides most for what it shows comes first (Dantzig, *Operations Research* 5, 1957).
    """
    free = shown <= 0
    found = float(np.maximum(hidden[free], 0.0).sum())
    hidden, shown = hidden[~free], shown[~free]
    order = np.argsort(-hidden / shown, kind="stable")
    hidden, shown = hidden[order], shown[order]
    left = max(most, 0.0) - (np.cumsum(shown) - shown)
    return found + float((np.maximum(hidden, 0.0) * np.clip(left / shown, 0.0, 1.0)).sum())


def hidden_loss(
    ceiling: Ceiling | None,
    items: Sequence[str],
    before: float,
    tolerated: float,
    against: str,
) -> Hidden:
    """The loss that a corpus score would not show: of items that it does not see, and below 0, where it ends.

    Args:
        ceiling: of the score; None where that was not measured: then nothing is said to be hidden.
        items: those that are judged.
        before: the score that the candidate is compared with.
        tolerated: the loss that must not pass.
        against: what ``before`` is of.
    """
    if ceiling is None:
        return Hidden()
    hidden = ceiling.hidden(items, before)
    if hidden.everything or before > tolerated:
        return hidden
    reason = f"the {against} itself scores {before:.3f}, so a loss of {tolerated:.3f} could not show"
    return Hidden(f"{reason}; {hidden.reason}" if hidden.reason else reason, _anything)


def _anything(_: float) -> float:
    return math.inf
