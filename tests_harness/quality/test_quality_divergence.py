"""KL divergence against its definition over whole vocabularies, and against llama.cpp's formulas, written out."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from enginegate.core.errors import CapabilityError, MeasurementError
from enginegate.engines.base import Distribution
from enginegate.engines.distributions import from_numpy
from enginegate.quality.data import Passage
from enginegate.quality.divergence import (
    COLUMNS,
    Distributions,
    compare,
    evaluate_divergence,
    reference_distributions,
    summarize,
)
from enginegate.quality.perplexity import Prose, evaluate_perplexity
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_fakes import FakeEngine, WordTokenizer

VOCABULARY = 61


def of(logits: np.ndarray, came: np.ndarray, cells: object) -> Distribution:
    found = from_numpy(logits[None].astype(np.float32), came[None], cells if isinstance(cells, int) else cells[None])
    return Distribution(**{name: values[0] for name, values in vars(found).items()})


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float32).astype(np.float64)
    return wide - np.log(np.exp(wide).sum(1, keepdims=True))


def two(seed: int, positions: int = 40, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(positions, VOCABULARY)) * 3
    return p, p + noise * rng.normal(size=p.shape), rng.integers(0, VOCABULARY, positions)


def definition(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    mine, theirs = log_softmax(p), log_softmax(q)
    return np.asarray((np.exp(mine) * (mine - theirs)).sum(1))


def test_over_the_whole_vocabulary_it_is_the_definition() -> None:
    p, q, came = two(1)
    reference = of(p, came, VOCABULARY)
    found = compare(reference, of(q, came, reference.ids))
    np.testing.assert_allclose(found.kld, definition(p, q), atol=1e-6)
    assert found.named == pytest.approx(np.ones(40))


@given(st.integers(0, 10_000), st.integers(1, VOCABULARY), st.floats(0.0, 4.0))
@settings(max_examples=40, deadline=None)
def test_cells_give_a_lower_bound_that_is_never_negative(seed: int, cells: int, noise: float) -> None:
    p, q, came = two(seed, 8, noise)
    reference = of(p, came, cells)
    bound = compare(reference, of(q, came, reference.ids)).kld
    whole = definition(p, q)
    assert (bound <= whole + 1e-6).all()
    assert (bound >= -1e-6).all()


def test_an_engine_that_names_its_own_tokens_is_compared_over_those_that_both_name() -> None:
    """As vLLM does: a lower bound below the one over all of the reference's cells."""
    p, q, came = two(3, noise=1.0)
    reference = of(p, came, 12)
    asked, own = compare(reference, of(q, came, reference.ids)), compare(reference, of(q, came, 12))
    whole = definition(p, q)
    assert (own.kld <= asked.kld + 1e-6).all()
    assert (asked.kld <= whole + 1e-6).all()
    assert own.kld.sum() > 0.5 * asked.kld.sum()
    assert (own.named <= asked.named + 1e-9).all()
    padded = of(q, came, np.column_stack([of(q, came, 12).ids, np.full(40, -1)]))
    np.testing.assert_allclose(compare(reference, padded).kld, own.kld, atol=1e-6)


def test_an_engine_is_no_distance_from_itself_in_whatever_order_it_names_its_tokens() -> None:
    p, _, came = two(4)
    reference = of(p, came, 12)
    again = of(p, came, reference.ids[:, ::-1])
    found = compare(reference, again)
    assert np.abs(found.kld).max() < 1e-6
    assert (found.same_top == 1).all()
    assert (found.delta_p == 0).all()


def test_figures_are_those_of_llama_cpp_from_the_same_logits() -> None:
    """Its tool's sums, written out one position and one token at a time, with its quantiles over positions."""
    documents = [two(seed, 30) for seed in range(6)]
    compared, kld, same, changes = [], [], 0, []
    for p, q, came in documents:
        reference = of(p, came, VOCABULARY)
        compared.append(compare(reference, of(q, came, reference.ids)))
        base, ours = log_softmax(p), log_softmax(q)
        for position, token in enumerate(came):
            kld.append(sum(math.exp(a) * (a - b) for a, b in zip(base[position], ours[position], strict=True)))
            same += int(base[position].argmax() == ours[position].argmax())
            changes.append(math.exp(ours[position][token]) - math.exp(base[position][token]))
    scores, count = summarize(compared), len(kld)
    ordered, moved = sorted(kld), sorted(changes)

    def percentile(values: Sequence[float], share: float) -> float:
        place = share * (len(values) - 1)
        low = int(place)
        return (1 - (place - low)) * values[low] + (place - low) * values[min(low + 1, len(values) - 1)]

    assert scores["kld"] == pytest.approx(sum(kld) / count, abs=1e-6)
    assert scores["kld_max"] == pytest.approx(ordered[-1], abs=1e-5)
    assert scores["kld_min"] == pytest.approx(ordered[0], abs=1e-6)
    for share in (99.9, 99, 95, 90, 50, 10, 5, 1, 0.1):
        assert scores[f"kld_{share:g}"] == pytest.approx(percentile(ordered, share / 100), abs=1e-5)
        assert scores[f"delta_p_{share:g}"] == pytest.approx(percentile(moved, share / 100), abs=1e-5)
    assert scores["same_top_p"] == pytest.approx(same / count)
    assert scores["delta_p"] == pytest.approx(sum(changes) / count, abs=1e-6)
    assert scores["delta_p_rms"] == pytest.approx(math.sqrt(sum(each**2 for each in changes) / count), abs=1e-6)
    assert scores["tokens"] == count
    assert scores["documents"] == 6


class Expecting(FakeEngine):
    """An engine with logits of its own at each position of a text."""

    def __init__(self, seed: int, noise: float = 0.0) -> None:
        super().__init__()
        self.seed, self.noise, self.asked = seed, noise, 0

    def _logits(self, sequence: Sequence[int]) -> np.ndarray:
        rows = []
        for place in range(1, len(sequence)):
            before = np.random.default_rng([1, *sequence[:place]]).normal(size=200) * 3
            rows.append(before + self.noise * np.random.default_rng([self.seed, *sequence[:place]]).normal(size=200))
        return np.array(rows)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        return [tuple(each.scores.tolist()) for each in self.distributions(sequences, cells=1, prefill=prefill)]

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: object, prefill: int | None = None
    ) -> list[Distribution]:
        self.asked += 1
        return [
            of(self._logits(each), np.array(each[1:]) % 200, cells if isinstance(cells, int) else cells[number])  # type: ignore[index]
            for number, each in enumerate(sequences)
        ]


PASSAGES = [Passage(id=f"p{n}", topic="t", text=" ".join("abcdefghij"[n : n + 6])) for n in range(4)]


def measured(noise: float, prefix: Sequence[int] = (), floor: float | None = None) -> dict[str, object]:
    tokenizer = WordTokenizer()
    prose = Prose.of(tokenizer, PASSAGES, 2, prefix)
    reference = Distributions.of("ref", 16, reference_distributions(Expecting(0), tokenizer, prose, 16)).items()
    return dict(
        evaluate_divergence(Expecting(5, noise), tokenizer, prose, reference, reference_id="ref", cells=16, floor=floor)
    )


def test_one_pass_gives_divergence_and_perplexity() -> None:
    found = measured(0.5, floor=0.001)
    alone = evaluate_perplexity(Expecting(5, 0.5), WordTokenizer(), PASSAGES, 2)
    assert found["perplexity"] == alone
    entry = found["divergence"]
    assert entry.columns == list(COLUMNS)  # type: ignore[attr-defined]
    assert entry.scores["kld"] > 0.01  # type: ignore[attr-defined]
    assert entry.scores["floor"] == 0.001  # type: ignore[attr-defined]
    assert ";cells=16;" in entry.version  # type: ignore[attr-defined]
    assert ";reference=ref;" in entry.version  # type: ignore[attr-defined]
    assert "floor" not in measured(0.0)["divergence"].scores  # type: ignore[attr-defined]


def test_what_was_kept_of_the_reference_is_no_distance_from_it() -> None:
    assert abs(measured(0.0)["divergence"].scores["kld"]) < 1e-6  # type: ignore[attr-defined]


def test_positions_that_predict_the_prefix_do_not_count() -> None:
    with_prefix = measured(0.5, prefix=(150, 151))
    assert with_prefix["divergence"].scores["tokens"] == with_prefix["perplexity"].scores["tokens"]  # type: ignore[attr-defined]


def test_a_reference_without_a_passage_and_a_damaged_file_are_refused() -> None:
    tokenizer = WordTokenizer()
    prose = Prose.of(tokenizer, PASSAGES, 2)
    kept = reference_distributions(Expecting(0), tokenizer, prose, 8)
    few = dict(list(kept.items())[1:])
    with pytest.raises(MeasurementError, match=r"no distributions of 1 of 4 passages, such as 'p[0-3]'"):
        evaluate_divergence(Expecting(5), tokenizer, prose, few, reference_id="ref", cells=8)
    whole = Distributions.of("ref", 8, kept)
    for arrays in ("", "AAAA", whole.arrays[: len(whole.arrays) // 2]):
        with pytest.raises(MeasurementError, match="kept distributions of ref cannot be read"):
            whole.model_copy(update={"arrays": arrays}).items()
    short = {key: Distribution(**{n: v[:-1] for n, v in vars(each).items()}) for key, each in kept.items()}
    with pytest.raises(MeasurementError, match="positions"):
        evaluate_divergence(Expecting(5), tokenizer, prose, short, reference_id="ref", cells=8)


def test_an_engine_that_excludes_a_token_is_far_but_not_infinitely() -> None:
    p, q, came = two(9)
    q[:, 7] = -np.inf
    reference = of(p, came, VOCABULARY)
    found = compare(reference, of(q, came, reference.ids))
    assert np.isfinite(found.kld).all()
    assert found.kld.max() > 1.0


def test_a_backend_without_distributions_is_a_lack_not_a_failure() -> None:
    from enginegate.engines.answers import CheckedEngine

    prose = Prose.of(WordTokenizer(), PASSAGES, 2)
    with pytest.raises(CapabilityError):
        reference_distributions(CheckedEngine(FakeEngine()), WordTokenizer(), prose, 8)
