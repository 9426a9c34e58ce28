from __future__ import annotations

import re
from dataclasses import asdict

import numpy as np
import pytest
from enginegate.core.errors import BaselineError
from enginegate.gates.sequential import FAILED, PASSED, SpeedPolicy, decide_many, restore_policy
from enginegate.gates.sessions import Anchor, Baseline, Floor, Known, anchor_of
from enginegate.gates.speed import judge_speed, replay_speed
from enginegate.gates.verdict import Status, Verdict
from hypothesis import given
from hypothesis import strategies as st

POLICY = SpeedPolicy()
SAID_SHIFT = re.compile(r"%, more than the 3 % margin \(a session by itself is taken to shift it by about (\S+) %\)$")


def blocks(ratio: float, noise: float = 0.01, count: int = 40, seed: int = 0) -> list[float]:
    return list(np.log(ratio) + np.random.default_rng(seed).normal(0.0, noise, count))


def sessions(ratio: float, count: int, noise: float = 0.01) -> Baseline:
    return Baseline(tuple(tuple(blocks(ratio, noise, seed=100 + number)) for number in range(count)))


def judged(samples: list[float], against: Baseline | Floor | Known | None, **options: object) -> Verdict:
    verdict = judge_speed(samples, against, POLICY, final=True, **options)  # type: ignore[arg-type]
    assert verdict is not None
    return verdict


#: As an arena of four runs two of them.
TURNS = [1, -1, -1, 1] * 10


def turned(samples: list[float], effect: float) -> list[float]:
    """The samples with an order effect."""
    return [value + effect * turn for value, turn in zip(samples, TURNS, strict=True)]


def test_an_order_effect_is_taken_out_of_this_session_and_of_the_stored_ones_by_the_recorded_order() -> None:
    """By the parity of the block it was taken for noise: the interval was seven times as wide."""
    plain = sessions(2.48, 3)
    uneven = tuple(tuple(turned(list(session), 0.08)) for session in plain.sessions)
    orders = (tuple(TURNS),) * 3
    there = judged(blocks(2.45), plain, order=TURNS)
    told = judged(turned(blocks(2.45), 0.08), Baseline(uneven, orders), order=TURNS)
    for name in ("estimate", "change", "smallest_visible"):
        assert getattr(told, name) == pytest.approx(getattr(there, name), rel=0.05)
    assert told.status is Status.PASS
    assert "the order within a block moves the ratio by 7.9%" in " ".join(told.warnings)
    guessed = judged(turned(blocks(2.45), 0.08), Baseline(uneven))
    assert guessed.interval[1] - guessed.interval[0] > 5 * (told.interval[1] - told.interval[0])
    here, stored = (anchor_of(Baseline(uneven, ran), POLICY.shift) for ran in (orders, ()))
    assert float(stored.error) > 4 * float(here.error)


def test_sessions_that_keep_no_order_stand_beside_those_that_do() -> None:
    old, new = sessions(2.48, 2).sessions
    alternating = tuple([1, -1] * 20)
    mixed = Baseline((old, tuple(turned(list(new), 0.08))), ((), tuple(TURNS)))
    whole = Baseline((old, tuple(turned(list(new), 0.08))), (alternating, tuple(TURNS)))
    assert anchor_of(mixed, POLICY.shift) == anchor_of(whole, POLICY.shift)


@pytest.mark.parametrize("orders", [((1, -1),), ((1, -1) * 20, (1,) * 39), ((1, -1) * 20, (1, 0) * 20)])
def test_an_order_that_does_not_fit_its_session_is_refused(orders: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(BaselineError, match="order"):
        Baseline(sessions(2.48, 2).sessions, orders)


def test_one_order_alone_is_said() -> None:
    verdict = judged(blocks(2.45), Known(2.45), order=[1] * 40)
    assert any("in one order in every block" in warning for warning in verdict.warnings)
    assert not any("in one order" in warning for warning in judged(blocks(2.45), Known(2.45), order=TURNS).warnings)


def test_replaying_gives_each_look_the_order_of_its_own_blocks() -> None:
    samples = turned(blocks(2.0, 0.002), 0.05)
    replayed = replay_speed(samples, Known(2.0), POLICY, order=TURNS)
    assert (replayed.status, replayed.samples) == (Status.PASS, 6)
    assert replay_speed(samples, Known(2.0), POLICY).samples > 6


def test_a_policy_that_was_stored_with_fields_it_no_longer_has_is_read() -> None:
    assert restore_policy(asdict(POLICY) | {"confidence": 0.95, "seed": 0}) == POLICY


def test_the_explanation_says_it_all() -> None:
    verdict = judged(blocks(2.25), sessions(2.48, 5), subject="int8_wo b8", reference="hf-bf16")
    assert verdict.status is Status.FAIL
    assert not verdict
    assert verdict.baseline == pytest.approx(2.48, rel=0.01)
    assert verdict.change == pytest.approx(2.48 / 2.25 - 1, abs=0.01)
    assert verdict.explanation.startswith("int8_wo b8: 2.2")
    assert " over hf-bf16, baseline 2.4" in verdict.explanation
    assert SAID_SHIFT.search(verdict.explanation)


def test_a_failure_says_how_far_a_session_alone_is_taken_to_shift_the_ratio() -> None:
    def shift(against: Baseline) -> float:
        verdict = judged(blocks(1.5), against)
        assert verdict.status is Status.FAIL
        found = SAID_SHIFT.search(verdict.explanation)
        assert found
        return float(found[1])

    # One stored session shows nothing: the belief of 0.7 %, for either of the two. Ten that agree show less, and
    # two that differ by 8 % more.
    assert shift(sessions(2.48, 1)) == pytest.approx(0.7 * 2**0.5, rel=0.02)
    assert shift(sessions(2.48, 10)) < 0.7
    assert shift(Baseline((*sessions(2.48, 1).sessions, *sessions(2.68, 1).sessions))) > 3
    assert judged(blocks(1.5), Known(2.48)).explanation.endswith("% margin")


@pytest.mark.parametrize(
    ("ratio", "against", "status"),
    [
        (2.5, sessions(2.5, 3), Status.PASS),
        (2.1, sessions(2.5, 3), Status.FAIL),
        (3.0, sessions(2.5, 3), Status.PASS),
        (1.0, Known(), Status.PASS),
        (0.9, Known(), Status.FAIL),
        (1.6, Floor(1.5), Status.PASS),
        (1.4, Floor(1.5), Status.FAIL),
        (1.5, Floor(1.5), Status.INCONCLUSIVE),
        (2.0, None, Status.NO_BASELINE),
    ],
)
def test_what_is_clear_is_called(ratio: float, against: Baseline | Floor | Known | None, status: Status) -> None:
    assert judged(blocks(ratio), against).status is status


def test_a_floor_has_no_margin_and_says_so() -> None:
    verdict = judged(blocks(1.4), Floor(1.5))
    assert verdict.margin == 0.0
    assert "below the floor of 1.50x" in verdict.explanation
    undecided = judged(blocks(1.5), Floor(1.5))
    assert "not shown to be above or below the floor of 1.50x; undecided: after 40 blocks the ratio lies" in (
        undecided.explanation
    )


def test_one_stored_session_is_no_false_certainty() -> None:
    """9 % slower and hardly any noise: ten sessions show it, one leaves room for the shift of its own session."""
    slower = blocks(2.5 / 1.07, noise=0.003)
    one, ten = judged(slower, sessions(2.5, 1, noise=0.003)), judged(slower, sessions(2.5, 10, noise=0.003))
    assert ten.status is Status.FAIL
    assert one.status is Status.INCONCLUSIVE
    assert one.smallest_visible is not None
    assert ten.smallest_visible is not None
    assert one.smallest_visible > 1.3 * ten.smallest_visible
    assert f"the smallest slowdown it could have seen is {100 * one.smallest_visible:.1f} %" in one.explanation


def test_sessions_that_disagree_widen_the_test() -> None:
    spread = Baseline(tuple(tuple(blocks(ratio, 0.003)) for ratio in (2.3, 2.5, 2.7)))
    slower = blocks(2.5 / 1.09, noise=0.003)
    assert judged(slower, sessions(2.5, 3, noise=0.003)).status is Status.FAIL
    assert judged(slower, spread).status is Status.INCONCLUSIVE


def test_nothing_is_decided_between_looks() -> None:
    clear = blocks(1.0, noise=0.001)
    assert judge_speed(clear[:5], Known(), POLICY, final=False) is None
    assert judge_speed(clear[:7], Known(), POLICY, final=False) is None
    first = judge_speed(clear[:6], Known(), POLICY, final=False)
    assert first is not None
    assert first.status is Status.PASS
    assert first.samples == 6


def test_noise_that_hides_the_answer_is_inconclusive_only_when_no_more_blocks_come() -> None:
    noisy = blocks(1.0 / 1.05, noise=0.2)
    assert judge_speed(noisy[:6], Known(), POLICY, final=False) is None
    last = judge_speed(noisy, Known(), POLICY, final=False)
    assert last is not None
    assert last.status is Status.INCONCLUSIVE
    assert "after 40 blocks the slowdown lies between" in last.explanation


def test_without_a_baseline_the_first_look_reports_the_ratio() -> None:
    verdict = judge_speed(blocks(2.0)[:6], None, POLICY, final=False)
    assert verdict is not None
    assert verdict.status is Status.NO_BASELINE
    assert verdict.interval[0] < 2.0 < verdict.interval[1]
    assert verdict.baseline is None
    assert verdict.change is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_sample_that_is_no_number_fails_at_once(bad: float) -> None:
    verdict = judge_speed([*blocks(1.0)[:7], bad], Known(), POLICY, final=False)
    assert verdict is not None
    assert verdict.status is Status.FAIL
    assert "samples unusable: 1 of 8 samples are not positive finite times" in verdict.explanation


def test_no_samples_fail() -> None:
    assert judge_speed([], Known(), POLICY, final=False) is None
    verdict = judged([], Known(), subject="int8_wo b1")
    assert verdict.status is Status.FAIL
    assert verdict.explanation == "int8_wo b1: samples unusable: no samples were collected"


def test_too_few_blocks_decide_nothing() -> None:
    verdict = judged(blocks(0.5, count=3), Known())
    assert verdict.status is Status.INCONCLUSIVE
    assert "only 3 blocks" in verdict.explanation


def test_too_few_blocks_without_a_baseline_are_not_called_undecided() -> None:
    verdict = judged(blocks(0.5, count=3), None)
    assert verdict.status is Status.NO_BASELINE
    assert "there is no baseline to compare with; only 3 blocks, fewer than the 4" in verdict.explanation
    assert "undecided" not in verdict.explanation


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_spoiled_samples_decide_nothing(ratio: float) -> None:
    reason = "the clock was throttled in 9 of 40 blocks"
    verdict = judged(blocks(ratio), Known(), invalid=reason)
    assert verdict.status is Status.INCONCLUSIVE
    assert reason in verdict.explanation
    assert judge_speed(blocks(ratio)[:6], Known(), POLICY, final=False, invalid=reason) is None
    assert reason in judged(blocks(ratio), None, invalid=reason).warnings


def test_warnings_are_data() -> None:
    drifting = np.cumsum(np.random.default_rng(0).normal(0, 0.002, 40))
    verdict = judged(list(drifting), Known(), warnings=["another process used 12 % of the CPU"])
    assert verdict.warnings[0] == "another process used 12 % of the CPU"
    assert any("correlated" in warning for warning in verdict.warnings)
    ordered = np.array(blocks(1.0, 0.005)) + np.where(np.arange(40) % 2 == 0, 0.05, -0.05)
    assert any("order within a block" in warning for warning in judged(list(ordered), Known()).warnings)


def test_blocks_that_only_drift_are_no_sample() -> None:
    ramp = list(np.linspace(-0.2, 0.2, 40) + 0.0001 * np.sin(np.arange(40.0) ** 2))
    verdict = judged(ramp, Known())
    assert verdict.status is Status.INCONCLUSIVE
    assert "the blocks are too correlated" in verdict.explanation


@given(st.integers(0, 500), st.sampled_from([0.0, 0.03, 0.05, 0.1]), st.sampled_from([0.01, 0.03, 0.1]))
def test_the_replay_is_the_live_run_and_the_simulated_one(seed: int, slowdown: float, noise: float) -> None:
    samples = blocks(1.0 / (1.0 + slowdown), noise, seed=seed)
    live = next(
        verdict
        for look in POLICY.looks
        if (verdict := judge_speed(samples[:look], Known(), POLICY, final=False)) is not None
    )
    replayed = replay_speed(samples, Known(), POLICY)
    assert replayed == live
    simulated = decide_many(np.array([samples]), Anchor(0.0), POLICY)
    expected = {Status.FAIL: FAILED, Status.PASS: PASSED, Status.INCONCLUSIVE: 0}[live.status]
    assert (simulated.status[0], simulated.blocks[0]) == (expected, live.samples)


def test_a_replay_of_an_arena_cut_short_ends_with_its_last_block() -> None:
    samples = blocks(1.0 / 1.05, 0.05, count=13)
    assert replay_speed(samples, Known(), POLICY) == judge_speed(samples, Known(), POLICY, final=True)


@given(st.integers(0, 200), st.floats(-2.0, 2.0))
def test_a_factor_common_to_the_baseline_and_the_session_changes_no_status(seed: int, factor: float) -> None:
    old = [blocks(1.0, 0.01, seed=seed + number) for number in range(3)]
    new = blocks(1.0 / 1.05, 0.01, seed=seed + 9)
    here = judged(new, Baseline(tuple(map(tuple, old))))
    there = judged(
        [value + factor for value in new], Baseline(tuple(tuple(value + factor for value in part) for part in old))
    )
    assert here.status is there.status
    assert here.change == pytest.approx(there.change, abs=1e-9)


def test_the_order_of_the_stored_sessions_does_not_matter() -> None:
    old = sessions(2.0, 4)
    backwards = Baseline(old.sessions[::-1])
    samples = blocks(1.9)
    assert judged(samples, old).change == pytest.approx(judged(samples, backwards).change, abs=1e-12)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ((), "holds no session"),
        (((0.1, 0.2, 0.3),), "session 1 of the baseline has 3 blocks"),
        (((0.1,) * 6, (0.1, 0.2, 0.3, float("nan"))), "session 2 of the baseline holds a sample"),
    ],
)
def test_a_damaged_baseline_is_refused_with_a_hint(stored: tuple[tuple[float, ...], ...], words: str) -> None:
    with pytest.raises(BaselineError, match=words) as caught:
        Baseline(stored)
    assert caught.value.hint


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_floor_that_is_no_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(BaselineError, match="is not a ratio"):
        Floor(ratio)


def test_blocks_without_any_noise_are_judged() -> None:
    assert judged([0.0] * 6, Known()).status is Status.PASS
    assert judged([-0.5] * 6, Known()).status is Status.FAIL
