"""The gate of KL divergence: what it sees, and what it must not cry about."""

import numpy as np
import pytest
from enginegate.gates.divergence import judge_divergence
from enginegate.gates.items import QualityPolicy
from enginegate.gates.verdict import Status

POLICY = QualityPolicy(alpha=0.001, beta=0.05, margin=0.03, tolerated=0.10)
Items = dict[str, tuple[float, float]]


def documents(kld: float, spread: float = 0.1, seed: int = 0, count: int = 68, shared: int = 1) -> Items:
    """Documents of 121 tokens; their divergences share most of what makes them differ, as those of two engines do."""
    common = np.random.default_rng(shared).normal(0, 0.3, count)
    own = np.random.default_rng(seed).normal(0, spread, count)
    values = kld * np.exp(common + own)
    return {f"{n:04x}": (121 * float(value), 121.0) for n, value in enumerate(values)}


def mean(items: Items) -> float:
    return sum(kld for kld, _ in items.values()) / sum(tokens for _, tokens in items.values())


def test_the_same_figures_pass_and_say_what_would_have_been_seen() -> None:
    verdict = judge_divergence(documents(0.519), documents(0.519), POLICY, floor=0.0012)
    assert verdict.status is Status.PASS
    assert "8,228 tokens in 68 documents show 0.0" in verdict.explanation


def test_a_coarser_group_is_seen() -> None:
    """int4 at group 64 and at 128, as they were measured on SmolLM2: 0.519 and 0.607."""
    worse = documents(0.607, seed=1)
    assert judge_divergence(worse, documents(0.519), POLICY, floor=0.0012).status is Status.FAIL


@pytest.mark.parametrize(("before", "now"), [(1e-13, 0.00119), (0.00119, 1e-13), (0.0033, 0.0044)])
def test_what_rounding_does_is_no_failure(before: float, now: float) -> None:
    """Up to what a second unquantized engine does beside the reference."""
    verdict = judge_divergence(documents(now), documents(before), POLICY, floor=mean(documents(0.00119)))
    assert verdict.status is Status.PASS, verdict.explanation


def test_bf16_in_place_of_int8_is_better_and_passes_and_the_other_way_round_fails() -> None:
    half, quarter = documents(0.00119), documents(0.00334, seed=3)
    assert judge_divergence(half, quarter, POLICY, floor=0.0012).status is Status.PASS
    assert judge_divergence(quarter, half, POLICY, floor=0.0005).status is Status.FAIL


def test_false_alarms_are_as_rare_as_alpha_says() -> None:
    """Engines that differ by what documents differ by, and by the margin in the mean: the least favourable case."""
    policy = QualityPolicy(alpha=0.05, beta=0.05, margin=0.03, tolerated=0.10)
    fails = 0
    for seed in range(400):
        before = documents(0.5, 0.05, seed=2 * seed, shared=seed)
        now = {
            key: (value * 1.03 * np.exp(np.random.default_rng([seed, n]).normal(0, 0.05)), tokens)
            for n, (key, (value, tokens)) in enumerate(before.items())
        }
        fails += judge_divergence(now, before, policy).status is Status.FAIL
    assert fails <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_a_limit_stands_in_where_nothing_was_accepted() -> None:
    assert judge_divergence(documents(0.02), None, POLICY, limit=0.05).status is Status.PASS
    assert judge_divergence(documents(0.09), None, POLICY, limit=0.05).status is Status.FAIL
    assert judge_divergence(documents(0.05), None, POLICY, limit=0.05).status is Status.INCONCLUSIVE
    assert judge_divergence(documents(0.02), None, POLICY).status is Status.NO_BASELINE


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({}, "no documents"),
        ({"a": (float("nan"), 10.0)}, "non-finite"),
        ({"a": (float("inf"), 10.0)}, "non-finite"),
        ({"a": (-1.0, 10.0)}, "negative"),
        ({"a": (1.0, 0.0)}, "no tokens"),
    ],
)
def test_what_cannot_be_used_fails(candidate: Items, said: str) -> None:
    verdict = judge_divergence(candidate, documents(0.1), POLICY)
    assert verdict.status is Status.FAIL
    assert said in verdict.explanation


def test_other_documents_or_tokens_fail_and_too_few_decide_nothing() -> None:
    known = documents(0.1)
    assert judge_divergence({"zz": (1.0, 10.0)}, known, POLICY).status is Status.FAIL
    cut = {key: (kld, tokens - 1) for key, (kld, tokens) in known.items()}
    assert "token counts" in judge_divergence(cut, known, POLICY).explanation
    few = dict(list(documents(0.5, seed=4).items())[:10])
    verdict = judge_divergence(few, known, POLICY)
    assert verdict.status is Status.INCONCLUSIVE
    assert judge_divergence(known, known, POLICY, floor=float("nan")).status is Status.FAIL
