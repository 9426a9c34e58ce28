"""From logits to cells: the same in numpy and in torch, and right where the named tokens hold nearly everything."""

import numpy as np
import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.engines.answers import CheckedEngine, checked_distributions, distributions
from enginegate.engines.base import Distribution
from enginegate.engines.distributions import from_numpy, joined
from enginegate.engines.process.values import decode, encode

RNG = np.random.default_rng(7)
LOGITS = (RNG.normal(size=(2, 5, 97)) * 4).astype(np.float32)
CAME = RNG.integers(0, 97, (2, 5))


def exact(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


@pytest.mark.parametrize("cells", [1, 8, 96, 97, 500])
def test_cells_are_the_likeliest_and_the_rest_is_what_they_leave(cells: int) -> None:
    found, whole = from_numpy(LOGITS, CAME, cells), exact(LOGITS)
    count = min(cells, 97)
    assert found.ids.shape == found.values.shape == (2, 5, count)
    np.testing.assert_allclose(found.values, np.take_along_axis(whole, found.ids.astype(int), -1), atol=1e-6)
    assert (np.sort(found.values, -1) == np.sort(np.sort(found.values, -1), -1)).all()
    np.testing.assert_allclose(np.sort(found.values, -1), np.sort(whole, -1)[..., -count:], atol=1e-6)
    np.testing.assert_allclose(np.exp(found.values).sum(-1) + np.exp(found.rest), 1.0, atol=1e-6)
    np.testing.assert_allclose(found.scores, np.take_along_axis(whole, CAME[..., None], -1)[..., 0], atol=1e-6)
    assert (found.likeliest == LOGITS.argmax(-1)).all()
    if count == 97:
        assert np.isneginf(found.rest).all()


def test_cells_that_were_asked_for_are_those_and_unused_ones_count_with_the_rest() -> None:
    cells = np.array([[[3, 5, -1]] * 5, [[96, 0, 1]] * 5])
    found, whole = from_numpy(LOGITS, CAME, cells), exact(LOGITS)
    assert (found.ids == cells).all()
    assert np.isneginf(found.values[0, :, 2]).all()
    np.testing.assert_allclose(found.values[0, :, :2], whole[0][:, [3, 5]], atol=1e-6)
    np.testing.assert_allclose(np.exp(found.rest[0]), 1.0 - np.exp(whole[0][:, [3, 5]]).sum(-1), atol=1e-6)


def test_a_rest_far_below_rounding_is_still_right() -> None:
    logits = np.zeros((1, 1, 1000), np.float32)
    logits[0, 0, 0] = 25.0
    rest = from_numpy(logits, np.zeros((1, 1), np.int64), 1).rest[0, 0]
    assert rest == pytest.approx(np.log(999) - 25.0, abs=1e-6)


def test_torch_gives_what_numpy_gives() -> None:
    torch = pytest.importorskip("torch")
    from enginegate.engines.distributions import from_torch

    for cells in (8, np.array([[[3, 5, -1]] * 5, [[96, 0, 1]] * 5])):
        ours, theirs = from_numpy(LOGITS, CAME, cells), from_torch(torch, torch.from_numpy(LOGITS), CAME, cells)
        order, other = (np.argsort(each.ids, -1) for each in (ours, theirs))
        for name in ("ids", "values"):
            one, two = (
                np.take_along_axis(getattr(each, name), places, -1) for each, places in ((ours, order), (theirs, other))
            )
            np.testing.assert_allclose(one, two, atol=1e-6)
        for name in ("scores", "rest", "likeliest"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6)


def one() -> Distribution:
    found = from_numpy(LOGITS[:1], CAME[:1], 8)
    return Distribution(**{name: values[0] for name, values in vars(found).items()})


SEQUENCE = [4, *CAME[0].tolist()]


def test_a_distribution_crosses_to_another_process_and_back() -> None:
    back = decode(*encode([one()]))[0]
    assert all((getattr(back, name) == value).all() for name, value in vars(one()).items())
    with pytest.raises(TypeError, match="array of object"):
        encode(np.array(["a", None], object))


def test_parts_are_joined_along_the_positions() -> None:
    assert joined([one(), one()], axis=0).ids.shape == (10, 8)


def changed(**fields: np.ndarray) -> Distribution:
    return Distribution(**{**vars(one()), **fields})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("nothing of the kind", "something else"),
        ([], "other shapes"),
        ([changed(scores=one().scores[:-1])], "other shapes"),
        ([changed(rest=one().rest[:-1])], "other shapes"),
        ([changed(values=one().values[:, :-1])], "other shapes"),
        ([changed(values=one().values + 1.0)], "log-probability of|add up"),
        ([changed(rest=one().rest + 2.0)], "log-probability of|add up"),
        ([changed(scores=one().scores * np.nan)], "log-probability of"),
        ([changed(scores=-one().scores)], "log-probability of"),
        ([changed(ids=one().ids * 0 + 3)], "twice"),
        ([changed(ids=one().ids + 90)], "none of the model's 0 to 96"),
    ],
)
def test_what_is_no_distribution_is_refused(found: object, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        checked_distributions("an engine", found, [SEQUENCE], 97)


def test_a_cell_that_contradicts_the_score_is_refused() -> None:
    """Such as of an engine whose scores are one position off."""
    shifted = from_numpy(LOGITS[:1], CAME[:1], CAME[:1, :, None])
    row = Distribution(**{name: values[0] for name, values in vars(shifted).items()})
    assert checked_distributions("an engine", [row], [SEQUENCE], 97)
    wrong = Distribution(**{**vars(row), "scores": np.roll(row.scores, 1)})
    with pytest.raises(EngineError, match="as a cell than as its score"):
        checked_distributions("an engine", [wrong], [SEQUENCE], 97)


def test_an_engine_without_distributions_says_so() -> None:
    class Plain:
        class spec:  # noqa: N801
            backend, id = "plain", "toy-plain-fp32"

        runtime = None

    with pytest.raises(CapabilityError, match="backend plain gives log-probabilities of given tokens only"):
        distributions(Plain(), [[1, 2]], cells=4, prefill=None)  # type: ignore[arg-type]
    with pytest.raises(CapabilityError):
        CheckedEngine(Plain()).distributions([[1, 2]], cells=4)  # type: ignore[arg-type]
