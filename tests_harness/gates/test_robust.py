from __future__ import annotations

import numpy as np
import pytest
from enginegate.gates.robust import TRIM, lag_one, locate, trimmed_mean, without_order_effect
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

finite = st.floats(-1.0, 1.0, allow_nan=False)
series = st.lists(finite, min_size=2, max_size=30).map(lambda values: np.array(values + values[::-1]))
seconds = st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=40)


@given(series, st.floats(-1.0, 1.0))
def test_a_common_factor_moves_the_location_and_not_its_error(samples: np.ndarray, shift: float) -> None:
    before, after = locate(samples), locate(samples + shift)
    assert float(after.estimate) == pytest.approx(float(before.estimate) + shift, abs=1e-9)
    assert float(after.error) == pytest.approx(float(before.error), abs=1e-7)


@given(series, st.floats(0.1, 10.0))
def test_the_location_scales_with_the_samples(samples: np.ndarray, factor: float) -> None:
    before, after = locate(samples), locate(samples * factor)
    assert float(after.estimate) == pytest.approx(float(before.estimate) * factor, abs=1e-8)
    assert float(after.error) == pytest.approx(float(before.error) * factor, rel=1e-5, abs=1e-7)


@given(series, st.randoms(use_true_random=False))
def test_which_block_came_first_does_not_matter_to_the_location(samples: np.ndarray, random: object) -> None:
    forwards, backwards = list(samples[0::2]), list(samples[1::2])
    random.shuffle(forwards)  # type: ignore[attr-defined]
    random.shuffle(backwards)  # type: ignore[attr-defined]
    shuffled = np.empty_like(samples)
    shuffled[0::2], shuffled[1::2] = forwards, backwards
    assert float(locate(shuffled).estimate) == pytest.approx(float(locate(samples).estimate), abs=1e-12)


@given(seconds, st.floats(-0.05, 0.05))
def test_reversing_blocks_cancel_linear_drift(times: list[float], drift: float) -> None:
    """Rounds 0, 1, 2, ... run A B, B A, ...; each takes exp(drift) times as long as the one before."""
    blocks = len(times) - len(times) % 2
    generator = np.random.default_rng(blocks)
    reference, candidate = np.exp(generator.normal(0, 0.02, (2, blocks)))
    index = np.arange(blocks)
    place_reference = np.where(index % 2 == 0, 2 * index, 2 * index + 1)
    place_candidate = np.where(index % 2 == 0, 2 * index + 1, 2 * index)
    steady = np.log(reference / candidate)
    drifting = steady + drift * (place_reference - place_candidate)
    assert drifting.mean() == pytest.approx(steady.mean(), abs=1e-12)
    before, after = locate(steady), locate(drifting)
    assert float(after.estimate) == pytest.approx(float(before.estimate), abs=1e-12)
    assert float(after.error) == pytest.approx(float(before.error), abs=1e-12)
    assert float(after.order_effect) == pytest.approx(float(before.order_effect) - drift, abs=1e-12)


@pytest.mark.parametrize("count", [6, 10, 16, 24, 40])
def test_trimmed_mean_agrees_with_scipy(count: int) -> None:
    samples = np.random.default_rng(count).standard_t(3, count)
    assert float(trimmed_mean(samples, TRIM)) == pytest.approx(stats.trim_mean(samples, TRIM), rel=1e-12)


@pytest.mark.parametrize("count", [10, 16, 24, 40])
def test_the_error_is_the_trimmed_standard_error_of_scipy_on_one_degree_of_freedom_less(count: int) -> None:
    generator = np.random.default_rng(count)
    samples = generator.standard_t(3, count)
    location = locate(samples)
    residual = without_order_effect(samples)[0]
    cut = int(TRIM * count)
    kept = count - 2 * cut
    oracle = float(stats.mstats.trimmed_stde(residual, limits=(cut / count, cut / count), inclusive=(True, True)))
    memory = max(float(location.autocorrelation), 0.0)
    lost = (count - 1) * kept / (count * (kept - 2))
    assert float(location.error) == pytest.approx(oracle * np.sqrt(lost * (1 + memory) / (1 - memory)), rel=1e-9)
    assert location.df == kept - 2


def test_without_trimming_it_is_least_squares_with_a_column_for_the_order() -> None:
    samples = np.random.default_rng(4).normal(0.3, 0.02, 8)
    design = np.column_stack([np.ones(8), np.where(np.arange(8) % 2 == 0, 1.0, -1.0)])
    weights, residual, *_ = np.linalg.lstsq(design, samples, rcond=None)
    location = locate(samples, trim=0.0)
    memory = max(float(location.autocorrelation), 0.0)
    error = np.sqrt(residual[0] / 6 / 8 * (1 + memory) / (1 - memory))
    assert float(location.estimate) == pytest.approx(weights[0], abs=1e-12)
    assert float(location.order_effect) == pytest.approx(weights[1], abs=1e-12)
    assert float(location.error) == pytest.approx(error, rel=1e-9)


def test_one_wild_block_hardly_moves_the_location() -> None:
    samples = np.random.default_rng(1).normal(0.0, 0.01, 40)
    wild = samples.copy()
    wild[7] = 3.0
    moved = abs(float(locate(wild).estimate) - float(locate(samples).estimate))
    assert moved < 0.01
    assert abs(wild.mean() - samples.mean()) > 0.05


def test_known_correlation_widens_and_never_narrows() -> None:
    samples = np.random.default_rng(2).normal(0.0, 0.01, 10)
    plain, told = locate(samples), locate(samples, correlation=0.6)
    assert float(told.error) == pytest.approx(
        float(locate(samples, correlation=0.0).error) * np.sqrt(4.0 / _widening(float(plain.autocorrelation))), rel=1e-9
    )
    assert float(locate(samples, correlation=-0.5).error) == float(plain.error)


def _widening(memory: float) -> float:
    memory = max(memory, 0.0)
    return (1 + memory) / (1 - memory)


def test_lag_one_agrees_with_a_plain_loop_and_is_zero_without_variation() -> None:
    samples = np.random.default_rng(3).normal(size=15)
    centred = samples - samples.mean()
    loop = sum(centred[i] * centred[i + 1] for i in range(14)) / sum(value**2 for value in centred)
    assert float(lag_one(samples)) == pytest.approx(loop, rel=1e-12)
    assert float(lag_one(np.full(9, 0.5))) == 0.0


def test_many_series_at_once_are_each_series_alone() -> None:
    samples = np.random.default_rng(5).normal(0, 0.03, (7, 24))
    together = locate(samples)
    for row, estimate, error in zip(samples, together.estimate, together.error, strict=True):
        alone = locate(row)
        assert float(alone.estimate) == pytest.approx(float(estimate), abs=1e-15)
        assert float(alone.error) == pytest.approx(float(error), rel=1e-12)


def test_three_blocks_have_no_location() -> None:
    with pytest.raises(ValueError, match="at least 4 blocks, got 3"):
        locate([0.1, 0.2, 0.3])


#: As an arena of four runs two of them.
BALANCED = np.array([1, -1, -1, 1, -1, 1, 1, -1, -1, 1, 1, -1])


def test_the_order_effect_is_that_of_the_recorded_order_not_of_every_other_block() -> None:
    """By the parity of the block an effect of 4 % was taken for noise, and a hundredth of it taken out."""
    noise = np.random.default_rng(6).normal(0.1, 0.003, 12)
    series = noise + 0.04 * BALANCED
    there, known, blind = locate(noise, order=BALANCED), locate(series, order=BALANCED), locate(series)
    assert float(known.order_effect) == pytest.approx(0.04 + float(there.order_effect), abs=1e-12)
    assert float(known.estimate) == pytest.approx(float(there.estimate), abs=1e-12)
    assert float(known.error) == pytest.approx(float(there.error), rel=1e-9)
    assert float(blind.error) > 5 * float(known.error)


@given(series)
def test_blocks_without_an_order_alternate_and_which_one_is_plus_does_not_matter(
    samples: np.ndarray,
) -> None:
    turns = np.where(np.arange(len(samples)) % 2 == 0, 1, -1)
    old, told, turned = locate(samples), locate(samples, order=turns), locate(samples, order=-turns)
    for name in ("estimate", "error", "autocorrelation"):
        assert float(getattr(old, name)) == float(getattr(told, name)) == float(getattr(turned, name))
    assert float(old.order_effect) == float(told.order_effect) == -float(turned.order_effect)


def test_one_order_alone_tells_of_no_effect() -> None:
    samples = np.random.default_rng(7).normal(0.3, 0.02, 10)
    location = locate(samples, order=np.ones(10))
    assert float(location.order_effect) == 0.0
    assert float(location.estimate) == pytest.approx(float(trimmed_mean(samples, TRIM)), abs=1e-15)
    assert location.df == locate(samples).df, "its degree of freedom is charged all the same"


def test_a_rare_order_widens_the_error_as_in_least_squares() -> None:
    samples = np.random.default_rng(8).normal(0.3, 0.02, 6)
    order = np.array([1.0, 1.0, -1.0, 1.0, 1.0, -1.0])
    design = np.column_stack([np.ones(6), order])
    weights, residual, *_ = np.linalg.lstsq(design, samples, rcond=None)
    location = locate(samples, trim=0.0, order=order)
    memory = max(float(location.autocorrelation), 0.0)
    error = np.sqrt(residual[0] / 4 * np.linalg.inv(design.T @ design)[0, 0] * (1 + memory) / (1 - memory))
    assert float(location.estimate) == pytest.approx(weights[0], abs=1e-12)
    assert float(location.order_effect) == pytest.approx(weights[1], abs=1e-12)
    assert float(location.error) == pytest.approx(error, rel=1e-9)


def test_series_of_different_orders_at_once_are_each_alone() -> None:
    generator = np.random.default_rng(9)
    samples = generator.normal(0, 0.03, (6, 10))
    order = np.array([[1, -1] * 5, [1] * 10, [1] * 7 + [-1] * 3, [-1, 1] * 5, [-1] * 10, [1, 1, -1] * 3 + [1]])
    together = locate(samples, order=order)
    for row in range(6):
        alone = locate(samples[row], order=order[row])
        for name in ("estimate", "error", "order_effect"):
            assert float(getattr(alone, name)) == pytest.approx(float(getattr(together, name)[row]), rel=1e-12)


@pytest.mark.parametrize("order", [[1, -1, 1], [1, -1, 1, -1, 0], [1, -1, 1, -1, float("nan")]])
def test_an_order_that_is_none_is_refused(order: list[float]) -> None:
    with pytest.raises(ValueError, match="order of 5 blocks"):
        locate(np.zeros(5), order=np.array(order))
