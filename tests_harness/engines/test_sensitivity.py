"""The script that breaks engines: its damage is what it says, and where there is none nothing changes."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from enginegate.core.specs import SamplingParams
from enginegate.testing import prompts

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[2] / "scripts" / "sensitivity"
BOS = 1


def load(name: str):
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


damage = load("damage")


@pytest.fixture(scope="module")
def engine(workshop):
    found = workshop.load("hf", "fp32")
    yield found
    found.close()


def test_rounding_keeps_so_many_values_a_group():
    weight = torch.randn(6, 64)
    for bits, group in ((2, 16), (4, 32), (8, None), (4, 1024)):
        rounded = damage.rounded(weight, bits, group)
        size = 64 if group is None or group > 64 else group
        for part in rounded.reshape(-1, size):
            assert len(part.unique()) <= 2**bits
        assert torch.abs(rounded - weight).max() <= torch.abs(weight).max() / (2 ** (bits - 1) - 1)
    assert (
        torch.abs(damage.rounded(weight, 8, 16) - weight).max()
        < torch.abs(damage.rounded(weight, 4, 16) - weight).max()
    )


def test_only_the_blocks_that_are_named_change(workshop):
    engine = workshop.load("hf", "fp32")
    before = {name: layer.weight.clone() for name, layer in damage.linear_layers(engine._model)}
    damage.ruin_block(engine._model, block=1)
    changed = {
        name for name, layer in damage.linear_layers(engine._model) if not torch.equal(layer.weight, before[name])
    }
    assert changed == {name for name in before if ".layers.1." in name}
    assert changed
    engine.close()


def test_a_window_longer_than_every_text_changes_nothing(engine):
    whole = damage.Truncated(engine)
    whole.kept = 100
    texts = prompts(3, 30)
    assert whole.score(texts, prefill=8) == engine.score(texts, prefill=8)
    asked, own = (each.distributions(texts, cells=4, prefill=8) for each in (whole, engine))
    assert all((a.ids == b.ids).all() for a, b in zip(asked, own, strict=True))
    assert (
        whole.generate(texts, SamplingParams(3))[0].token_ids == engine.generate(texts, SamplingParams(3))[0].token_ids
    )


def test_a_short_window_reads_each_token_after_what_it_still_sees(engine):
    cut = damage.Truncated(engine)
    cut.kept = 8
    (text,) = prompts(1, 30)
    (scores,) = cut.score([text])
    assert len(scores) == 29
    np.testing.assert_allclose(scores[:8], engine.score([text])[0][:8], atol=1e-5)
    place = 20  # the window from 16 on is the first that holds it after 12 to 20
    np.testing.assert_allclose(scores[place - 1], engine.score([text[12 : place + 1]])[0][-1], atol=1e-5)
    cells = [np.tile(np.arange(4, dtype=np.int32), (29, 1))]
    (found,) = cut.distributions([text], cells=cells)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    assert found.ids.shape == (29, 4)


@pytest.mark.parametrize("doubled", [True, False])
def test_bos_is_dropped_or_doubled_and_nothing_else_moves(engine, doubled):
    begun, plain = [BOS, *prompts(1, 20)[0]], prompts(1, 20, 5)[0]
    plain[0] = 7
    wrapped = damage.Begun(engine, BOS, doubled)
    first, second = wrapped.score([begun, plain])
    np.testing.assert_allclose(second, engine.score([plain])[0], atol=1e-5)
    expected = engine.score([[BOS, *begun]])[0][1:] if doubled else (-10.0, *engine.score([begun[1:]])[0])
    np.testing.assert_allclose(first, expected, atol=1e-5)
    cells = [np.tile(np.arange(4, dtype=np.int32), (len(each) - 1, 1)) for each in (begun, plain)]
    for given in (4, cells):
        found = wrapped.distributions([begun, plain], cells=given)
        assert [each.ids.shape for each in found] == [(20, 4), (19, 4)]
        np.testing.assert_allclose(found[0].scores, first, atol=1e-5)


def test_answers_are_drawn_or_stuck_while_scores_stay(engine):
    texts, params = prompts(2, 12), SamplingParams(12)
    stuck = damage.Stuck(engine).generate(texts, params)
    assert all(len(set(answer.token_ids)) == 1 and len(answer.token_ids) == 12 for answer in stuck)
    warm = damage.Warm(engine).generate(texts, params)
    assert [len(answer.token_ids) for answer in warm] == [12, 12]
    assert warm[0].token_ids != engine.generate(texts, params)[0].token_ids
    assert damage.Warm(engine).score(texts) == engine.score(texts)


def test_every_case_names_one_that_it_is_compared_with():
    measure = load("measure")
    names = [case.name for case in measure.CASES]
    assert len(set(names)) == len(names)
    for place, case in enumerate(measure.CASES):
        assert not case.accepted or case.accepted in names[:place]
    assert sum(case.name.startswith("bf16 in batches") for case in measure.CASES) == 10
