"""Every file in configs/ loads, fits its model, and says nothing that nobody measured."""

from __future__ import annotations

import re

import pytest
from docs_text import REPOSITORY
from enginegate.config.data_section import DATA_KEYS
from enginegate.config.loading import find_config, load_config
from enginegate.config.project import DEFAULT_MODEL
from enginegate.config.schema import FULL_PRECISION
from enginegate.core.errors import ConfigError
from enginegate.models.randomized import GEOMETRIES
from enginegate.models.source_syntax import PathSource, read_data_source

FILES = sorted((REPOSITORY / "configs").glob("*.yaml"))
#: Files whose floors were measured.
MEASURED = {"smollm2-135m", "tinyllama-1.1b-random"}
#: The batch sizes of the published tables that these models come from.
TABLES = {"distilgpt2": [16], "gpt2": [16], "phi-2": [16], "llama-2-7b": [16], "tinyllama-1.1b": [1]}


def sizes(config: dict[str, object]) -> list[int]:
    """Rows of the linear layers of a geometry; GPT-2's inner size is four times its width where it is not given."""
    if "n_embd" in config:
        width = int(str(config["n_embd"]))
        return [width, int(str(config.get("n_inner") or 4 * width))]
    return [int(str(config[name])) for name in ("hidden_size", "intermediate_size")]


def test_the_models_asked_for_are_there():
    assert {file.stem for file in FILES} >= {
        *TABLES,
        *MEASURED,
        "llama-3.1-8b",
        "tiny-random",
        "qwen2.5-0.5b",
        "qwen2.5-1.5b",
    }


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def config(request):
    return load_config(request.param)


@pytest.fixture
def geometry(config):
    return GEOMETRIES[config.name.removesuffix("-random").removesuffix("-mmlu")]


def test_the_file_name_begins_with_the_model_s(config):
    """``--model NAME`` finds NAME.yaml; a variant for another backend adds a word after an underscore."""
    assert config.path.stem.split("_")[0] in (config.name, config.name.split("-")[0])


def test_groups_divide_the_model(config, geometry):
    for section in config.file.engines.values():
        group = section.quantization.group_size
        assert group is None or [size % group for size in sizes(geometry.config)] == [0, 0]


def test_limits_fit_the_model_and_the_work(config, geometry):
    limits = config.file.limits
    assert limits.max_input_len + limits.max_output_len <= geometry.context_length
    assert max(config.file.workload.batch_sizes) <= limits.max_batch_size
    assert limits.max_batch_size >= 2, "determinism compares batch sizes"
    assert limits.max_output_len >= max(config.file.quality.similarity_tokens, config.file.quality.summary_tokens)


def test_data_files_exist(config):
    calibration = [section.quantization.calibration for section in config.file.engines.values()]
    sources = [read_data_source(config.data(key).source) for key in DATA_KEYS]
    for name in (*(source.folder for source in sources if isinstance(source, PathSource)), *calibration):
        assert config.resolve(name).exists(), name


def test_sources_are_pinned(config):
    kind, _, rest = config.file.model.source.partition(":")
    if kind == "hub":
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", rest)
    elif kind == "pypi":
        assert re.fullmatch(r"[0-9a-f]{64}", config.file.model.sha256)
    else:
        assert kind == "random"
        assert "seed=" in rest


def test_fetched_data_are_pinned(config):
    for section in map(config.data, DATA_KEYS):
        assert section.source.startswith("..") or re.fullmatch(r"[0-9a-f]{64}", section.sha256), section.source


def test_floors_only_where_they_were_measured(config):
    assert config.name in MEASURED or not config.file.floors


@pytest.mark.parametrize("engine", ["openvino", "vllm"])
def test_the_default_model_has_a_floor_for_every_speed_verdict(engine):
    """Of what is selected where nothing is named; a machine's half precision is one of two."""
    config = load_config(find_config(DEFAULT_MODEL))
    sizes = {f"b{size}" for size in config.file.workload.batch_sizes}
    wanted = [
        half
        for name in config.file.engines[engine].precisions
        for half in (("bf16", "fp16") if name == FULL_PRECISION else (name,))
    ]
    for precision in wanted:
        floors = config.file.floors[engine][precision]
        assert floors.speedup.keys() == floors.ttft.keys() == floors.itl.keys() == sizes, precision


@pytest.mark.parametrize(("model", "batch_sizes"), sorted(TABLES.items()))
def test_batch_sizes_are_those_of_the_published_tables(model, batch_sizes):
    assert load_config(REPOSITORY / "configs" / f"{model}.yaml").file.workload.batch_sizes == batch_sizes


def test_random_sources_in_comments_name_geometries():
    named = [name for file in FILES for name in re.findall(r"random:([\w.-]+)\?seed", file.read_text(encoding="utf-8"))]
    assert set(named) >= set(GEOMETRIES) - {"smollm2-135m"}
    assert set(named) <= set(GEOMETRIES)


def test_commands_in_comments_select_and_leave_out_what_they_say():
    """The -k of the files for models without a chat template leaves every other quality test in."""
    tests = [
        f"{file.stem}::{name}"
        for file in (REPOSITORY / "tests_quality").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    chat = ("similarity", "summaries", "determinism")
    for file in FILES:
        for expression in re.findall(r'-k "(.+?)"', file.read_text(encoding="utf-8")):
            words = re.fullmatch(r"not (\w+) and not (\w+) and not (\w+)", expression)
            assert words is not None
            left = {test for test in tests if not any(word in test for word in words.groups())}
            asking = {
                test
                for test in tests
                if re.search(
                    rf'quality\("({"|".join(chat)})"\)',
                    (REPOSITORY / "tests_quality" / f"{test.split('::')[0]}.py").read_text(encoding="utf-8"),
                )
            }
            assert left == set(tests) - asking


def test_the_suites_own_data_are_found_from_a_file_anywhere(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "schema: 1\nmodel: {name: mine, source: 'random:tiny?seed=0'}\n"
        "default_engine: hf\nengines: {hf: {precisions: [fp32]}}\n"
    )
    quality = load_config(file).file.quality
    for name in (quality.prompts, quality.articles, quality.passages, quality.questions):
        assert load_config(file).resolve(name).is_file()
    assert load_config(file).resolve("prompts.jsonl") == tmp_path / "prompts.jsonl"


def test_a_file_that_is_no_utf8_is_an_error(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"# M\xfcnchen\nschema: 1\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "latin.yaml")
