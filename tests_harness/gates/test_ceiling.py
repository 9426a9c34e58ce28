"""What a corpus score cannot see is not taken for unchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enginegate.gates.ceiling import Ceiling, OwnText
from enginegate.gates.quality import QualityPolicy, judge_corpus
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import corpus_bleu, lost_statistics, own_statistics, segment_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = QualityPolicy(margin=0.01, tolerated=0.06, resamples=200)
REMEDY = "set what mends it"


def mean(statistics: np.ndarray) -> float:
    return float(np.mean(statistics))


def rouge_ceiling(blind: int, count: int) -> Ceiling:
    values = {f"i{index}": 0.0 if index < blind else 1.0 for index in range(count)}
    return Ceiling({item: OwnText(value, 1.0, [value], [0.0]) for item, value in values.items()}, 1.0, REMEDY)


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
    items = {f"i{index}": OwnText(ceiling, 1.0, [1.0], [0.0]) for index in range(30)}
    old = {item: [0.0] for item in items}
    assert judge_corpus(old, old, mean, POLICY, ceiling=Ceiling(items, 1.0, REMEDY)).status is Status.INCONCLUSIVE


def test_items_without_a_ceiling_decide_nothing() -> None:
    verdict = rouge(0, 30, ceiling=rouge_ceiling(0, 29))
    assert verdict.status is Status.INCONCLUSIVE
    assert "not known" in verdict.explanation


def test_without_ceilings_the_verdict_is_what_it_was() -> None:
    old = {f"i{index}": [0.0] for index in range(30)}
    assert judge_corpus(old, old, mean, POLICY).status is Status.PASS


def bleu_ceiling(texts: dict[str, tuple[str, float]]) -> Ceiling:
    """``texts``: each with its weight."""
    items = {}
    for item, (text, weight) in texts.items():
        words = segment_statistics(text, text)[-1]
        own = own_statistics(words)
        items[item] = OwnText(corpus_bleu([own]), weight, own, lost_statistics(words))
    return Ceiling(items, 100.0, REMEDY)


@given(st.integers(0, 9))
def test_the_counts_of_a_text_against_itself_follow_from_its_words(words: int) -> None:
    text = " ".join(["a", "b", "c", "d", "e", "f", "g", "h", "i"][:words])
    assert own_statistics(words) == segment_statistics(text, text)
    other = " ".join("z" * words)
    assert lost_statistics(words) == segment_statistics(other, text)


def test_a_long_text_that_bleu_takes_for_one_word_is_hidden_by_its_length() -> None:
    texts = {f"i{index}": ("one two three four five six", 6.0) for index in range(20)}
    few = bleu_ceiling({**texts, "x": ("word", 1.0)}).hidden([*texts, "x"], corpus_bleu)
    much = bleu_ceiling({**texts, "x": ("word", 120.0)}).hidden([*texts, "x"], corpus_bleu)
    assert few.extent(100.0) < 1
    assert much.extent(100.0) == pytest.approx(50, abs=1)
    assert much.extent(0.0) == 0, "where nothing is shown lost, the word is right"
    assert not much.everything


def test_short_answers_alone_are_not_seen_by_bleu() -> None:
    hidden = bleu_ceiling({f"i{index}": ("yes it is", 3.0) for index in range(20)}).hidden(["i0", "i1"], corpus_bleu)
    assert hidden.everything
    assert "2 of 2 items" in hidden.reason
