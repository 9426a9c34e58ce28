"""A configuration is checked whole when it is read: everything that is wrong is said at once, each with its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from enginegate.cli import main
from enginegate.config.loading import load_config
from enginegate.config.model_fit import check_positions, config_of, positions_of
from enginegate.config.schema import GatesSection
from enginegate.core.errors import ConfigError
from enginegate.core.spelling import did_you_mean
from enginegate.engines.options import RuntimeOptions
from pydantic import Field

SOUND: dict[str, Any] = {
    "schema": 1,
    "model": {"name": "m", "source": "random:tiny"},
    "default_engine": "openvino",
    "engines": {"openvino": {"precisions": ["int8_wo"]}},
}


def problems(folder: Path, **sections: Any) -> list[str]:
    """The lines of what is wrong with a sound configuration after changes."""
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump({**SOUND, **sections}, sort_keys=False), encoding="utf-8")
    try:
        load_config(path)
    except ConfigError as error:
        return [line.strip() for line in error.problem.splitlines()[1:]]
    return []


def test_faults_of_every_kind_are_said_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        default_engine="hf",
        workload={"batch_sizes": [True]},
        gates={"alpha": 0.9, "sped": {}},
        reference={"backend": "hff"},
        quality={"reference": {"precision": "int8_wo"}},
        floors={"openvino": {"int8": {"bleu": 200}, "int8_wo@kv8": {"speedup": {"b2": 1}}}},
    )
    for key in (
        "default_engine 'hf' is not under engines",
        "workload.batch_sizes.0: true",
        "gates.alpha: Input should be less than 0.5, not 0.9",
        "gates.sped: unknown key; did you mean 'speed'?",
        "reference.backend: unknown backend 'hff'",
        "quality.reference.precision: backend hf has no precision 'int8_wo'",
        "floors.openvino.int8: unknown precision 'int8'",
        "floors.openvino.int8.bleu: Input should be less than or equal to 100",
        "floors.openvino.int8_wo@kv8: there is no variant 'kv8'",
        "floors.openvino.int8_wo@kv8.speedup.b2: is not tested",
    ):
        assert [line for line in found if line.startswith(key)], key
    assert len(found) == 10


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "M"}, "model.name: 'M' cannot be a name"),
        ({"name": "m\n"}, "model.name: 'm\\n' cannot be a name"),
        ({"name": "x" * 101}, "model.name: 'xxx"),
        ({"name": 5}, "model.name: 5 is not text"),
        ({"sha256": "abc"}, "model.sha256: 'abc' is no SHA-256"),
        ({"source": ""}, "model.source: "),
        ({"\ud800": 1}, "model.\\ud800: "),
    ],
)
def test_what_cannot_be_a_name_is_said(tmp_path: Path, model: dict[str, Any], said: str) -> None:
    found = problems(tmp_path, model={**SOUND["model"], **model})
    assert [line for line in found if line.startswith(said)]
    assert "\n".join(found).encode()


def test_many_problems_are_counted(tmp_path: Path) -> None:
    found = problems(tmp_path, **{f"key{number}": 1 for number in range(100)})
    assert (len(found), found[-1]) == (41, "and 60 more")


def test_faults_of_the_text_are_said_with_an_option_that_a_dialect_refuses(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("schema: 1\nschema: 2\nquantization: {mode: int9}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "schema: is given twice" in caught.value.problem
    assert "quantization.mode 'int9' is not known" in caught.value.problem


@pytest.mark.parametrize("option", ["engine: {use_inflight_batching: 'no'}", "optimization: {use_int8_kv_cache: 1}"])
def test_a_switch_of_a_dialect_is_true_or_false(tmp_path: Path, option: str) -> None:
    """Text in quotes was true."""
    path = tmp_path / "m.yaml"
    path.write_text(f"schema: 1\nmodel: {{name: m, source: x}}\n{option}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is neither true nor false"):
        load_config(path)


@pytest.mark.parametrize(
    "floors", [{"hf": {"fp32": {"bleu": 90}}}, {"openvino": {"bf16": {"speedup": {"b1": 1, "b8": 1.5}}}}]
)
def test_floors_of_what_an_option_may_choose_are_sound(tmp_path: Path, floors: dict[str, Any]) -> None:
    assert problems(tmp_path, floors=floors) == []


def test_defaults_of_the_quality_tests_do_not_limit_who_tests_speed_alone(tmp_path: Path) -> None:
    short = {"limits": {"max_output_len": 16}, "workload": {"output_len": 16}}
    assert problems(tmp_path, **short) == []
    found = problems(tmp_path, quality={"similarity_tokens": 48}, **short)
    assert found == [
        "quality.similarity_tokens: 48 tokens are over limits.max_output_len 16: raise the limit, or ask for fewer"
    ]


def test_calibration_of_a_variant_is_looked_for_too(tmp_path: Path) -> None:
    variants = {"mine": {"quantization": {"calibration": "mine.jsonl"}}}
    engines = {"openvino": {"precisions": ["int8_wo"], "variants": variants}}
    key = "engines.openvino.variants.mine.quantization.calibration"
    assert [line.partition(":")[0] for line in problems(tmp_path, engines=engines)] == [key]
    (tmp_path / "mine.jsonl").write_text("", encoding="utf-8")
    assert problems(tmp_path, engines=engines) == []


@pytest.mark.parametrize("name", ["x" * 5000, "circle"])
def test_paths_that_no_file_can_have_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    found = problems(tmp_path, quality={"prompts": name})
    assert len(found) == 1
    assert found[0].startswith("quality.prompts: ")


def test_a_checkpoint_on_disk_must_have_the_positions(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    config = {"max_position_embeddings": 100}
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = {"name": "m", "source": "path:checkpoint"}
    assert problems(tmp_path, model=model) == [
        f"{keys}: {length} tokens are over the 100 positions that model m has: shorten them"
        for keys, length in (
            ("workload.input_len + workload.output_len", 128),
            ("limits.max_input_len + limits.max_output_len", 1280),
        )
    ]
    short = {"limits": {"max_input_len": 60, "max_output_len": 40}, "workload": {"input_len": 60, "output_len": 40}}
    assert problems(tmp_path, model=model, **short) == []


def test_a_gguf_file_is_a_source_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, model={"name": "m", "source": "path:models/small.gguf"}) == []
    config = load_config(tmp_path / "m.yaml")
    with pytest.raises(ConfigError, match=r"no checkpoint at .*models/small\.gguf: there is no such file"):
        config.check_source()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.gguf").write_bytes(b"GGUF")
    config.check_source()  # what it holds is looked at when it is converted
    (tmp_path / "models" / "text.txt").write_text("no model")
    assert problems(tmp_path, model={"name": "m", "source": "path:models/text.txt"}) == []
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_config(tmp_path / "m.yaml").check_source()


def test_a_checkpoint_that_was_fetched_is_checked_before_an_engine_is_built(tmp_path: Path) -> None:
    assert problems(tmp_path, model={"name": "m", "source": "hub:org/name@main"}) == []
    file = load_config(tmp_path / "m.yaml").file
    (tmp_path / "config.json").write_text(json.dumps({"n_positions": 1024}), encoding="utf-8")
    with pytest.raises(ConfigError, match="1280 tokens are over the 1024 positions"):
        check_positions(file, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"n_positions": 1280}), encoding="utf-8")
    check_positions(file, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"n_positions": true}', '{"n_positions": "9"}', "[" * 100_000])
def test_a_config_that_says_nothing_of_positions_is_left_to_who_resolves_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert positions_of(config_of(tmp_path)) is None
    assert config_of(tmp_path / "nowhere") == {}


def test_positions_of_a_model_within_a_model(tmp_path: Path) -> None:
    config = {"text_config": {"max_position_embeddings": 4096}, "max_position_embeddings": 7}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert positions_of(config_of(tmp_path)) == 4096


@pytest.mark.parametrize("backend", ["openvino", "vllm"])
def test_groups_that_do_not_divide_the_models_layers_are_refused(tmp_path: Path, backend: str) -> None:
    """It was said when the engine was built, after the reference had been."""
    quantization, variants = {"group_size": 128}, {"fine": {"quantization": {"group_size": 16}}}
    section = {"precisions": ["int8_wo", "int4_awq", "int4_awq@fine"], "quantization": quantization}
    engines = {backend: {**section, "variants": variants}}
    found = problems(tmp_path, engines=engines, default_engine=backend)
    assert len(found) == 1
    assert found[0].startswith(f"engines.{backend}.precisions.1: m-{backend}-int4_awq: groups of 128 weights do not")
    assert "hidden_size 64, intermediate_size 176" in found[0]
    fetched = {"model": {"name": "m", "source": "hub:org/name@main"}, "default_engine": backend}
    assert problems(tmp_path, engines=engines, **fetched) == []


def test_init_writes_limits_that_the_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first configuration of GPT-2 asked for 1,280 of its 1,024 positions."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--model", "random:gpt2", "--engine", "openvino"]) == 0
    limits = load_config(tmp_path / "configs" / "gpt2-random.yaml").file.limits
    assert limits.max_input_len + limits.max_output_len == 1024


class _Strict(RuntimeOptions):
    count: int = 0
    path: Annotated[Path | None, Field(strict=False)] = None


def test_a_backends_own_numbers_are_read_strictly_too() -> None:
    assert _Strict.model_validate({"count": 2, "path": "a/b"}).path == Path("a/b")
    with pytest.raises(ValueError, match="valid integer"):
        _Strict.model_validate({"count": True})


def test_a_stored_gate_section_is_read_as_it_was() -> None:
    stored = json.loads(json.dumps(GatesSection().model_dump()))
    assert GatesSection.model_validate(stored) == GatesSection()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("openvno", "openvino"), ("OpenVINO", "openvino"), ("int8", "int8_wo"), ("qqq", ""), ("", ""), ("x" * 10**6, "")],
    ids=lambda value: value[:9],
)
def test_a_close_name_is_suggested(name: str, meant: str) -> None:
    said = did_you_mean(name, ["openvino", "hf", "int8_wo", "int4_wo"])
    assert said == (f"; did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        ({"data": "/d"}, "'data' is no whole path"),
        ({"/data": "d"}, "'d' is no whole path: say where /data lies"),
        ({"/data": "~/d"}, "'~/d' is no whole path"),
        ({"/a": "/d", "/b": "/d"}, "'/d' is given twice"),
    ],
)
def test_paths_of_a_container_are_whole_and_no_two_folders_lie_in_one_place(
    tmp_path: Path, paths: dict[str, str], says: str
) -> None:
    assert any(says in line and "base.paths" in line for line in problems(tmp_path, base={"paths": paths}))
    assert not problems(tmp_path, base={"paths": {"~/.cache/enginegate": "/cache", "/data": "/"}})
