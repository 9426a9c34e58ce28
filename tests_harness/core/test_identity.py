"""Which engine, and which build of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from enginegate.core.identity import EngineRef, runtime_digest
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.manifest import engine_key
from enginegate.engines.trtllm.options import BuiltSpec, TensorRtRuntime
from enginegate.models.checkpoint import Checkpoint

SPEC = EngineSpec("smollm2-135m", "openvino", "int8_wo")
CHECKPOINT = Checkpoint(Path("/nowhere"), "d" * 64, "path:/nowhere", random_weights=False)


def test_the_id_is_short_and_has_the_variant_only_where_there_is_one():
    assert SPEC.id == "smollm2-135m-openvino-int8_wo"
    assert replace(SPEC, variant="base").id == "smollm2-135m-openvino-int8_wo@base"
    assert EngineRef.of(replace(SPEC, variant="tp2"), RuntimeSpec()).id == "smollm2-135m-openvino-int8_wo@tp2"


def test_settings_at_their_default_change_no_digest():
    """So a setting that is added later leaves every stored digest as it is."""
    assert runtime_digest(RuntimeSpec()) == runtime_digest({}) == runtime_digest(asdict(RuntimeSpec()))
    assert runtime_digest(TensorRtRuntime()) == runtime_digest({})


@pytest.mark.parametrize("change", [{"kv_precision": "int8"}, {"threads": 2}, {"speculation": "ngram"}])
def test_settings_that_differ_make_another_engine(change):
    changed = RuntimeSpec(**change)
    assert runtime_digest(changed) == runtime_digest(asdict(changed)) != runtime_digest({})
    one, other = EngineRef.of(SPEC, RuntimeSpec(), "k1"), EngineRef.of(SPEC, changed, "k1")
    assert not one.same_engine(other)


def test_two_builds_of_one_engine_are_one_engine():
    one, other = EngineRef.of(SPEC, RuntimeSpec(), "k1"), EngineRef.of(SPEC, RuntimeSpec(), "k2")
    assert one.same_engine(other)
    assert one != other
    assert not one.same_engine(EngineRef.of(replace(SPEC, variant="base"), RuntimeSpec(), "k1"))


@pytest.mark.parametrize("spec", [SPEC, BuiltSpec(**vars(SPEC))])
def test_a_variant_names_an_engine_and_builds_nothing(spec):
    """Twins of one build share its files; and the keys of engines that lie in caches stay what they were."""
    key = engine_key(spec, CHECKPOINT, spec.backend, "openvino 1")
    assert engine_key(replace(spec, variant="base"), CHECKPOINT, spec.backend, "openvino 1") == key


def test_keys_are_those_of_engines_that_lie_in_caches():
    key = engine_key(SPEC, CHECKPOINT, "openvino", "openvino 1")
    assert key == "74db072e420c87bdd6c43e8de970feffc272fcec054a2e2558d061030f5a836e"
