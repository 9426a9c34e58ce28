"""Variants: several engines of one backend and precision, each with a name of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.plan.selection import select

VARIANTS = {"g32": {"quantization": {"group_size": 32}}, "kv8": {"runtime": {"kv_precision": "int8"}}}


def config_file(folder: Path, precisions: list[str], variants: dict[str, Any], **more: Any) -> Path:
    content = {
        "schema": 1,
        "model": {"name": "tiny", "source": "random:tiny"},
        "default_engine": "openvino",
        "engines": {"openvino": {"precisions": precisions, "variants": variants}},
        **more,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_variant_differs_in_what_it_names_and_in_nothing_else(tmp_path: Path) -> None:
    path = config_file(tmp_path, ["fp32", "int8_wo", "int8_wo@g32", "int8_wo@kv8"], VARIANTS)
    found = {candidate.id: candidate for candidate in select(configs=[path]).candidates}
    names = ["tiny-openvino-fp32", *(f"tiny-openvino-int8_wo{end}" for end in ("", "@g32", "@kv8"))]
    assert list(found) == names
    plain, finer, quantized = (found[name] for name in names[1:])
    assert (plain.spec.quantization.group_size, finer.spec.quantization.group_size) == (64, 32)
    assert plain.runtime == finer.runtime
    assert (plain.runtime.kv_precision, quantized.runtime.kv_precision) == ("auto", "int8")
    assert quantized.spec.quantization == plain.spec.quantization


def test_an_engine_over_two_devices_is_not_the_reference(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, ["fp32"], {}, limits={"tensor_parallel": 2}))
    assert config.spec("hf", "fp32").id == "tiny-hf-fp32@tp2"
    reference = config.reference_spec("hf", "fp32")
    assert (reference.id, reference.tensor_parallel) == ("tiny-hf-fp32", 1)


def test_the_name_that_tables_show_can_be_asked_for(tmp_path: Path) -> None:
    path = config_file(tmp_path, ["fp32"], {}, limits={"tensor_parallel": 2})
    for asked in (["fp32"], ["fp32@tp2"], ["fp32", "fp32@tp2"]):
        found = [candidate.id for candidate in select(configs=[path], engines=["hf"], precisions=asked).candidates]
        assert found == ["tiny-hf-fp32@tp2"]


@pytest.mark.parametrize(
    ("precisions", "variants", "problem"),
    [
        (["int8_wo@g16"], VARIANTS, "there is no variant 'g16' under variants; known: g32, kv8"),
        (["int8_wo@g16"], {}, "there is no variant 'g16' under variants; known: none"),
        (["int9@g32"], VARIANTS, "unknown precision 'int9'"),
        (["int8_wo"], {"base": {}}, "the name 'base' is kept for the engine that a run is compared with"),
        (["int8_wo"], {"a b": {}}, "engines.openvino.variants.a b"),
        (["int8_wo"], {"x": {"quantization": {"group": 3}}}, "variants.x: group: Extra inputs"),
        (["int8_wo"], {"x": {"runtime": {"kv_precision": "int3"}}}, "variants.x: kv_precision: Input should be"),
        (["int8_wo"], {"x": {"tensor_parallel": 0}}, "variants.x.tensor_parallel"),
        (["int8_wo"], {"x": {"threads": 2}}, "variants.x.threads: unknown key"),
        (["int8_wo"], {"tp2": {"runtime": {"kv_precision": "int8"}}}, "the name 'tp2' says tensor_parallel: 2"),
        (["int8_wo@"], VARIANTS, "'int8_wo@' names no variant behind @"),
    ],
)
def test_what_cannot_be_a_variant_is_named(tmp_path: Path, precisions: list[str], variants: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file(tmp_path, precisions, variants))
    assert problem in caught.value.problem


def test_a_variant_has_floors_of_its_own(tmp_path: Path) -> None:
    floors = {"openvino": {"int8_wo": {"bleu": 40}, "int8_wo@g32": {"bleu": 60}}}
    config = load_config(config_file(tmp_path, ["int8_wo"], VARIANTS, floors=floors))
    found = [config.floors(config.spec("openvino", "int8_wo", variant)).bleu for variant in ("", "g32", "kv8")]
    assert found == [40, 60, None]
