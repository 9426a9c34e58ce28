"""The files of one model are checked before anything is built of them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import CapabilityError, ModelError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines import registry
from enginegate.engines.base import Backend
from enginegate.engines.requests import eos_token_ids
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


def files(place: Workspace, *others: str, tested: tuple[str, ...] = (), **quality: object) -> ModelFiles:
    """Of a configuration that lists ``hf`` and other backends."""
    reference = {"backend": "hf", "precision": "fp32"}
    config = place.variant(
        "toy",
        default_engine="hf",
        engines={"hf": {"precisions": ["fp32"]}, **{name: {"precisions": ["int8_wo"]} for name in others}},
        reference=reference,
        quality={**CONFIG["quality"], "reference": reference, **quality},  # type: ignore[dict-item]
        floors={},
    )
    return ModelFiles(load_config(config), place.folder / "cache", print, tested)


def test_a_tokenizer_that_does_not_belong_to_the_model_stops_every_build(place: Workspace) -> None:
    (place.folder / "checkpoint" / "tokenizer.json").unlink()
    for _ in range(2):
        with pytest.raises(ModelError, match="no tokenizer"):
            _ = files(place).checkpoint


def test_a_model_is_looked_at_once_whether_it_can_be_used_or_not(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def refuse(source: str, **_: object) -> None:
        looked.append(source)
        raise ModelError("its digest is another one")

    monkeypatch.setattr("enginegate.session.files.resolve", refuse)
    made = files(place)
    for _ in range(2):
        with pytest.raises(ModelError, match="its digest is another one"):
            _ = made.checkpoint
        with pytest.raises(ModelError, match="its digest is another one"):
            _ = made.tokenizer
    assert len(looked) == 1


def test_a_listed_backend_that_cannot_be_imported_stops_nobody_else(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = files(place, "fake")
    load = registry.load_backend

    def broken(name: str) -> Backend:
        if name == "fake":
            raise CapabilityError("backend fake cannot be imported")
        return load(name)

    monkeypatch.setattr("enginegate.session.files.load_backend", broken)
    assert made.checkpoint.path == place.folder / "checkpoint"
    with pytest.raises(CapabilityError, match="cannot be imported"):
        made.build(EngineSpec("toy", "fake", "fp32"))


@pytest.mark.parametrize(
    ("tested", "refused"), [((), False), (("vllm",), False), (("hf",), True), (("hf", "vllm"), False)]
)
def test_weights_that_are_quantized_pass_where_a_tested_backend_takes_them(
    place: Workspace, tested: tuple[str, ...], refused: bool
) -> None:
    file = place.folder / "checkpoint" / "config.json"
    quantized = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **quantized}))
    made = files(place, "vllm", tested=tested)
    with pytest.raises(ModelError, match="quantized") if refused else nullcontext():
        _ = made.checkpoint


@pytest.mark.parametrize("generation", [None, {"eos_token_id": None, "max_length": 9}, {"eos_token_id": -1}])
def test_an_engine_ends_where_the_tokenizer_alone_says_so(place: Workspace, generation: object) -> None:
    """Engines read no tokenizer: without a word to them they would answer on and on."""
    folder = place.folder / "checkpoint"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    own = folder / "generation_config.json"
    own.unlink(missing_ok=True)
    if generation is not None:
        own.write_text(json.dumps(generation))
    before = own.read_bytes() if own.exists() else None
    made = files(place)
    assert made.tokenizer.eos_ids == (2,)
    engine = made.build(EngineSpec("toy", "hf", "fp32")).path
    assert eos_token_ids(engine) == {2}
    assert (own.read_bytes() if own.exists() else None) == before, "the checkpoint is somebody else's"
    told = json.loads((engine / "generation_config.json").read_text())
    assert told == {**(generation or {}), "eos_token_id": [2]}  # type: ignore[dict-item]


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
        entry = measure_quality(metric, engine, made.tokenizer, made.config)[metric]
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
