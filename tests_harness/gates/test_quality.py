from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from enginegate.gates.items import ratio_of_sums
from enginegate.gates.quality import QualityPolicy, judge_corpus, judge_flips, judge_lengths, judge_nll
from enginegate.gates.verdict import Status
from numpy.typing import NDArray
from scipy import stats

POLICY = QualityPolicy(margin=0.01, tolerated=0.03, resamples=400)


def mean_score(statistics: NDArray[np.float64]) -> float:
    return float(statistics[:, 0].mean())


def pooled_ratio(statistics: NDArray[np.float64]) -> float:
    """A corpus score like BLEU's: sums first, then a ratio."""
    return float(statistics[:, 0].sum() / statistics[:, 1].sum())


def scores(count: int, loss: float, seed: int = 0) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    generator = np.random.default_rng(seed)
    before = generator.beta(4, 3, count)
    after = before - loss + generator.normal(0, 0.03, count)
    return {str(i): [after[i]] for i in range(count)}, {str(i): [before[i]] for i in range(count)}


def test_answers_as_good_as_rounding_leaves_them_are_no_loss() -> None:
    """An accepted engine that equals the reference scores 1; a second unquantized one less, and so does the new."""
    accepted = {str(i): [1.0] for i in range(60)}
    new, rounded = scores(60, 0.0)
    assert judge_corpus(new, accepted, mean_score, POLICY).status is Status.FAIL
    verdict = judge_corpus(new, accepted, mean_score, POLICY, unquantized=rounded)
    assert verdict.status is Status.PASS
    assert "an unquantized engine" in verdict.explanation
    worse, _ = scores(60, 0.2)
    assert judge_corpus(worse, accepted, mean_score, POLICY, unquantized=rounded).status is Status.FAIL
    better = {item: [0.99] for item in accepted}
    lower = judge_corpus(new, rounded, mean_score, POLICY, unquantized=better)
    assert lower == judge_corpus(new, rounded, mean_score, POLICY), "a better one takes nobody's place"
    part = judge_corpus(new, accepted, mean_score, POLICY, unquantized={"0": [0.5]})
    assert part.status is Status.FAIL, "one that lacks items takes nobody's place"


@pytest.mark.parametrize(("loss", "status"), [(0.0, Status.PASS), (0.02, Status.INCONCLUSIVE), (0.06, Status.FAIL)])
def test_a_corpus_score_is_judged_by_its_paired_difference(loss: float, status: Status) -> None:
    verdict = judge_corpus(*scores(60, loss), mean_score, QualityPolicy(margin=0.015, tolerated=0.02), metric="rougeL")
    assert verdict.status is status
    assert verdict.metric == "rougeL"
    assert verdict.samples == 60


def test_the_bootstrap_error_of_a_mean_is_its_standard_error() -> None:
    now, before = scores(80, 0.02)
    policy = QualityPolicy(margin=0.0, tolerated=0.5, resamples=4000)
    verdict = judge_corpus(now, before, mean_score, policy)
    differences = np.array([before[item][0] - now[item][0] for item in now])
    expected = (stats.t.isf(0.01, 79) + stats.norm.isf(0.2)) * stats.sem(differences)
    assert verdict.smallest_visible == pytest.approx(expected, rel=0.06)


def test_pairing_sees_what_the_scores_alone_do_not() -> None:
    now, before = scores(100, 0.03)
    assert judge_corpus(now, before, mean_score, QualityPolicy(margin=0.01, tolerated=0.02)).status is Status.FAIL
    unpaired = stats.ttest_ind([value[0] for value in now.values()], [value[0] for value in before.values()])
    assert unpaired.pvalue > 0.05


def test_false_alarms_and_power_of_the_corpus_gate() -> None:
    count = 400
    fails = [
        sum(judge_corpus(*scores(60, loss, seed), mean_score, POLICY).status is Status.FAIL for seed in range(count))
        for loss in (POLICY.margin, 0.03)
    ]
    assert stats.binomtest(fails[0], count, 0.02, alternative="greater").pvalue > 1e-4
    assert stats.binomtest(fails[1], count, 0.90, alternative="less").pvalue > 1e-4


def test_a_ratio_of_sums_score_is_resampled_whole() -> None:
    generator = np.random.default_rng(3)
    totals = generator.integers(5, 60, 80).astype(float)
    hits = np.floor(totals * generator.uniform(0.4, 0.7, 80))
    before = {str(i): [hits[i], totals[i]] for i in range(80)}
    verdict = judge_corpus(before, before, pooled_ratio, POLICY)
    assert verdict.status is Status.PASS
    assert verdict.estimate == pytest.approx(hits.sum() / totals.sum())
    ratio, error = ratio_of_sums(hits, totals)
    assert verdict.interval[0] == pytest.approx(ratio - stats.t.isf(0.025, 79) * error, abs=0.01)


def test_the_bootstrap_is_seeded() -> None:
    first, second = (judge_corpus(*scores(40, 0.02), mean_score, POLICY) for _ in range(2))
    assert first == second
    other = judge_corpus(*scores(40, 0.02), mean_score, QualityPolicy(resamples=400, seed=1))
    assert other.smallest_visible != first.smallest_visible


def documents(count: int, worse: float, seed: int = 0) -> tuple[dict[str, tuple[float, float]], ...]:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(50, 400, count).astype(float)
    before = generator.normal(3.0, 0.3, count)
    after = before + worse + generator.normal(0, 0.01, count)
    return (
        {str(i): (after[i] * tokens[i], tokens[i]) for i in range(count)},
        {str(i): (before[i] * tokens[i], tokens[i]) for i in range(count)},
    )


def test_perplexity_is_judged_by_its_paired_ratio() -> None:
    policy = QualityPolicy(margin=0.005, tolerated=0.02)
    worse = judge_nll(*documents(64, np.log(1.03)), policy)
    assert worse.status is Status.FAIL
    assert worse.change == pytest.approx(0.03, abs=0.01)
    assert worse.unit == "ppl"
    assert judge_nll(*documents(64, 0.0), policy).status is Status.PASS
    close = QualityPolicy(margin=0.011, tolerated=0.013)
    assert judge_nll(*documents(24, np.log(1.012)), close).status is Status.INCONCLUSIVE


def test_a_rounding_error_is_told_as_no_loss() -> None:
    _, before = documents(64, 0.0)
    after = {name: (nll * (1 - 1e-12), tokens) for name, (nll, tokens) in before.items()}
    verdict = judge_nll(after, before, QualityPolicy())
    assert "loss 0.00 %, between 0.00 % and 0.00 %" in verdict.explanation


def test_false_alarms_and_power_of_the_perplexity_gate() -> None:
    policy, count = QualityPolicy(margin=0.005, tolerated=0.02), 1500
    fails = [
        sum(judge_nll(*documents(64, worse, seed), policy).status is Status.FAIL for seed in range(count))
        for worse in (np.log1p(policy.margin), np.log(1.015))
    ]
    assert stats.binomtest(fails[0], count, 0.01, alternative="greater").pvalue > 1e-4
    assert stats.binomtest(fails[1], count, 0.95, alternative="less").pvalue > 1e-4


def test_a_limit_on_perplexity_stands_in_for_a_baseline() -> None:
    now, reference = documents(64, np.log(1.1))
    policy = QualityPolicy()
    fine = judge_nll(now, None, policy, reference=reference, limit=1.3)
    assert fine.status is Status.PASS
    assert "reference" in fine.explanation
    assert judge_nll(now, None, policy, reference=reference, limit=1.05).status is Status.FAIL
    assert judge_nll(now, None, policy).status is Status.NO_BASELINE


def test_other_token_counts_fail_because_the_scoring_changed() -> None:
    now, before = documents(64, 0.0)
    verdict = judge_nll(now | {"3": (now["3"][0], now["3"][1] - 1)}, before, POLICY)
    assert verdict.status is Status.FAIL
    assert "token counts of the same document differ" in verdict.explanation


@pytest.mark.parametrize("bad", [(float("nan"), 10.0), (3.0, 0.0), (-1.0, 10.0), (float("inf"), 10.0)])
def test_a_likelihood_that_cannot_be_fails(bad: tuple[float, float]) -> None:
    now, before = documents(30, 0.0)
    assert judge_nll(now | {"3": bad}, before, POLICY).status is Status.FAIL
    assert judge_nll(now, before | {"3": bad}, POLICY).status is Status.FAIL


def answers(count: int, changed: int) -> tuple[dict[str, object], dict[str, object]]:
    before: dict[str, object] = {str(i): "ABCD"[i % 4] for i in range(count)}
    return before | {str(i): "E" for i in range(changed)}, before


@pytest.mark.parametrize(("changed", "status"), [(20, Status.PASS), (50, Status.INCONCLUSIVE), (90, Status.FAIL)])
def test_flips_are_judged_exactly(changed: int, status: Status) -> None:
    verdict = judge_flips(*answers(1000, changed), POLICY, limit=0.05)
    assert verdict.status is status
    assert verdict.estimate == changed / 1000
    oracle = stats.binomtest(changed, 1000, 0.05, alternative="greater").pvalue
    assert (status is Status.FAIL) == (oracle <= POLICY.alpha)


@pytest.mark.parametrize(("length", "status"), [(60.0, Status.PASS), (50.0, Status.PASS), (40.0, Status.FAIL)])
def test_shorter_output_is_no_speedup(length: float, status: Status) -> None:
    generator = np.random.default_rng(0)
    before = {str(i): float(value) for i, value in enumerate(generator.integers(40, 60, 60))}
    now = {item: value * length / 50.0 for item, value in before.items()}
    verdict = judge_lengths(now, before, POLICY)
    assert verdict.status is status
    assert verdict.estimate == pytest.approx(length / 50.0)


def test_nothing_produced_fails() -> None:
    before = {str(i): 10.0 for i in range(40)}
    for now in ({}, dict.fromkeys(before, 0.0), before | {"3": float("nan")}, before | {"3": -1.0}):
        assert judge_lengths(now, before, POLICY).status is Status.FAIL


@pytest.mark.parametrize("count", [1, 19])
def test_a_handful_of_items_decides_nothing(count: int) -> None:
    now, before = scores(count, 0.5)
    assert judge_corpus(now, before, mean_score, POLICY).status is Status.INCONCLUSIVE
    assert judge_nll(*documents(count, 0.5), POLICY).status is Status.INCONCLUSIVE
    assert judge_flips(*answers(count, count), POLICY, limit=0.05).status is Status.INCONCLUSIVE
    lengths = {str(i): 10.0 for i in range(count)}
    assert judge_lengths(lengths, lengths, POLICY).status is Status.INCONCLUSIVE


def _corpus(now: dict[str, list[float]], before: dict[str, list[float]] | None) -> Status:
    return judge_corpus(now, before, mean_score, POLICY).status


@pytest.mark.parametrize(
    "judge",
    [
        lambda now, before: _corpus(now, before),
        lambda now, before: judge_flips(now, before, POLICY, limit=0.1).status,
    ],
)
def test_holes_fail_closed(judge: Callable[[object, object], Status]) -> None:
    now, before = scores(40, 0.0)
    assert judge({}, before) is Status.FAIL
    assert judge(now, {}) is Status.FAIL
    assert judge(now, None) is Status.NO_BASELINE


def test_statistics_that_cannot_be_compared_fail() -> None:
    now, before = scores(40, 0.0)
    assert _corpus(now | {"3": [float("nan")]}, before) is Status.FAIL
    assert _corpus(now, before | {"3": [float("nan")]}) is Status.FAIL
    assert _corpus(now, {item: [*value, 1.0] for item, value in before.items()}) is Status.FAIL
    assert judge_corpus(now, before, lambda _: float("nan"), POLICY).status is Status.FAIL
