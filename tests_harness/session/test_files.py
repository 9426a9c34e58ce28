"""The files of one model are checked before anything is built of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import ModelError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.machine.fingerprint import fingerprint
from enginegate.quality.measure import measure_quality
from enginegate.session.bench import ModelBench
from enginegate.session.files import ModelFiles
from enginegate.storage.baselines import same_method

from tests_harness.fakes.workspace import CONFIG, Workspace, make_workspace
from tests_harness.quality.quality_fakes import FakeEngine


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


def files(place: Workspace, **quality: object) -> ModelFiles:
    reference = {"backend": "hf", "precision": "fp32"}
    config = place.variant(
        "toy",
        default_engine="hf",
        engines={"hf": {"precisions": ["fp32"]}},
        reference=reference,
        quality={**CONFIG["quality"], "reference": reference, **quality},  # type: ignore[dict-item]
        floors={},
    )
    return ModelFiles(load_config(config), place.folder / "cache", print)


def test_a_tokenizer_that_does_not_belong_to_the_model_stops_every_build(place: Workspace) -> None:
    (place.folder / "checkpoint" / "tokenizer.json").unlink()
    for _ in range(2):
        with pytest.raises(ModelError, match="no tokenizer"):
            _ = files(place).checkpoint


def test_plain_prompts_begin_with_bos_where_scored_texts_do(place: Workspace) -> None:
    opened = files(place, plain_prompts=True, add_bos=True).tokenizer
    assert opened.chat("a") == [1, *opened.encode("a")]
    bare = files(place, plain_prompts=True).tokenizer
    assert bare.chat("a") == bare.encode("a")
    chat = files(place, add_bos=True).tokenizer
    assert chat.opening == (), "the template writes its own"


@pytest.mark.parametrize("metric", ["determinism", "summaries"])
def test_answers_to_prompts_that_begin_otherwise_are_another_measurement(place: Workspace, metric: str) -> None:
    """Results of before, without the BOS, are no baseline for those with it; all others go on being one."""
    versions = []
    for quality in ({}, {"plain_prompts": True}, {"plain_prompts": True, "add_bos": True}):
        made = files(place, **quality)
        engine = FakeEngine(max_input_len=256, max_output_len=32, max_batch_size=4)
        entry = measure_quality(metric, engine, made.tokenizer, made.config, {})
        versions.append(entry.version)
        assert {prompt[0] == 1 for batch in engine.generated for prompt in batch} == {len(quality) == 2}
    assert versions[0] == versions[1]
    assert ";opening=" not in versions[0]
    assert ";opening=" in versions[2]
    assert not same_method(versions[0], versions[2])
    assert same_method(versions[2], versions[2].replace("items=", "items=f"))


def test_a_model_that_cannot_chat_is_asked_nothing(place: Workspace) -> None:
    file = place.folder / "checkpoint" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": None}))
    bench = ModelBench.of(files(place).config, fingerprint(), place.folder / "cache", print)
    with pytest.raises(ModelError, match="no chat_template"):
        bench.quality_of(EngineSpec("toy", "hf", "fp32"), RuntimeSpec(), "similarity")
    assert not (place.folder / "cache" / "engines").exists(), "nothing was built"
