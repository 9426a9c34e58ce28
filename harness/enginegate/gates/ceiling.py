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
        kept: its statistics, as the corpus score takes them, where all of it is right.
        lost: the same where nothing is.
    """

    ceiling: float
    weight: float
    kept: Sequence[float]
    lost: Sequence[float]


@dataclass(frozen=True)
class Ceiling:
    """What a corpus score can see at all.

    Attributes:
        items: item hash to the reference's own text.
        full: the ceiling of an item that is seen: 1 for ROUGE, 100 for BLEU.
        remedy: what would make it so of the others.
    """

    items: Mapping[str, OwnText]
    full: float
    remedy: str

    def hidden(self, items: Sequence[str], score: Callable[[Array], float]) -> Hidden:
        """The loss on these items that ``score`` would not show.

        Let u be the share of the text in items whose ceiling is not ``full``. Were they all lost, u x full should be
        gone; the score would show s of that. It shows at most m, so at most the share m / s of them is lost, and at
        most (u x full - s) x min(1, m / s) is hidden. ROUGE shows nothing of such items (s = 0), BLEU a part.
        """
        if any(item not in self.items for item in items):
            return Hidden("what the reference scores against itself is not known of every item", _anything, True)
        own = [self.items[item] for item in items]
        unseen = [not text.ceiling >= self.full * (1 - _ROUNDED) for text in own]
        if not any(unseen):
            return Hidden()
        weights = np.array([text.weight for text in own], dtype=np.float64)
        usable = bool(np.all(np.isfinite(weights)) and np.all(weights >= 0)) and float(weights.sum()) > 0
        share = float(weights[np.array(unseen)].sum() / weights.sum()) if usable else 1.0
        most = float(score(np.array([text.kept for text in own], dtype=np.float64)))
        least = float(
            score(np.array([text.lost if gone else text.kept for text, gone in zip(own, unseen, strict=True)]))
        )
        shown, lost = most - least, self.full * share

        def extent(loss: float) -> float:
            part = min(1.0, max(loss, 0.0) / shown) if shown > 0 else 1.0
            return max(lost - shown, 0.0) * part

        return Hidden(
            f"{sum(unseen)} of {len(own)} items cannot be seen: the reference's own text does not reach {self.full:g} "
            f"against itself; {self.remedy}",
            extent,
            everything=not most > 0,
        )


def hidden_loss(
    ceiling: Ceiling | None,
    items: Sequence[str],
    score: Callable[[Array], float],
    before: float,
    tolerated: float,
    against: str,
) -> Hidden:
    """The loss that a corpus score would not show: of items that it does not see, and below 0, where it ends.

    Args:
        ceiling: of the score; None where that was not measured: then nothing is said to be hidden.
        items: those that are judged.
        score: statistics of shape (items, columns) to the corpus score.
        before: the score that the candidate is compared with.
        tolerated: the loss that must not pass.
        against: what ``before`` is of.
    """
    if ceiling is None:
        return Hidden()
    hidden = ceiling.hidden(items, score)
    if hidden.everything or before > tolerated:
        return hidden
    reason = f"the {against} itself scores {before:.3f}, so a loss of {tolerated:.3f} could not show"
    return Hidden(f"{reason}; {hidden.reason}" if hidden.reason else reason, _anything)


def _anything(_: float) -> float:
    return math.inf
