"""What a corpus score cannot see is not taken for unchanged."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
import pytest
from enginegate.gates.ceiling import Ceiling, OwnText
from enginegate.gates.quality import QualityPolicy, judge_corpus
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import ORDERS, corpus_bleu, own_shares, own_statistics, segment_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = QualityPolicy(margin=0.01, tolerated=0.06, resamples=200)
REMEDY = "set what mends it"


def mean(statistics: np.ndarray) -> float:
    return float(np.mean(statistics))


def shares(statistics: np.ndarray) -> np.ndarray:
    """What of the mean goes with each item."""
    return statistics[:, 0] / statistics.sum() if statistics.any() else np.zeros(len(statistics))


def rouge_ceiling(blind: int, count: int) -> Ceiling:
    values = {f"i{index}": 0.0 if index < blind else 1.0 for index in range(count)}
    return Ceiling({item: OwnText(value, 1.0, [value]) for item, value in values.items()}, 1.0, REMEDY, shares)


def rouge(blind: int, count: int, lost: float = 0.0, ceiling: Ceiling | None = None, before: float = 1.0) -> Verdict:
    """Items that the score sees lose ``lost`` each, the others score 0 both times."""
    old = {f"i{index}": [0.0 if index < blind else before] for index in range(count)}
    new = {item: [max(row[0] - lost, 0.0)] for item, row in old.items()}
    return judge_corpus(new, old, mean, POLICY, ceiling=ceiling or rouge_ceiling(blind, count))


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 60).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_unchanged_items_pass_only_where_the_others_could_not_overturn_it(numbers: tuple[int, int]) -> None:
    blind, count = numbers
    verdict = rouge(blind, count)
    assert verdict.status is (Status.PASS if blind / count < POLICY.tolerated else Status.INCONCLUSIVE)
    said = f"{blind} of {count} items cannot be seen" in " ".join((verdict.explanation, *verdict.warnings))
    assert said is (blind > 0)


def test_a_score_that_sees_nothing_fails_nothing() -> None:
    verdict = rouge(30, 30)
    assert verdict.status is Status.INCONCLUSIVE
    assert REMEDY in verdict.explanation
    # scores that moved all the same, as BLEU's can
    ceiling = rouge_ceiling(30, 30)
    old = {f"i{index}": [0.5] for index in range(30)}
    assert judge_corpus({item: [0.0] for item in old}, old, mean, POLICY, ceiling=ceiling).status is Status.INCONCLUSIVE


def test_a_loss_among_the_items_that_are_seen_is_not_excused_by_the_others() -> None:
    assert rouge(10, 30, lost=0.5).status is Status.FAIL


@pytest.mark.parametrize(("before", "status"), [(0.0, "INCONCLUSIVE"), (0.0599, "INCONCLUSIVE"), (0.061, "PASS")])
def test_nothing_passes_that_has_less_to_lose_than_must_not_pass(before: float, status: str) -> None:
    verdict = rouge(0, 30, before=before)
    assert verdict.status.value == status
    assert ("itself scores" in verdict.explanation) is (status != "PASS")


def test_a_low_score_can_still_fail() -> None:
    assert rouge(0, 30, lost=0.05, before=0.05).status is Status.FAIL


@pytest.mark.parametrize("ceiling", [math.nan, 0.999, -1.0])
def test_a_ceiling_that_is_not_full_is_none(ceiling: float) -> None:
    items = {f"i{index}": OwnText(ceiling, 1.0, [1.0]) for index in range(30)}
    old = {item: [0.0] for item in items}
    assert (
        judge_corpus(old, old, mean, POLICY, ceiling=Ceiling(items, 1.0, REMEDY, shares)).status is Status.INCONCLUSIVE
    )


def test_items_without_a_ceiling_decide_nothing() -> None:
    verdict = rouge(0, 30, ceiling=rouge_ceiling(0, 29))
    assert verdict.status is Status.INCONCLUSIVE
    assert "not known" in verdict.explanation


def test_without_ceilings_the_verdict_is_what_it_was() -> None:
    old = {f"i{index}": [0.0] for index in range(30)}
    assert judge_corpus(old, old, mean, POLICY).status is Status.PASS


def bleu_ceiling(words: Mapping[str, tuple[int, float]], smoothing: str = "exp") -> Ceiling:
    """``words``: of each item, with its weight."""
    items = {
        item: OwnText(100.0 if count >= ORDERS else 0.0, weight, own_statistics(count))
        for item, (count, weight) in words.items()
    }
    return Ceiling(items, 100.0, REMEDY, partial(own_shares, smoothing=smoothing))


def judged_bleu(words: Mapping[str, tuple[int, float]], lost: Collection[str], smoothing: str = "exp") -> Verdict:
    """At 7 points tolerated, where of some items no word is right and of the others all are."""
    policy = QualityPolicy(margin=5.5, tolerated=7.0, resamples=400)
    score = partial(corpus_bleu, smoothing=smoothing)
    old = {item: own_statistics(count) for item, (count, _) in words.items()}
    new = {item: wrong(row) if item in lost else row for item, row in old.items()}
    return judge_corpus(new, old, score, policy, ceiling=bleu_ceiling(words, smoothing))


def wrong(row: Sequence[float]) -> tuple[float, ...]:
    """The counts of an answer of the same length without a right word."""
    return (*[0.0] * ORDERS, *row[ORDERS:])


@given(st.integers(0, 9))
def test_the_counts_of_a_text_against_itself_follow_from_its_words(words: int) -> None:
    text = " ".join(["a", "b", "c", "d", "e", "f", "g", "h", "i"][:words])
    assert own_statistics(words) == segment_statistics(text, text)
    assert wrong(own_statistics(words)) == segment_statistics(" ".join("z" * words), text)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.floats(0.1, 50)), min_size=1, max_size=12),
    st.sampled_from(["exp", "floor", "add-k", "none"]),
    st.integers(0, 9),
    st.data(),
)
def test_no_loss_hides_more_than_is_said(
    texts: list[tuple[int, float]], smoothing: str, wrong_before: int, data: st.DataObject
) -> None:
    """Whichever of the short answers are lost, beside a long one that was not all right before."""
    words = {f"i{index}": text for index, text in enumerate([*texts, (40, 40.0)])}
    short = [item for item, (count, _) in words.items() if count < ORDERS]
    rows = {item: np.array(own_statistics(count)) for item, (count, _) in words.items()}
    rows[[*words][-1]][:ORDERS] -= wrong_before
    gone = [item for item in short if data.draw(st.booleans())]
    before = corpus_bleu([*rows.values()], smoothing)
    shown = before - corpus_bleu([wrong(row) if item in gone else row for item, row in rows.items()], smoothing)
    lost = 100 * sum(words[item][1] for item in gone) / sum(weight for _, weight in words.values())
    hidden = bleu_ceiling(words, smoothing).hidden([*words], before)
    assert lost <= shown + hidden.extent(shown) + 1e-6


def test_what_hides_most_for_what_it_shows_comes_first() -> None:
    """A word that was a Chinese sentence hides far more than the words of short answers beside it."""
    words = {f"c{i}": (1, 31.0) for i in range(30)} | {f"s{i}": (3, 3.0) for i in range(60)}
    words |= {f"l{i}": (30, 31.5) for i in range(60)}
    verdict = judged_bleu(words, [item for item in words if item.startswith("c")])
    assert verdict.status is Status.INCONCLUSIVE
    assert "loss 0.37" in verdict.explanation
    assert "90 of 150 items cannot be seen" in verdict.explanation
    assert judged_bleu(words, []).status is Status.PASS


def test_bleu_is_concave_in_what_is_lost() -> None:
    """What a small loss shows is less than its part of what the whole would show."""
    words = {f"s{i}": (3, 3.0) for i in range(300)} | {f"l{i}": (4, 4.0) for i in range(5)}
    short = list(words)[:300]
    gone = short[:20]
    old = {item: own_statistics(count) for item, (count, _) in words.items()}
    new = {item: wrong(row) if item in gone else row for item, row in old.items()}
    shown = corpus_bleu(list(old.values())) - corpus_bleu(list(new.values()))
    lost = 100 * 20 * 3 / (300 * 3 + 5 * 4)
    extent = bleu_ceiling(words).hidden(list(words), 100.0).extent(shown)
    assert lost - shown <= extent
    assert extent < 2 * (lost - shown)


@pytest.mark.parametrize("smoothing", ["exp", "add-k"])
def test_no_smoothing_makes_a_long_corpus_see_its_short_answers(smoothing: str) -> None:
    words = {f"s{i}": (3, 3.0) for i in range(60)} | {f"l{i}": (30, 30.0) for i in range(60)}
    verdict = judged_bleu(words, list(words)[:60], smoothing)
    assert verdict.status is Status.INCONCLUSIVE
    assert "60 of 120 items cannot be seen" in verdict.explanation
    assert judged_bleu(words, [], smoothing).status is Status.PASS


@pytest.mark.parametrize(("lost", "status"), [(0, "PASS"), (60, "FAIL")])
def test_smoothed_short_answers_alone_are_seen(lost: int, status: str) -> None:
    words = {f"s{i}": (3, 3.0) for i in range(60)}
    assert judged_bleu(words, list(words)[:lost], "add-k").status.value == status


@pytest.mark.parametrize("weight", [math.nan, -1.0, math.inf])
def test_weights_that_say_nothing_leave_everything_hidden(weight: float) -> None:
    words = {"s": (1, weight)} | {f"l{i}": (30, 30.0) for i in range(60)}
    assert judged_bleu(words, []).status is Status.INCONCLUSIVE


def test_a_long_text_that_bleu_takes_for_one_word_is_hidden_by_its_length() -> None:
    words = {f"i{index}": (6, 6.0) for index in range(20)}
    few = bleu_ceiling({**words, "x": (1, 1.0)}).hidden([*words, "x"], 100.0)
    much = bleu_ceiling({**words, "x": (1, 120.0)}).hidden([*words, "x"], 100.0)
    assert few.extent(100.0) < 1
    assert much.extent(100.0) == pytest.approx(50, abs=1)
    assert much.extent(0.0) == 0, "where nothing is shown lost, the word is right"
    assert not much.everything


def test_short_answers_alone_are_not_seen_by_bleu() -> None:
    hidden = bleu_ceiling({f"i{index}": (3, 3.0) for index in range(20)}).hidden(["i0", "i1"], 100.0)
    assert hidden.everything
    assert "2 of 2 items" in hidden.reason
